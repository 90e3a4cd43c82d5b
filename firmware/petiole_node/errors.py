"""Errors that an application may see, beside those of the core.

petiole.errors.LocalError
└── SettingsError   a value in the settings
petiole.errors.PetioleError
└── RequestError    a request that brought no result
"""

from petiole.errors import LocalError, PetioleError


class SettingsError(LocalError):
    """`what` is the key, such as `links[0].baud`; `why` says what is wrong and what is meant."""


class RequestError(PetioleError):
    """`status` as in PROTOCOL.md, section 10 (404 nobody answers, 408 timed out, 503 outcome unknown); `text`."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(str(status) + " " + text)
        self.status = status
        self.text = text


class BadArguments(PetioleError):
    """A command was called with arguments that it does not take; the text says which."""


def describe(error: BaseException) -> str:
    """What an error says, or its name."""
    return str(error) or type(error).__name__
