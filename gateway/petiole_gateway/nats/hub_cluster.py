"""A hub of one or more nats-server processes on this machine, for demonstrations and tests."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from .binary import find_nats_server
from .child_process import ended_with_parent
from .errors import LeafStartError
from .hub_config import HubOperator, HubServer
from .monitor import fetch_json
from .ports import free_ports

# Three servers elect their JetStream leader in 5 to 10 s on a quiet machine; a busy one needs
# several times that.
START_TIMEOUT_S = 60.0
_POLL_S = 0.05


class HubCluster:
    """`size` hub servers below `folder`, with an operator, credentials for an application and free ports."""

    def __init__(self, folder: Path, *, size: int = 1, binary: Path | None = None) -> None:
        self.folder = folder
        self.binary = binary or find_nats_server().path
        self.operator = HubOperator.open(folder / "operator")
        self.application_credentials = self.operator.mint_application("application", folder / "application.creds")
        ports = free_ports(4 * size)
        self.servers = [
            HubServer(
                f"hub{i + 1}",
                folder / f"hub{i + 1}" / "jetstream",
                client_port=ports[4 * i],
                leaf_port=ports[4 * i + 1],
                route_port=ports[4 * i + 2],
                monitor_port=ports[4 * i + 3],
            )
            for i in range(size)
        ]
        self._processes: list[asyncio.subprocess.Process | None] = [None] * size

    @property
    def urls(self) -> list[str]:
        """Where clients connect, with `application_credentials`."""
        return [f"nats://{server.host}:{server.client_port}" for server in self.servers]

    @property
    def leaf_urls(self) -> list[str]:
        """Where leaf servers connect, with credentials from `mint_site`."""
        return [f"nats-leaf://{server.host}:{server.leaf_port}" for server in self.servers]

    def mint_site(self, site: str, *, sends_to: Sequence[str] = ()) -> Path:
        """Credentials file for the leaf of `site`."""
        return self.operator.mint_site(site, self.folder / f"{site}.creds", sends_to=sends_to)

    def log_path(self, index: int) -> Path:
        """Log file of one server."""
        return self.folder / self.servers[index].name / "server.log"

    async def start(self) -> None:
        """Start all servers and wait until each has found the cluster's JetStream leader."""
        for index in range(len(self.servers)):
            await self._launch(index)
        for index in range(len(self.servers)):
            await self._wait_healthy(index, "/healthz")

    async def stop(self) -> None:
        """End all servers; those that do not react within 10 s are killed."""
        for process in self._processes:
            if process is not None and process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for index, process in enumerate(self._processes):
            if process is None:
                continue
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
            self._processes[index] = None

    async def kill(self, index: int) -> None:
        """kill -9 one server."""
        process = self._processes[index]
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        self._processes[index] = None

    async def restart(self, index: int, *, wait: bool = True) -> None:
        """Start a server that was killed, on its old store and ports; `wait` until it answers, which says
        nothing about the cluster's leader: that needs a majority."""
        await self._launch(index)
        if wait:
            await self._wait_healthy(index, "/healthz?js-server-only=true")

    async def _launch(self, index: int) -> None:
        server = self.servers[index]
        folder = self.folder / server.name
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "hub.conf"
        config.write_text(self.operator.server_config(server, self.servers))
        with self.log_path(index).open("ab") as log:
            self._processes[index] = await asyncio.create_subprocess_exec(
                *(str(self.binary), "-c", str(config)),
                stdout=log,
                stderr=log,
                preexec_fn=ended_with_parent(),
                # Its own group: Ctrl-C on our terminal must not end the hub while the gateway drains into it.
                process_group=0,
            )

    async def _wait_healthy(self, index: int, page: str) -> None:
        server = self.servers[index]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_S
        while loop.time() < deadline:
            process = self._processes[index]
            if process is None or process.returncode is not None:
                raise LeafStartError(f"{server.name} ended", self._log_tail(index))
            try:
                health = await fetch_json(server.host, server.monitor_port, page)
            except (OSError, TimeoutError, ValueError):
                health = {}
            if health.get("status") == "ok":
                return
            await asyncio.sleep(_POLL_S)
        raise LeafStartError(f"{server.name} is not healthy after {START_TIMEOUT_S:g} s", self._log_tail(index))

    def _log_tail(self, index: int) -> list[str]:
        return self.log_path(index).read_text(errors="replace").splitlines()[-20:]
