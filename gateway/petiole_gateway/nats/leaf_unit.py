"""The leaf server as a service of its own (`petiole gateway leaf`), as a gateway sees it that did not start it.

Both have the same settings, the same user and the same data directory, so there is one store, whoever runs the server.
Who starts it again is the service manager; this only ends it, when it gives no sign or has given up on the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..supervision import Supervisor
from .errors import KeyFileError, LeafStartError
from .leaf_pidfile import stale_server
from .leaf_server import START_TIMEOUT_S
from .leaf_watchdog import PATIENCE_S
from .watched_leaf import WatchedLeaf, answers, is_healthy

# As often as the link is looked at; one loopback request of about 1 ms each time.
POLL_S = 1.0
# The longest that a server which is being started again shows nothing new (START_TIMEOUT_S, and 10 s to end), with 35 s
# for a slow card: as patient as the gateway's own watchdog.
HANG_S = 90.0
NAME = "petiole-leaf.service"


class LeafUnit(WatchedLeaf):
    """What LeafServer is to its gateway, without the process. `start` returns when the server is healthy."""

    def __init__(
        self,
        data_dir: Path,
        *,
        hub_urls: Sequence[str] = (),
        watchdog_patience_s: float = PATIENCE_S,
        hang_s: float = HANG_S,
        start_timeout_s: float = START_TIMEOUT_S,
        on_link: Callable[[bool], None] = lambda up: None,
        on_restart: Callable[[], None] = lambda: None,
        on_hang: Callable[[], None] = lambda: None,
        supervisor: Supervisor | None = None,
    ) -> None:
        super().__init__(
            data_dir,
            hub_urls=hub_urls,
            on_link=on_link,
            watchdog_patience_s=watchdog_patience_s,
            supervisor=supervisor,
        )
        self._hang_s, self._start_timeout_s = hang_s, start_timeout_s
        self._on_restart, self._on_hang = on_restart, on_hang
        self._url = ""  # where it was when we began

    @property
    def pid(self) -> int | None:
        """Of the running server, None while there is none."""
        return stale_server(self.data_dir)

    @property
    def has_moved(self) -> bool:
        """It has come back on other ports, because somebody had taken one of its own: its clients do not find it."""
        try:
            return bool(self._url) and self.access.url != self._url
        except KeyFileError:
            return False

    async def start(self) -> None:
        """Wait until it is healthy. LeafStartError if it is not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout_s
        while not await self._is_ready():
            if loop.time() > deadline:
                raise LeafStartError(
                    f"{NAME} was not healthy within {self._start_timeout_s:g} s",
                    [f"`systemctl start {NAME}`, and `journalctl -u {NAME} -n 30` tells more"],
                )
            await asyncio.sleep(POLL_S / 4)
        self._url = self.access.url
        self._tasks.append(self._supervisor.keep("the leaf server's service", self._look, is_vital=True))
        self._watch(self._monitor_port)

    async def stop(self) -> None:
        """Look no more; the server runs on."""
        await self._end_tasks()

    async def restart(self) -> None:
        """End it gracefully; its service manager starts it again."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def _monitor_port(self) -> int:
        return urlsplit(self.access.monitor_url).port or 0

    async def _answers(self) -> bool:
        try:
            return await answers(self._monitor_port, urlsplit(self.access.url).port or 0)
        except KeyFileError:  # it has never run
            return False

    async def _is_ready(self) -> bool:
        return await self._answers() and await is_healthy(self._monitor_port)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        seen_at = loop.time()
        known = self.pid
        while True:
            await asyncio.sleep(POLL_S)
            if await self._answers():
                seen_at = loop.time()
            pid = self.pid
            if pid is not None and pid != known:
                self.restarts_total += 1 if known is not None else 0
                known = pid
                seen_at = loop.time()
                self._on_restart()
            elif pid is not None and loop.time() - seen_at > self._hang_s:
                self._on_hang()
                self._end(signal.SIGKILL)
                seen_at = loop.time()
