"""Names on NATS: the one place that builds and checks subjects.

`<purpose>.<site>.<device>.<rest>`; a token is 1 to 32 characters of `[A-Za-z0-9_-]`, which is legal in subjects,
KV keys, consumer names and MQTT topics alike.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .errors import ConfigError

UPLINK_STREAM = "UP"
HUB_CONSUMER = "hub"  # the pre-created consumer on each leaf through which the hub sources UP
HUB_DOMAIN = "hub"
LEAF_MAIL_STREAM = "OUT"  # of the leaf: what local programs send to the site's devices
DOCUMENT_STREAM = "KV_mailbox"  # the bucket of what became of items, on the hub and on each leaf
PRESENCE_BUCKET = "presence"  # which devices are there, on the hub and on each leaf
SEQUENCE_HEADER = "Petiole-Sequence"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,32}")


def is_token(text: str) -> bool:
    """True if `text` may be one token of a subject."""
    return _TOKEN.fullmatch(text) is not None


def checked_token(setting: str, text: str) -> str:
    """`text`, or ConfigError naming `setting`."""
    if not is_token(text):
        raise ConfigError(setting, text, "must be 1 to 32 characters of A-Z a-z 0-9 _ -")
    return text


@lru_cache(maxsize=4096)  # a site has few channels and many readings
def uplink_subject(site: str, device: str, channel: str) -> str:
    """`up.<site>.<device>.<channel>`; ConfigError for a bad token."""
    return f"up.{checked_token('site', site)}.{checked_token('device', device)}.{checked_token('channel', channel)}"


@lru_cache(maxsize=4096)
def is_uplink_subject(subject: str, site: str, device: str) -> bool:
    """True if `subject` is `up.<site>.<device>.<rest>` in tokens."""
    parts = subject.split(".")
    return parts[:3] == ["up", site, device] and len(parts) > 3 and all(map(is_token, parts))


def uplink_filter(site: str, device: str | None = None) -> str:
    """All uplinks of a site, or of one of its devices."""
    return f"up.{site}.>" if device is None else f"up.{site}.{device}.>"


def gap_subject(site: str) -> str:
    """Where burnt sequence numbers go: in the leaf's stream UP, never sent to the hub."""
    return f"local.{site}.gap"


def probe_subject(site: str) -> str:
    """Empty messages by which the hub notices that a leaf's stream is not the one it knew; consumers of the hub's
    stream may see a few. No device can have this name: a device's subjects have four tokens."""
    return f"up.{site}._probe"


def delivery_subject(site: str) -> str:
    """Where the leaf's consumer `hub` sends uplinks; only the hub's source listens there."""
    return f"dlv.{site}.{UPLINK_STREAM}"


def domain_api(domain: str | None) -> str:
    """Prefix of the JetStream API: of the server one is connected to, or of a domain."""
    return "$JS.API" if domain is None else f"$JS.{domain}.API"


def mail_stream(site: str) -> str:
    """The hub's stream of what is sent to the devices of one site."""
    return f"DOWN_{checked_token('site', site)}"


def mail_filter(purpose: str, site: str, device: str | None = None) -> str:
    """All mail of a site or of a device; `purpose` is down (the hub's stream) or out (the leaf's)."""
    return f"{purpose}.{checked_token('site', site)}." + (
        ">" if device is None else f"{checked_token('device', device)}.>"
    )


def hub_notice_subject(site: str) -> str:
    """Where the hub announces what has come for a site, with the item in it."""
    return f"in.{checked_token('site', site)}.mail"


def leaf_notice_subject(site: str) -> str:
    """The same for what local programs send; never leaves the leaf."""
    return f"local.mail.{checked_token('site', site)}"


def document_subject(site: str, rest: str) -> str:
    """A document of the bucket `mailbox`; `rest` is `<device>.<id>` or a wildcard."""
    return bucket_subject("mailbox", site, rest)


def bucket_stream(bucket: str) -> str:
    """The stream of a KV bucket."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, site: str, rest: str) -> str:
    """A document of a site in a bucket; `rest` may be a wildcard."""
    return f"$KV.{bucket}.{checked_token('site', site)}.{rest}"


def presence_subject(site: str, device: str) -> str:
    """A document of the bucket `presence`; `device` may be a wildcard."""
    return bucket_subject(PRESENCE_BUCKET, site, device)


def event_subject(site: str, device: str, topic: str) -> str:
    """What happens to a device, for whoever listens."""
    return f"event.{checked_token('site', site)}.{checked_token('device', device)}.{topic}"


def site_inbox(site: str) -> str:
    """Prefix of inboxes of programs on a site's leaf: only there does the hub answer them, so that no leaf can read
    answers to others."""
    return f"_INBOX.{checked_token('site', site)}"
