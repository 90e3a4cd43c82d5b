"""What nodes say, for those who ask a little later, and for those who look on."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from .ports import Logger

KEPT = 1000  # lines of all nodes: some 200 kB
MAX_TEXT = 400  # of a line; a traceback's are shorter


class NodeLog:
    """`publish` gets each line as a document while it is set."""

    def __init__(self, logger: Logger, now: Callable[[], str]) -> None:
        self._logger = logger
        self._now = now
        self._lines: collections.deque[dict[str, Any]] = collections.deque(maxlen=KEPT)
        self.publish: Callable[[dict[str, Any]], None] | None = None

    def say(self, device: str | None, text: str, level: str = "info", link: str | None = None) -> None:
        """A line: of a record, or (`link`) of a console, where the device may not be known yet."""
        fields = {"device": device, "text": text[:MAX_TEXT]} | ({"link": link} if link is not None else {})
        getattr(self._logger, level)("node_log", **fields)
        line = {"at": self._now(), "level": level, **fields}
        self._lines.append(line)
        if self.publish is not None:
            self.publish(line)

    def lines(self, device: str | None) -> list[dict[str, Any]]:
        """The last ones, of one device or of all; the oldest first."""
        return [line for line in self._lines if device is None or line["device"] == device]
