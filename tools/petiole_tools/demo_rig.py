"""The parts of the demonstration: a hub of three, a line that can be cut, a leaf, a gateway process, nodes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.child_process import ended_with_parent
from petiole_gateway.nats.errors import ApiError, NatsError
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.mailbox_streams import ensure_hub_mailbox
from petiole_gateway.nats.presence_streams import ensure_hub_presence
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_tools.client import Client, Standing, connect
from petiole_tools.cut_proxy import CutProxy
from petiole_tools.demo_count import Census, read_on
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options, Target
from petiole_tools.sim.impairment import Impairment
from petiole_tools.simulate import CONSOLE_PORT, UART_PORT, Crew, gateway_address

SITE = "demo"
HUB_SIZE = 3
# A cluster elects the leader of a new stream within seconds; a busy machine needs several times that.
STREAM_TIMEOUT_S = 60.0
GATEWAY_TIMEOUT_S = 60.0
NODES_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05
# Enough to make every layer work for it, little enough to be typical.
IMPAIRMENT = Impairment(loss=0.03, duplicate=0.01, delay_ms=5)
PERIOD_S = 1.0
NODES = {"kitchen": "uart", "cellar": "uart", "workshop": "console", "garden": "udp", "roof": "udp"}


class Rig:
    """Started part by part by `start_*`, in the order in which they stand here; `stop` ends all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "petiole.toml"
        self.log = folder / "gateway.log"
        self.cluster = HubCluster(folder / "hub", size=HUB_SIZE)
        self.proxy = CutProxy([("127.0.0.1", server.leaf_port) for server in self.cluster.servers])
        self.hub: Client  # an application, connected to the hub
        self.at_hub = Census()  # what was counted so far
        self.at_site = Census()
        self.site = Standing(Options(config=self.config))  # a program beside the gateway
        self.leaf: LeafServer
        self.crew: Crew
        self._gateway: asyncio.subprocess.Process
        self._stack = AsyncExitStack()

    async def stop(self) -> None:
        """End what was started, last first."""
        await self._stack.aclose()

    # Hub ---------------------------------------------------------------------------------------------------

    async def start_hub(self) -> None:
        """Three servers and a client."""
        self._stack.push_async_callback(self.cluster.stop)
        await self.cluster.start()
        self.hub = await self.connect_hub()
        self._stack.push_async_callback(self.hub.connection.close)

    async def connect_hub(self) -> Client:
        """An application at the hub's first server."""
        return await connect(Target(self.cluster.urls[0], SITE, credentials=self.cluster.application_credentials))

    async def count_hub(self) -> Census:
        """All readings in the hub's stream."""
        return await read_on(self.at_hub, self.hub, SITE)

    async def count_site(self) -> Census:
        """All readings in the leaf's stream."""
        return await read_on(self.at_site, await self.site.client(), SITE)

    # Site --------------------------------------------------------------------------------------------------

    async def start_leaf(self) -> None:
        """The leaf server, linked to the hub through the line that can be cut."""
        await self.proxy.start()
        self._stack.push_async_callback(self.proxy.stop)
        self.leaf = LeafServer(
            SITE,
            self.folder / "leaf",
            hub_urls=[f"nats-leaf://127.0.0.1:{self.proxy.port}"],
            hub_credentials=self.cluster.mint_site(SITE),
            # Else it would learn the addresses behind the proxy and go around the cut.
            settings={"ignore_discovered_servers": True},
        )
        await self.leaf.start()
        self._stack.push_async_callback(self.leaf.stop)

    async def start_gateway(self) -> None:
        """`petiole gateway run` as a process of its own, until it answers."""
        access = self.leaf.access
        ports = self.folder / "ports"
        ports.mkdir()
        self.config.touch(0o600)
        self.config.write_text(
            f"site = {json.dumps(SITE)}\n"
            f"state_dir = {json.dumps(str(self.folder / 'gateway'))}\n\n"
            f"[[serial]]\nport = {json.dumps(f'{ports}/{UART_PORT}*')}\n\n"
            f'[[serial]]\nport = {json.dumps(f"{ports}/{CONSOLE_PORT}*")}\nframing = "console"\n\n'
            '[udp]\nlisten = "127.0.0.1:0"\n\n'
            f"[nats]\nurl = {json.dumps(access.url)}\nuser = {json.dumps(access.user)}\n"
            f"password = {json.dumps(access.password)}\nstore_dir = {json.dumps(str(self.leaf.store_dir))}\n"
        )
        # Settings of the person's own gateway must not reach this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
        with self.log.open("ab") as log:
            self._gateway = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "petiole_tools",
                "--config",
                str(self.config),
                "gateway",
                "run",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=ended_with_parent(),
                process_group=0,  # Ctrl-C on our terminal ends us, and we end it
            )
        self._stack.push_async_callback(self._stop_gateway)
        self._stack.push_async_callback(self.site.close)
        await self._wait_gateway()

    async def take_readings(self) -> None:
        """Make the hub's stream UP, on all three servers, and the site a source of it."""
        api = JetStreamApi(self.hub.connection)
        async with asyncio.timeout(STREAM_TIMEOUT_S):
            while True:
                try:
                    await ensure_hub_uplink(api, [SITE], replicas=HUB_SIZE)
                    await ensure_hub_mailbox(api, [SITE], replicas=HUB_SIZE)
                    await ensure_hub_presence(api, replicas=HUB_SIZE)
                    return
                except ApiError as error:
                    if not error.retryable:
                        raise
                except NatsError:
                    if self.hub.lost.is_set():
                        raise
                await asyncio.sleep(POLL_S)

    @property
    def gateway_pid(self) -> int:
        """Process id of the gateway."""
        return self._gateway.pid

    async def _wait_gateway(self) -> None:
        async with asyncio.timeout(GATEWAY_TIMEOUT_S):
            while True:
                if self._gateway.returncode is not None:
                    tail = self.log.read_text(errors="replace").splitlines()[-8:]
                    raise CliError("the gateway has ended", f"its log: {self.log}", tail)
                try:
                    await (await self.site.client()).gateway("status", timeout_s=2.0)
                    return
                except ServiceError:
                    raise
                except CliError:
                    await asyncio.sleep(POLL_S)

    async def _stop_gateway(self) -> None:
        process = self._gateway
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def start_nodes(self, seed: int) -> None:
        """All nodes, until each is online and has said what it can do."""
        client = await self.site.client()
        address = await gateway_address(client, None)
        self.crew = Crew(self.site, self.folder / "nodes", self.folder / "ports", address)
        self._stack.push_async_callback(self._stop_nodes)
        for number, (name, kind) in enumerate(NODES.items()):
            options = {"seed": seed + number, "period_s": PERIOD_S}
            await self.crew.add(name, kind, impairment=IMPAIRMENT, seed=seed + number, options=options)
        async with asyncio.timeout(NODES_TIMEOUT_S):
            while True:
                devices = await client.devices()
                if sum(one["state"] == "online" and bool(one["firmware"]) for one in devices) == len(NODES):
                    return
                await asyncio.sleep(POLL_S)

    async def _stop_nodes(self) -> None:
        await self.crew.stop(remove_devices=False)
