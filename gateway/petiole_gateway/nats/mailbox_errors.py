"""What can go wrong between a sender and a mailbox.

LocalError
└── UnknownSiteError     nobody keeps mail for this site
LinkError
├── MailboxFullError     the device has as many items waiting as its box takes
├── SiteAwayError        the way to the box is cut, and it cannot be queued here
├── NoLeaderError        the servers of the hub that are there cannot keep anything
└── UnconfirmedError     a server took it, and could not say that it is kept
"""

from __future__ import annotations

from .errors import FULL_ERR_CODES, ApiError, LinkError, LocalError


class UnknownSiteError(LocalError):
    """The hub has no stream for this site, or this leaf may not send to it."""

    def __init__(self, site: str, where: str) -> None:
        super().__init__(f"no mailbox for site {site} at {where}")
        self.site = site
        self.where = where
        self.hint = f"check the name of the site; `petiole hub site DIR {site}` creates it on the hub"


class MailboxFullError(LinkError):
    """Nothing was queued."""

    def __init__(self, site: str, device: str, what: str) -> None:
        super().__init__(f"the mailbox of {device} at {site} is full: {what}")
        self.site = site
        self.device = device
        self.hint = "wait until the device has fetched some, cancel some, or send with a key so that new replaces old"


class NoLeaderError(LinkError):
    """Nothing was queued: the site's stream at the hub has no leader."""

    def __init__(self, site: str) -> None:
        super().__init__(f"the hub keeps no mail for site {site} now: its stream has no leader")
        self.site = site
        self.hint = "two of three hub servers must run and reach each other: `petiole status` names those that are away"


class UnconfirmedError(LinkError):
    """A server has it, perhaps without the majority that makes it kept: it may be queued, now or later."""

    def __init__(self, site: str, device: str) -> None:
        super().__init__(f"the hub has not confirmed what was sent to {device} at {site}: it may be queued")
        self.site = site
        self.device = device
        self.hint = (
            f"when two of three hub servers run and reach each other `petiole mailbox {device}` shows whether it is"
        )


class SiteAwayError(LinkError):
    """Nothing was queued: an item for another site needs the hub."""

    def __init__(self, site: str) -> None:
        super().__init__(f"the hub cannot be reached, and items for {site} are kept there")
        self.site = site
        self.hint = "try again when the link to the hub is up"


def is_full(error: LinkError) -> bool:
    """The server refused for want of room."""
    return isinstance(error, ApiError) and (error.err_code in FULL_ERR_CODES or "maximum" in error.description)
