"""The gateway as a whole: links, hub, leaf server and NATS, put together, started and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg

from . import credentials
from .admin import Administration
from .clock import SystemClock, monotonic_ms, wall_ms
from .hub.hub import Hub
from .hub.policy import Policy
from .hub.ports import Link, Logger, Place
from .hub.readings import printable
from .hub.unreadable import Unreadable
from .leaf import leaf_server
from .links.udp import UdpLink
from .log import configure
from .monitoring.status import Status
from .nats.api import JetStreamApi
from .nats.barrier import Durability
from .nats.connection import Connection, connect
from .nats.errors import NotConnectedError
from .nats.leaf_server import LeafServer
from .nats.leaf_unit import LeafUnit
from .nats.mailbox_store import MailboxStore
from .nats.presence_store import PresenceStore
from .nats.records import BucketRecords
from .nats.requester import NatsRequester
from .nats.sealed_bucket import SealedBucket
from .nats.service import GatewayService
from .nats.site_gateways import SiteGateways, gateway_name
from .nats.subjects import site_inbox
from .nats.uplink_recovery import BootMarker
from .nats.uplink_store import UplinkStore
from .nats.uplinks import StoreUplinks
from .nats.watched_leaf import WatchedLeaf
from .progress import LeafProgress, Part, SocketProgress, StoreProgress, SupervisedProgress, TaskProgress, UnitProgress
from .serial_ports import SerialPorts
from .settings.config import Config
from .supervision import Supervisor

if TYPE_CHECKING:
    from .monitoring.pages import Monitoring

# A commit takes 0.1 s, an SD card that is busy some seconds; systemd would wait 90 s.
DRAIN_TIMEOUT_S = 5.0
BARRIER_TIMEOUT_S = 10.0


class Gateway:
    """`start`, then `stop`. Errors at the start are raised, later ones are logged
    and repaired. `ticks` and `wall`: the hub's clocks, in ms."""

    def __init__(
        self,
        config: Config,
        logger: Logger | None = None,
        *,
        ticks: Callable[[], int] = monotonic_ms,
        wall: Callable[[], int] = wall_ms,
    ) -> None:
        self.config = config
        self._ticks = ticks
        self._wall = wall
        self.logger = logger or configure(config.log.level, config.log.format)
        self.ports: SerialPorts
        self.udp: UdpLink | None = None
        self.leaf: WatchedLeaf | None = None
        self.hub: Hub
        self.mail: MailboxStore | None = None
        self.presences: PresenceStore | None = None
        self.store: UplinkStore
        self.connection: Connection
        self.status: Status
        self.requester: NatsRequester
        self.monitoring: Monitoring | None = None
        self.gateways: SiteGateways
        self.own_name: str
        self._service: GatewayService
        self.clock = SystemClock()
        self.supervisor = Supervisor(self.logger)
        self.unreadable = Unreadable(self.logger)
        self._stack = AsyncExitStack()
        self._accepts = False
        self._progress = asyncio.Event()  # something became durable

    async def start(self) -> None:
        """Start everything, in the order in which it is needed. What was started is stopped again on an error."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        # What is pushed last is stopped first; every step stops what needs the steps before it.
        config, stack = self.config, self._stack
        config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.own_name = gateway_name(config.state_dir)
        self.ports = SerialPorts(
            config.serial,
            receive=self._receive,
            log=self._node_said,
            logger=self.logger,
            device_at=self._device_at,
            link_of=self._link_of,
            own_name=self.own_name,
            supervisor=self.supervisor,
        )
        stack.push_async_callback(self.ports.stop)
        await self._open_udp()  # first, because a port that is taken is the most likely mistake
        self.connection = await self._connect()
        stack.push_async_callback(self.connection.close)
        self.status = Status(self)
        stack.callback(self.status.close)
        was_cut_off = BootMarker(config.state_dir).needs_burn(stream_is_empty=False)
        self.store = UplinkStore(
            self.connection,
            site=config.site,
            state_dir=config.state_dir,
            store_dir=self.leaf.store_dir if self.leaf else config.nats.store_dir,
            logger=self.logger,
            durability=Durability(config.nats.durability),
            with_hub=self._has_hub,
            max_bytes=config.nats.store_max_bytes,
        )
        stack.push_async_callback(self.store.stop)
        await self.store.start()
        mail = await self._start_hub(with_sessions=not was_cut_off)
        stack.push_async_callback(self._stop_hub)
        stack.push_async_callback(mail.stop)
        await mail.start()  # after the devices: mail for others is dropped
        self.ports.start()
        stack.push_async_callback(self._drain)
        await self._offer()
        if config.metrics.enabled:
            await self._monitor()
        self._accepts = True
        self.logger.info(
            "gateway_started", site=config.site, devices=len(self.hub.roster.devices), udp_port=self.udp_port
        )

    @property
    def _has_hub(self) -> bool:
        nats = self.config.nats
        return bool(nats.hub) if nats.is_embedded else nats.linked_to_hub

    async def _start_hub(self, *, with_sessions: bool) -> MailboxStore:
        self.gateways = SiteGateways(self.connection, site=self.config.site, own=self.own_name)
        uplinks = StoreUplinks(self.store)
        self.mail = mail = MailboxStore(
            self.connection,
            site=self.config.site,
            logger=self.logger,
            with_hub=self._has_hub,
            is_known=lambda device: device in self.hub.roster.devices,
            on_mail=self._mail_arrived,
            wall=self._wall,
            unreadable=self.unreadable,
        )
        self.presences = PresenceStore(
            self.connection, site=self.config.site, logger=self.logger, with_hub=self._has_hub
        )
        self._stack.push_async_callback(self.presences.stop)
        self.presences.start()
        self.requester = NatsRequester(self.connection, self.config.site)
        self.hub = Hub(
            uplinks=uplinks,
            requester=self.requester,
            # A key that was handed out must not be forgotten. Sessions may be: after a power cut they are not used.
            registry=await self._records("devices", self._on_disk),
            sessions=await self._records("sessions"),
            wake_policies=await self._records("wake"),
            logger=self.logger,
            policy=Policy(list(self.config.policy.request_allow)),
            clock=self._ticks,
            wall=self._wall,
            is_clock_doubtful=self.clock.is_doubtful,
            find_link=self._link,
            own_name=self.own_name,
            tell=self.gateways.tell,
            mail=mail,
            presences=self.presences,
            failed=self.supervisor.failed,
            unreadable=self.unreadable,
        )
        uplinks.tell(self._durable)
        await self.gateways.listen(self.hub.neighbours.hear)  # before it reads what they have changed so far
        await self.hub.start(with_sessions)
        return mail

    def _durable(self, entries: Sequence[tuple[str, int]]) -> None:
        self.hub.durable(entries)
        self._progress.set()

    async def _offer(self) -> None:
        administration = Administration(self)
        self._stack.push_async_callback(administration.stop)
        self._service = GatewayService(
            self.connection,
            site=self.config.site,
            version=version("petiole"),
            command=self.hub.command,
            methods=administration.methods,
            logger=self.logger,
            elsewhere=self._elsewhere,
            queue=self._queue,
        )
        self._stack.push_async_callback(self._stop_service)
        self._stack.push_async_callback(self.gateways.withdraw)
        await self.gateways.serve(self._service.take_forwarded)
        await self._service.start()

    async def _monitor(self) -> None:
        from .monitoring.pages import Monitoring  # noqa: PLC0415 - who does not want it need not wait for it

        self.monitoring = Monitoring(self, self.config.metrics)
        self._stack.push_async_callback(self.monitoring.stop)
        await self.monitoring.start()

    def _mail_arrived(self, device: str) -> None:
        self.hub.mail_arrived(device)

    async def _queue(self, device: str, command: str, arguments: Any, expires_in_s: float, reply_to: str) -> str:
        self.hub.device(device)  # else it is dropped later, when nobody listens
        assert self.mail is not None
        return await self.mail.queue(device, command, arguments, expires_in_s=expires_in_s, reply_to=reply_to or None)

    async def _elsewhere(self, device: str, message: Msg, timeout_s: float) -> Msg | None:
        neighbours = self.hub.neighbours
        if neighbours.has(device):
            return None
        holder = await neighbours.holder(device)
        return None if holder is None else await self.gateways.forward(holder, message, timeout_s)

    async def _connect(self) -> Connection:
        nats = self.config.nats
        if nats.url is not None:
            return await connect(
                nats.url,
                logger=self.logger,
                user=nats.user,
                password=nats.password,
                credentials=nats.credentials,
                supervisor=self.supervisor,
                inbox_prefix=site_inbox(self.config.site),
            )
        self.leaf = self._leaf_unit() if nats.leaf_unit else self._leaf_server()
        await self.leaf.start()
        self._stack.push_async_callback(self.leaf.stop)
        access = self.leaf.access
        return await connect(
            access.url,
            logger=self.logger,
            user=access.user,
            password=access.password,
            supervisor=self.supervisor,
            inbox_prefix=site_inbox(self.config.site),
        )

    def _leaf_server(self) -> LeafServer:
        return leaf_server(
            self.config,
            on_log=self._leaf_said,
            on_link=self._hub_link_changed,
            on_exit=lambda code: self.logger.error("leaf_server_ended", code=code),
            supervisor=self.supervisor,
        )

    def _leaf_unit(self) -> LeafUnit:
        return LeafUnit(
            self.config.leaf_dir,
            hub_urls=self.config.nats.hub,
            on_link=self._hub_link_changed,
            on_restart=lambda: self.logger.warning("leaf_server_restarted"),
            on_hang=lambda: self.logger.error("leaf_server_hangs"),
            supervisor=self.supervisor,
        )

    def _hub_link_changed(self, up: bool) -> None:
        self.logger.info("hub_link", up=up)
        if self.mail is not None:
            self.mail.hub_link_changed(up)
        if self.presences is not None:
            self.presences.hub_link_changed(up)

    async def _records(self, name: str, barrier: Callable[[], Awaitable[None]] | None = None) -> BucketRecords:
        key_file = credentials.registry_key(self.config.state_dir)
        bucket = SealedBucket(self.connection.client, name, key_file, barrier=barrier)
        await bucket.open()
        return BucketRecords(bucket)

    async def _on_disk(self) -> None:
        """Return when what the leaf has acknowledged is on disk. NotConnectedError if the disk does not answer."""
        try:
            async with asyncio.timeout(BARRIER_TIMEOUT_S):
                await self.store.sync()
        except TimeoutError as error:
            raise NotConnectedError(f"the disk took nothing for {BARRIER_TIMEOUT_S:g} s") from error

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

    async def _open_udp(self) -> None:
        if self.config.udp.enabled:
            self.udp = UdpLink(self._receive, self.logger)
            self._stack.push_async_callback(self.udp.close)
            await self.udp.open(self.config.udp.host, self.config.udp.port)

    def _link(self, name: str) -> Link | None:
        if self.udp is not None and name == self.udp.name:
            return self.udp
        return self.ports.links.get(name)

    def _receive(self, place: Place, frame: bytes) -> None:
        if self._accepts:
            self.hub.receive(place, frame)

    def _node_said(self, link: str, line: str) -> None:
        self.hub.node_log.say(self._device_at(link), printable(line), link=link)

    def _device_at(self, link: str) -> str | None:
        return self.hub.roster.name_at(link)

    def _link_of(self, device: str) -> str | None:
        session = self.hub.device(device).current
        return session.place_key[0] if session is not None and session.place_key is not None else None

    def parts(self) -> list[Part]:
        """What must get on with its work while the gateway runs; valid after `start`."""
        udp, leaf = self.udp, self.leaf
        # A service of its own is not started again with us.
        ours = leaf if isinstance(leaf, LeafServer) else None
        found: list[Part] = [StoreProgress(self.store, is_ours=ours is not None)]
        found.append(TaskProgress(lambda: self.ports.tasks))
        found.append(SupervisedProgress(self.supervisor))
        if udp is not None:
            found.append(SocketProgress(lambda: udp.is_open))
        if ours is not None:
            found.append(LeafProgress(ours, JetStreamApi(self.connection.client)))
        if isinstance(leaf, LeafUnit):
            found.append(UnitProgress(leaf))
        return found

    # End ---------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Take no more frames, make durable and acknowledge what came, and end everything that was started."""
        self.ports.open_no_more()
        await self._stack.aclose()
        self.logger.info("gateway_stopped")

    async def _stop_service(self) -> None:
        """Callers that wait for a device are told; those who come now find nobody."""
        await self._service.withdraw()
        self.hub.fail_commands("the gateway stops")
        await self._service.finish()

    async def _drain(self) -> None:
        """No frame is taken from here on; those that were taken are acknowledged while the links are still open."""
        self._accepts = False
        with suppress(TimeoutError):  # the store says itself what it could not do
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while self.store.pending:
                    self._progress.clear()
                    await self._progress.wait()

    async def _stop_hub(self) -> None:
        """Sessions are stored as they stand, on disk before the store says that it was closed in order."""
        await self.hub.stop()
        try:
            await self._on_disk()
        except NotConnectedError as error:
            self.logger.warning("sessions_not_on_disk", error=str(error))
