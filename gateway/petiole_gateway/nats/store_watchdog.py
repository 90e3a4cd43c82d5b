"""Watches whether the leaf server can write its streams, and starts it again when only that is missing.

A stream that could not be written once, on a full disk for example, takes nothing more until its server is started
again, whatever room there is by then (nats-server 2.15). Whoever publishes to it hears nothing; the server's own health
page says it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from .monitor import fetch_json

# As often as nodes that were told that the store is busy try again.
POLL_S = 5.0
# Less free would be full again in a moment: a block of a stream's file has up to 8 MB, and there are a few streams.
ROOM = 16 * 1024 * 1024
# With room a restart is the cure of a disk that was full, not of one that fails for another reason: each one after
# which it could not write for long doubles the patience, up to this.
MAX_PATIENCE_S = 600.0
_MARK = "write error"


class StoreWatchdog:
    """`problem`: what the server cannot write and why, "" while it can. Calls `restart` when there is room."""

    def __init__(
        self, monitor_port: int, store_dir: Path, *, restart: Callable[[], Awaitable[None]], poll_s: float = POLL_S
    ) -> None:
        self.problem = ""
        self.restarts_total = 0
        self._monitor_port = monitor_port
        self._store_dir = store_dir
        self._restart = restart
        self._poll_s = self._patience_s = poll_s

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        changed_at = loop.time()
        while True:
            await asyncio.sleep(self._poll_s)
            problem = await self._find()
            if bool(problem) != bool(self.problem):
                changed_at = loop.time()
            self.problem = problem
            lasts_s = loop.time() - changed_at
            if not problem and lasts_s > self._patience_s:
                self._patience_s = self._poll_s
            elif problem and lasts_s >= self._patience_s and self._has_room():
                self.restarts_total += 1
                self._patience_s = min(self._patience_s * 2, MAX_PATIENCE_S)
                await self._restart()
                changed_at = loop.time()

    async def _find(self) -> str:
        """The server's answer; a server that gives none has other problems."""
        try:
            page = await fetch_json("127.0.0.1", self._monitor_port, "/healthz?details=1")
        except (OSError, TimeoutError, ValueError):
            return ""
        for each in page.get("errors") or []:
            text = str(each.get("error", ""))
            if _MARK in text:
                return f"{each.get('stream', 'a stream')}: {text.rpartition(': ')[2]}"
        return ""

    def _has_room(self) -> bool:
        try:
            return shutil.disk_usage(self._store_dir).free >= ROOM
        except OSError:
            return False
