"""What is stored and cannot be read: damage, or the word of another version. It is passed over, and never silently."""

from __future__ import annotations

from .ports import Logger

# A store with more than that damaged is no better described by a longer log.
MAX_LOGGED = 100


# Kinds of documents, and the event of each in the log.
EVENTS = {
    "devices": "device_unreadable",
    "sessions": "session_unreadable",
    "wake": "wake_policy_unreadable",
    "mail": "mail_record_unreadable",
}


class Unreadable:
    """Counts by kind of document."""

    def __init__(self, logger: Logger) -> None:
        self.total: dict[str, int] = {}
        self._logger = logger

    def count(self, kind: str, name: str, reason: str) -> None:
        """A document of this kind is passed over."""
        self.total[kind] = total = self.total.get(kind, 0) + 1
        if total <= MAX_LOGGED:
            self._logger.error(EVENTS[kind], name=name[:100], reason=reason[:300])
