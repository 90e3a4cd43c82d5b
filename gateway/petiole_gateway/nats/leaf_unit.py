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
from typing import Any
from urllib.parse import urlsplit

import structlog

from ..supervision import Supervisor
from .errors import KeyFileError, LeafStartError
from .leaf_access import LeafAccess, read_access
from .leaf_pidfile import stale_server
from .leaf_server import START_TIMEOUT_S
from .leaf_watchdog import PATIENCE_S, LinkWatchdog
from .monitor import fetch_json
from .store_watchdog import StoreWatchdog

# As often as the link is looked at; one loopback request of about 1 ms each time.
POLL_S = 1.0
# The longest that a server which is being started again shows nothing new (START_TIMEOUT_S, and 10 s to end), with 35 s
# for a slow card: as patient as the gateway's own watchdog.
HANG_S = 90.0
NAME = "petiole-leaf.service"


class LeafUnit:
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
        self.data_dir = data_dir
        self.hub_urls = tuple(hub_urls)
        self.restarts_total = 0
        self._patience_s, self._hang_s, self._start_timeout_s = watchdog_patience_s, hang_s, start_timeout_s
        self._on_link, self._on_restart, self._on_hang = on_link, on_restart, on_hang
        self._supervisor = supervisor or Supervisor(structlog.get_logger())
        self._tasks: list[asyncio.Task[None]] = []
        self._watchdog: LinkWatchdog | None = None
        self._store_watchdog: StoreWatchdog | None = None

    @property
    def access(self) -> LeafAccess:
        """How to connect to it; KeyFileError before it has ever run."""
        return read_access(self.data_dir)

    @property
    def store_dir(self) -> Path:
        """Folder on whose file system its streams are; for the durability barrier."""
        return self.data_dir / "jetstream"

    @property
    def pid(self) -> int | None:
        """Of the running server, None while there is none."""
        return stale_server(self.data_dir)

    @property
    def link_up(self) -> bool:
        """The leaf is linked to its hub. Always False without a hub."""
        return self._watchdog is not None and self._watchdog.link_up

    @property
    def hub_server(self) -> str:
        """Name of the hub server that the leaf is linked to; "" while there is none."""
        return self._watchdog.hub_server if self._watchdog else ""

    @property
    def link_changed_at(self) -> float | None:
        """Time (s) of the last change of `link_up`, None before the first."""
        return self._watchdog.changed_at if self._watchdog else None

    @property
    def watchdog_restarts_total(self) -> int:
        """Restarts because the server had stopped trying to reach the hub."""
        return self._watchdog.restarts_total if self._watchdog else 0

    @property
    def hub_refusal(self) -> str:
        """Always "": what the hub says is in the log of the server's service."""
        return ""

    @property
    def write_problem(self) -> str:
        """What it cannot write to disk, and why; "" while it can."""
        return self._store_watchdog.problem if self._store_watchdog else ""

    @property
    def write_restarts_total(self) -> int:
        """Restarts because there was room again and it did not write."""
        return self._store_watchdog.restarts_total if self._store_watchdog else 0

    async def start(self) -> None:
        """Wait until it is healthy. LeafStartError if it is not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._start_timeout_s
        while not (await self._answers() and await self._is_healthy()):
            if loop.time() > deadline:
                raise LeafStartError(
                    f"{NAME} was not healthy within {self._start_timeout_s:g} s",
                    [f"`systemctl start {NAME}`, and `journalctl -u {NAME} -n 30` tells more"],
                )
            await asyncio.sleep(POLL_S / 4)
        self._tasks.append(self._supervisor.keep("the leaf server's service", self._watch, is_vital=True))
        port = urlsplit(self.access.monitor_url).port or 0
        self._store_watchdog = StoreWatchdog(port, self.store_dir, restart=self.restart)
        self._tasks.append(self._supervisor.keep("the leaf's disk", self._store_watchdog.run))
        if self.hub_urls:
            self._watchdog = LinkWatchdog(
                port, self.hub_urls, restart=self.restart, on_change=self._on_link, patience_s=self._patience_s
            )
            self._tasks.append(self._supervisor.keep("the leaf's link", self._watchdog.run))

    async def stop(self) -> None:
        """Look no more; the server runs on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def restart(self) -> None:
        """End it gracefully; its service manager starts it again."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _is_healthy(self) -> bool:
        return (await self._page("/healthz?js-server-only=true")).get("status") == "ok"

    async def _answers(self) -> bool:
        """Another server may have the monitor's port."""
        page = await self._page("/varz")
        return bool(page) and page.get("port") == urlsplit(self.access.url).port

    async def _page(self, path: str) -> dict[str, Any]:
        """A page of its monitor, {} if there is none."""
        try:
            return await fetch_json("127.0.0.1", urlsplit(self.access.monitor_url).port or 0, path)
        except (OSError, TimeoutError, ValueError, KeyFileError):
            return {}

    async def _watch(self) -> None:
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
