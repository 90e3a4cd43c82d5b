"""The gateway as a whole: links, hub, leaf server and NATS, put together, started and stopped."""

from __future__ import annotations

import asyncio
import glob
import signal
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version

from .admin import Administration
from .clock import SystemClock
from .config import Config
from .hub.hub import Hub
from .hub.policy import Policy
from .hub.ports import Logger, Place
from .links.serial import SerialLink
from .links.udp import UdpLink
from .log import configure
from .nats.barrier import Durability
from .nats.connection import Connection, connect
from .nats.leaf_server import LeafServer
from .nats.records import BucketRecords
from .nats.requester import NatsRequester
from .nats.sealed_bucket import SealedBucket
from .nats.service import GatewayService
from .nats.uplink_recovery import BootMarker
from .nats.uplink_store import UplinkStore
from .nats.uplinks import StoreUplinks

# Ports given by a pattern are looked for this often; a new board is noticed while its owner still looks at it.
PORT_SCAN_S = 1.0
KEY_FILE = "registry.key"


class Gateway:
    """`start`, then `stop`; or `run_until_stopped` for a program. Errors at the start are raised, later ones are logged
    and repaired."""

    def __init__(self, config: Config, logger: Logger | None = None) -> None:
        self.config = config
        self.logger = logger or configure(config.log.level, config.log.format)
        self.serial: dict[str, SerialLink] = {}
        self.udp: UdpLink | None = None
        self.leaf: LeafServer | None = None
        self.hub: Hub
        self.store: UplinkStore
        self.connection: Connection
        self._clock = SystemClock()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._accepts = False

    async def start(self) -> None:
        """Start everything, in the order in which it is needed. What was started is stopped again on an error."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        config = self.config
        config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.connection = await self._connect()
        self._stack.push_async_callback(self.connection.close)
        marker = BootMarker(config.state_dir)
        was_cut_off = marker.needs_burn(stream_is_empty=False)
        self.store = UplinkStore(
            self.connection,
            site=config.site,
            state_dir=config.state_dir,
            store_dir=self.leaf.store_dir if self.leaf else config.nats.store_dir,
            logger=self.logger,
            durability=Durability(config.nats.durability),
            with_hub=bool(config.nats.hub) or not config.nats.is_embedded,
            max_bytes=config.nats.store_max_bytes,
        )
        await self.store.start()
        uplinks = StoreUplinks(self.store)
        requester = NatsRequester(self.connection, config.site)
        self.hub = Hub(
            uplinks=uplinks,
            requester=requester,
            registry=await self._records("devices"),
            sessions=await self._records("sessions"),
            logger=self.logger,
            policy=Policy(list(config.policy.request_allow)),
            is_clock_doubtful=self._clock.is_doubtful,
        )
        uplinks.tell(self.hub.durable)
        await self.hub.start(with_sessions=not was_cut_off)
        self._stack.push_async_callback(self.hub.stop)
        self._stack.push_async_callback(self.store.stop)  # what it still makes durable, the hub still acknowledges
        await self._open_links()
        self._stack.push_async_callback(self._stop_receiving)
        administration = Administration(self)
        service = GatewayService(
            self.connection,
            site=config.site,
            version=version("petiole"),
            command=self.hub.command,
            methods=administration.methods,
            logger=self.logger,
        )
        await service.start()
        self._stack.push_async_callback(service.stop)
        self._stack.callback(administration.stop)
        self._accepts = True
        self.logger.info(
            "gateway_started", site=config.site, devices=len(self.hub.roster.devices), udp_port=self.udp_port
        )

    async def _connect(self) -> Connection:
        nats = self.config.nats
        if nats.url is not None:
            return await connect(
                nats.url, logger=self.logger, user=nats.user, password=nats.password, credentials=nats.credentials
            )
        self.leaf = LeafServer(
            self.config.site,
            self.config.leaf_dir,
            hub_urls=nats.hub,
            hub_credentials=nats.hub_credentials,
            client_port=nats.port or None,
            binary=nats.binary,
            on_log=self._leaf_said,
            on_link=lambda up: self.logger.info("hub_link", up=up),
            on_exit=lambda code: self.logger.error("leaf_server_ended", code=code),
        )
        await self.leaf.start()
        self._stack.push_async_callback(self.leaf.stop)
        access = self.leaf.access
        return await connect(access.url, logger=self.logger, user=access.user, password=access.password)

    async def _records(self, name: str) -> BucketRecords:
        bucket = SealedBucket(self.connection.client, name, self.config.state_dir / KEY_FILE)
        await bucket.open()
        return BucketRecords(bucket)

    def _leaf_said(self, line: str) -> None:
        if "[ERR]" in line or "[FTL]" in line:
            self.logger.warning("leaf_server", line=line)
        else:
            self.logger.debug("leaf_server", line=line)

    # Links -------------------------------------------------------------------------------------------------

    @property
    def udp_port(self) -> int:
        """The bound port, 0 without UDP."""
        return self.udp.port if self.udp else 0

    async def _open_links(self) -> None:
        if self.config.udp.enabled:
            self.udp = UdpLink(self._receive, self.logger)
            await self.udp.open(self.config.udp.host, self.config.udp.port)
            self._stack.callback(self.udp.close)
        self._stack.push_async_callback(self._close_serial)
        self._scan_ports()
        if any(glob.has_magic(entry.port) for entry in self.config.serial):
            self._tasks.append(asyncio.get_running_loop().create_task(self._rescan()))

    def _scan_ports(self) -> None:
        for entry in self.config.serial:
            ports = sorted(glob.glob(entry.port)) if glob.has_magic(entry.port) else [entry.port]
            for port in ports:
                if port not in self.serial:
                    link = SerialLink(
                        port,
                        baud=entry.baud,
                        framing=entry.framing,
                        receive=self._receive,
                        log=self._node_said,
                        logger=self.logger,
                    )
                    self.serial[port] = link
                    self._tasks.append(asyncio.get_running_loop().create_task(link.run()))

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(PORT_SCAN_S)
            self._scan_ports()

    def _receive(self, place: Place, frame: bytes) -> None:
        if self._accepts:
            self.hub.receive(place, frame)

    def _node_said(self, link: str, line: str) -> None:
        self.logger.info("node_log", link=link, device=self.hub.roster.name_at(link), text=line)

    async def _stop_receiving(self) -> None:
        self._accepts = False

    async def _close_serial(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # End ---------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Take no more frames, make durable and acknowledge what came, and end everything that was started."""
        self._accepts = False
        await self._stack.aclose()
        self.logger.info("gateway_stopped")

    async def run_until_stopped(self) -> None:
        """Start, run until SIGTERM or SIGINT, stop."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, stopped.set)
        await self.start()
        try:
            await stopped.wait()
        finally:
            await self.stop()
