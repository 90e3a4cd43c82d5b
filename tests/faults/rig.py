"""A whole system of real processes: nodes behind bad links, gateway, leaf server, a link to cut, hub cluster."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.errors import NatsError
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_tools.cut_proxy import CutProxy
from petiole_tools.sim.impairment import PERFECT, Impairment
from petiole_tools.sim.nodes import NodeSpec, SimNode

from .account import READINGS, Accepted, Stored, Verdict, compare, read_accepted, read_stream
from .gateway_process import GatewayProcess, GatewaySettings
from .waiting import PATIENCE_S, until

SITE = "field"
COUNTING = Path(__file__).parent / "counting"
FRAMINGS = {"uart": "cobs", "console": "console"}
# A frame that lost its way is sent again within 10 s (PROTOCOL.md, section 8), with an age that is right again. So what
# is left is one way over a bad link, and how long a busy machine lets a process wait.
TIME_TOLERANCE_MS = 3000


class Silent:
    """A logger for connections that are cut on purpose."""

    def info(self, event: str, **fields: Any) -> None:
        """Not kept."""

    debug = warning = error = info


def free_udp_port() -> int:
    """A UDP port nobody listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Rig:
    """`start`, `add_node`, break things, `verdict`, `stop`. Everything that was started is ended by its pid."""

    def __init__(self, folder: Path, *, hub_size: int = 3, state_dir: Path | None = None, flush_s: float = 0) -> None:
        self.folder = folder
        self.hub = HubCluster(folder / "hub", size=hub_size)
        self.proxy = CutProxy([(server.host, server.leaf_port) for server in self.hub.servers])
        self.nodes: dict[str, SimNode] = {}
        self.gateway: GatewayProcess
        self.hub_connection: Connection
        self.began_ms = int(time.time() * 1000)
        self._state_dir = state_dir or folder / "state"
        self._flush_s = flush_s
        self._serial: dict[Path, str] = {}
        self._stack = AsyncExitStack()

    async def start(self, ports: dict[str, str] | None = None) -> None:
        """Hub, link and gateway. `ports`: node name → kind, for nodes on a serial line that come later."""
        for name, kind in (ports or {}).items():
            self._serial[self.port(name)] = FRAMINGS[kind]
        settings = GatewaySettings(SITE, self._state_dir, free_udp_port(), self._serial, flush_s=self._flush_s)
        await self._start_hub()
        settings.hub = f"nats-leaf://127.0.0.1:{self.proxy.port}"
        settings.hub_credentials = self.hub.mint_site(SITE)
        self.gateway = GatewayProcess(self.folder, settings)
        self._stack.push_async_callback(self.gateway.stop)
        await self.gateway.start()

    async def _start_hub(self) -> None:
        self._stack.push_async_callback(self.hub.stop)
        await self.hub.start()
        self._stack.push_async_callback(self.proxy.stop)
        await self.proxy.start()
        self.hub_connection = await connect(
            self.hub.urls, logger=Silent(), credentials=self.hub.application_credentials, timeout_s=PATIENCE_S
        )
        self._stack.push_async_callback(self.hub_connection.close)
        await until(self._sourced, "the hub has its stream")

    async def _sourced(self) -> bool:
        try:
            await ensure_hub_uplink(JetStreamApi(self.hub_connection.client), [SITE], replicas=len(self.hub.servers))
        except NatsError:  # no leader yet
            return False
        return True

    def port(self, name: str) -> Path:
        """The serial port of a node."""
        return self.folder / f"tty-{name}"

    async def add_node(
        self,
        name: str,
        kind: str,
        *,
        impairment: Impairment = PERFECT,
        seed: int = 1,
        key: bytes | None = None,
        **options: Any,
    ) -> SimNode:
        """A device at the gateway, and a node that counts."""
        key = key or secrets.token_bytes(16)
        await self.gateway.ask("device.add", {"name": name, "key": key.hex()})
        node = SimNode(
            NodeSpec(
                name,
                key,
                kind,
                ("127.0.0.1", self.gateway.settings.udp_port),
                impairment,
                seed,
                options=options,
                app=COUNTING / "app.py",
                runtime="micropython",
            ),
            self.folder / "nodes" / name,
            self.port(name),
        )
        self.nodes[name] = node
        self._stack.push_async_callback(node.stop)
        await node.start()
        return node

    async def stop(self) -> None:
        """End everything."""
        await self._stack.aclose()

    # What has happened -------------------------------------------------------------------------------------

    def accepted(self) -> dict[str, list[Accepted]]:
        return {name: read_accepted(node.folder / "accepted.txt") for name, node in self.nodes.items()}

    def accepted_total(self, name: str | None = None) -> int:
        """Readings that nodes, or one of them, were told to be accepted. Cheap: it is asked often."""
        names = [name] if name else list(self.nodes)
        files = [self.nodes[each].folder / "accepted.txt" for each in names]
        return sum(file.read_bytes().count(b"\n") for file in files if file.exists())

    async def accept(self, count: int, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many more readings are accepted."""
        wanted = self.accepted_total() + count
        await until(lambda: self.accepted_total() >= wanted, f"{count} more readings accepted", timeout_s=timeout_s)

    async def accept_everywhere(self, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every node has had a reading accepted after this moment."""
        before = {name: self.accepted_total(name) for name in self.nodes}
        for name, count in before.items():
            await until(
                lambda name=name, count=count: self.accepted_total(name) > count,  # type: ignore[misc]
                f"{name} gets a reading through",
                timeout_s=timeout_s,
            )

    async def hub_has(self) -> int:
        """Readings in the hub's stream; 0 while the cluster does not say."""
        try:
            return await _readings(JetStreamApi(self.hub_connection.client))
        except NatsError:
            return 0

    async def catch_up(self, *, timeout_s: float = PATIENCE_S) -> float:
        """Wait until the hub has all that is accepted at this moment; seconds it took."""
        wanted = self.accepted_total()

        async def caught_up() -> bool:
            return await self.hub_has() >= wanted

        return await until(caught_up, f"the hub has {wanted} readings", timeout_s=timeout_s)

    # The end -----------------------------------------------------------------------------------------------

    async def stored(self) -> list[Stored]:
        return await read_stream(self.hub_connection.client)

    async def stop_nodes(self) -> None:
        """Nothing is published from here on. Their files stay."""
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    async def verdict(self, *, timeout_s: float = 90.0, leaf_may_have_less: bool = False) -> Verdict:
        """Nodes are stopped; wait until the hub has what the leaf has and what nodes know to be accepted; compare.

        `leaf_may_have_less`: its store went back in time, and what it lost may be at the hub already.
        """
        await self.stop_nodes()
        ended_ms = int(time.time() * 1000)
        accepted = self.accepted()
        stored: list[Stored] = []

        async def complete() -> bool:
            nonlocal stored
            stored = await self.stored()
            if not leaf_may_have_less and len(stored) < await self.leaf_has():
                return False
            names = {(entry.device, entry.name) for entry in stored}
            return all((device, line.name) in names for device, lines in accepted.items() for line in lines)

        try:
            await until(complete, "the hub has everything", timeout_s=timeout_s, every_s=0.5)
        except AssertionError:
            stored = await self.stored()  # the comparison says what is missing
        return compare(accepted, stored, window=(self.began_ms, ended_ms), tolerance_ms=TIME_TOLERANCE_MS)

    async def leaf_has(self) -> int:
        """Readings in the leaf's stream; nothing has been evicted from it."""
        target = self.gateway.options.target()
        connection = await connect(target.url, logger=Silent(), user=target.user, password=target.password)
        try:
            return await _readings(JetStreamApi(connection.client))
        finally:
            await connection.close()


async def _readings(api: JetStreamApi) -> int:
    info = await api.stream_info("UP", subjects_filter=READINGS)
    return sum(((info or {"state": {}})["state"].get("subjects") or {}).values())
