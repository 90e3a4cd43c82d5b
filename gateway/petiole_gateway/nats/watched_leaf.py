"""A leaf server as its gateway has it, whoever runs its process: where it is, its link to the hub, and its disk."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from ..supervision import Supervisor
from .leaf_access import LeafAccess, read_access
from .leaf_watchdog import PATIENCE_S, LinkWatchdog
from .monitor import fetch_json
from .store_watchdog import POLL_S, StoreWatchdog


class WatchedLeaf(abc.ABC):
    """What both kinds share. A kind says how its process begins (`start`, which ends with `_watch`) and how it is
    started again.

    `on_link(up)` gets every change of the link to the hub; it may not block.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        hub_urls: Sequence[str],
        on_link: Callable[[bool], None],
        watchdog_patience_s: float = PATIENCE_S,
        store_poll_s: float = POLL_S,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.hub_urls = tuple(hub_urls)
        self.restarts_total = 0
        self._on_link = on_link
        self._patience_s = watchdog_patience_s
        self._store_poll_s = store_poll_s
        self._supervisor = supervisor or Supervisor(structlog.get_logger())
        self._tasks: list[asyncio.Task[None]] = []
        self._link_watchdog: LinkWatchdog | None = None
        self._store_watchdog: StoreWatchdog | None = None

    @property
    @abc.abstractmethod
    def pid(self) -> int | None:
        """Of the running server, None while there is none."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Return when it is healthy."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Look no more. Harmless when not started."""

    @abc.abstractmethod
    async def restart(self) -> None:
        """End the server gracefully, for it to be started again."""

    @property
    def access(self) -> LeafAccess:
        """How to connect to it; KeyFileError before it has ever run."""
        return read_access(self.data_dir)

    @property
    def store_dir(self) -> Path:
        """Folder on whose file system its streams are; for the durability barrier."""
        return self.data_dir / "jetstream"

    @property
    def link_up(self) -> bool:
        """The leaf is linked to its hub. Always False without a hub."""
        return self._link_watchdog is not None and self._link_watchdog.link_up

    @property
    def hub_server(self) -> str:
        """Name of the hub server that the leaf is linked to; "" while there is none."""
        return self._link_watchdog.hub_server if self._link_watchdog else ""

    @property
    def hub_refusal(self) -> str:
        """Why the hub does not take the link, in its words; "" while it does, and where nobody says so: of a service
        they are in the service's log."""
        return ""

    @property
    def link_changed_at(self) -> float | None:
        """Time (s) of the last change of `link_up`, None before the first."""
        return self._link_watchdog.changed_at if self._link_watchdog else None

    @property
    def watchdog_restarts_total(self) -> int:
        """Restarts because the server had stopped trying to reach the hub."""
        return self._link_watchdog.restarts_total if self._link_watchdog else 0

    @property
    def write_problem(self) -> str:
        """What it cannot write to disk, and why; "" while it can."""
        return self._store_watchdog.problem if self._store_watchdog else ""

    @property
    def write_restarts_total(self) -> int:
        """Restarts because there was room again and it did not write."""
        return self._store_watchdog.restarts_total if self._store_watchdog else 0

    def _watch(self, monitor_port: int) -> None:
        """Watch its disk, and its link if it has a hub, until `_end_tasks`."""
        self._store_watchdog = StoreWatchdog(
            monitor_port, self.store_dir, restart=self._restart_to_write, poll_s=self._store_poll_s
        )
        self._tasks.append(self._supervisor.keep("the leaf's disk", self._store_watchdog.run))
        if self.hub_urls:
            self._link_watchdog = LinkWatchdog(
                monitor_port,
                self.hub_urls,
                restart=self.restart,
                on_change=self._on_link,
                patience_s=self._patience_s,
            )
            self._tasks.append(self._supervisor.keep("the leaf's link", self._link_watchdog.run))

    async def _restart_to_write(self) -> None:
        await self.restart()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def answers(monitor_port: int, client_port: int) -> bool:
    """A server with this client port answers on that monitor's. Another one may have taken the monitor's port."""
    try:
        page = await fetch_json("127.0.0.1", monitor_port, "/varz")
    except (OSError, TimeoutError, ValueError):
        return False
    return page.get("port") == client_port


async def is_healthy(monitor_port: int) -> bool:
    """The server on this monitor port, whichever it is, has its JetStream ready."""
    try:
        page = await fetch_json("127.0.0.1", monitor_port, "/healthz?js-server-only=true")
    except (OSError, TimeoutError, ValueError):
        return False
    return page.get("status") == "ok"
