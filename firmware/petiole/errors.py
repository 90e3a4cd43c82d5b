"""Errors of the core, split by blame. A peer's fault is never an exception: it is a counted drop.

PetioleError
├── LocalError      the caller used the interface wrongly
│   └── QueueFull   the caller is faster than the link
└── MalformedRecord inside the core only: a plaintext that does not parse
"""


class PetioleError(Exception):
    """Base of every error that petiole raises."""


class LocalError(PetioleError):
    """The caller's mistake. `what` names the argument or call, `why` says what is meant."""

    def __init__(self, what: str, why: str):
        super().__init__(what + ": " + why)
        self.what = what
        self.why = why


class QueueFull(LocalError):
    """A bounded queue has no room; nothing was taken. Try again after progress."""


class MalformedRecord(PetioleError):
    """A plaintext that does not follow PROTOCOL.md, section 7. `reason` is the drop reason."""

    def __init__(self, reason: str = "malformed_record"):
        super().__init__(reason)
        self.reason = reason
