"""The hub: frames from links in, readings, requests and replies out, and the reverse. Knows no NATS.

Everything runs in one event loop; nothing here waits but the few coroutines that say so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from petiole import frame as frames
from petiole import wire

from ..clock import monotonic_ms, wall_ms
from .availability import Presence
from .commands import CommandDesk
from .conversation import Conversation
from .device import Device, DeviceSession
from .downlinks import Downlinks
from .joins import JoinDesk
from .listening import Listening
from .neighbours import CHANGED, HELD, POLICY, Neighbours
from .node_log import NodeLog
from .policy import Policy
from .ports import Busy, CommandError, Link, Logger, Mail, Place, Presences, Records, Requester, Uplinks
from .postman import Postman
from .presences import PresenceDesk
from .readings import timestamp
from .resumption import Resumption
from .roster import Roster
from .tap import Tap
from .tasks import Tasks
from .traffic import Traffic
from .unreadable import Unreadable
from .uplinks import Taken
from .wake_policy import WakePolicies


class Hub:
    """`receive` is called by links with what came, `durable` by the store with what is on disk. `clock` in ms that
    never goes back, `wall` in ms since 1970."""

    def __init__(
        self,
        *,
        uplinks: Uplinks,
        requester: Requester,
        registry: Records,
        sessions: Records,
        logger: Logger,
        policy: Policy | None = None,
        clock: Callable[[], int] = monotonic_ms,
        wall: Callable[[], int] = wall_ms,
        is_clock_doubtful: Callable[[], bool] = lambda: False,
        find_link: Callable[[str], Link | None] = lambda name: None,
        own_name: str = "",
        tell: Callable[[str, str], None] = lambda kind, device: None,
        mail: Mail | None = None,
        presences: Presences | None = None,
        wake_policies: Records | None = None,
        failed: Callable[[str, BaseException], None] | None = None,
        unreadable: Unreadable | None = None,
    ) -> None:
        self.traffic = Traffic(clock, wall)
        self.node_log = NodeLog(logger, clock, lambda: timestamp(wall()))
        self.roster = Roster(registry, sessions, self._submit, unreadable or Unreadable(logger), logger, own_name)
        self._uplinks = uplinks
        self._logger = logger
        self._clock = clock
        self._wall = wall
        self._find_link = find_link
        self._is_stopped = False
        self._tasks = Tasks(failed or (lambda name, error: logger.error("task_failed", task=name, exc_info=error)))
        self.presences = PresenceDesk(self.roster.devices, presences, logger, clock, wall, own_name, self._gone)
        self._postman = Postman(mail)
        self.roster.on_end = self._postman.withdraw
        self._listening = Listening(self._postman, self.presences.look)
        self.wake_policies = WakePolicies(
            wake_policies,
            self.roster,
            self._tasks,
            logger,
            wall,
            self._postman,
            self._flush,
            lambda name: tell(POLICY, name),
            self.presences.look,
        )
        self.neighbours = Neighbours(
            own_name,
            self.roster,
            registry,
            sessions,
            logger,
            clock,
            tell,
            self._let_go,
            self.wake_policies.refresh,
        )
        self._downlinks = Downlinks(
            self.roster,
            self.traffic,
            self._tasks,
            logger,
            clock,
            self._due,
            self._counters_used_up,
            self._postman,
            self._listening,
            self.wake_policies,
        )
        self._joins = JoinDesk(
            self.roster,
            uplinks,
            self.traffic,
            self._tasks,
            logger,
            clock,
            wall,
            is_clock_doubtful,
            self._downlinks.arm,
        )
        self._resumption = Resumption(uplinks, self._tasks, logger, self.receive)
        self._commands = CommandDesk(clock, self._downlinks.flush)
        self._conversation = Conversation(
            requester,
            policy or Policy(),
            self._commands,
            self._tasks,
            logger,
            clock,
            wall,
            is_clock_doubtful,
            self._downlinks.flush,
            self._changed,
            self._postman,
            self._listening,
            self.node_log,
        )

    @property
    def tap(self) -> Tap:
        """Whoever looks on sees every frame."""
        return self.traffic.tap

    def _submit(self, device: str, sequence: int, taken: Taken) -> None:
        self._uplinks.submit(device, sequence, taken.channel, taken.payload)

    # Life --------------------------------------------------------------------------------------------------

    async def start(self, with_sessions: bool = True) -> None:
        """Load devices and sessions. Without sessions every node joins anew: after a power cut stored counters
        may be older than what was used. Busy if the store does not answer."""
        await self.roster.load(self._clock(), with_sessions)
        await self.wake_policies.load()
        self.presences.resume()
        for device in self.roster.devices.values():
            if device.current is not None and not device.uplinks.is_open:
                self._conversation.ask_manifest(device.current)

    def fail_commands(self, text: str) -> None:
        """End all open commands: their callers are told that the outcome is unknown."""
        for device in self.roster.devices.values():
            self._commands.fail(device, None, text)

    async def stop(self) -> None:
        """End everything. Frames are neither taken nor sent from here on; where sessions stand is stored, so that a
        next run goes on exactly there."""
        self._is_stopped = True
        self._downlinks.stop()
        self.presences.stop()
        self.fail_commands("the gateway stops")
        await self._tasks.stop()
        await self._downlinks.store_all()

    # Devices -----------------------------------------------------------------------------------------------

    async def add_device(self, name: str, key: bytes | None = None) -> Device:
        """Register a device, with a fresh key unless one is given. CommandError 400 or 409; Busy if the store does
        not take it. One that is registered with just this key stays as it is: who asks again has missed the answer."""
        known = self.roster.devices.get(name)
        if known is not None and known.key == key:
            if not known.boot_count and not known.is_elsewhere:
                await self.roster.store(known)  # the first request may be waiting for that still
            return known
        device = await self.roster.add(name, key or secrets.token_bytes(wire.KEY_LENGTH), self._wall())
        self.neighbours.tell(CHANGED, name)
        self.presences.added(device)
        self._logger.info("device_added", device=name, id=device.id.hex())
        return device

    async def remove_device(self, name: str) -> None:
        """Forget a device. CommandError 404; Busy if the store does not take it, then it is still registered."""
        device = self.device(name)
        self._commands.fail(device, None, "the device was removed")
        self._downlinks.disarm(device)
        await self.roster.remove(device)
        await self.wake_policies.forget(name)
        self.neighbours.tell(CHANGED, name)
        self.presences.removed(name)
        self._logger.info("device_removed", device=name)

    def device(self, name: str) -> Device:
        """The device of this name. CommandError 404."""
        device = self.roster.devices.get(name)
        if device is None:
            raise CommandError(wire.NOT_FOUND, f"no device {name}")
        return device

    def state(self, device: Device) -> str:
        """online, asleep, overdue or offline."""
        return device.state(self._clock())

    async def command(self, name: str, command: str, arguments: Any, timeout_s: float) -> Any:
        """Have a device execute a command of its manifest; return the result. CommandError otherwise."""
        device = self.device(name)
        if device.current is not None:
            self.roster.presume(device.current, self._find_link)
        return await self._commands.execute(device, command, arguments, timeout_s)

    def _changed(self, device: Device) -> None:
        self.presences.refresh(device)
        self._tasks.spawn(self._store(device))

    async def _store(self, device: Device) -> None:
        try:
            await self.roster.store(device)
        except Busy as busy:
            # The boot count comes again with the next join; a manifest that is not stored is asked for again.
            self._logger.warning("device_not_stored", device=device.name, reason=busy.reason)

    # Frames in ---------------------------------------------------------------------------------------------

    def receive(self, place: Place, frame: bytes) -> None:
        """A frame has come. Whatever it is, this neither raises nor waits."""
        if self._is_stopped:
            return
        self.traffic.heard(place, frame)
        part = frames.split(frame)
        if isinstance(part, str):
            self.traffic.drop(place, frame, part)
        elif part.type == wire.JOIN_REQUEST:
            self._joins.receive(place, part, frame)
        elif part.type == wire.DATA:
            self._receive_data(place, part, frame)
        elif part.type == wire.ACK:
            self._receive_ack(place, part, frame)
        else:
            self.traffic.drop(place, frame, "unexpected")

    def _receive_ack(self, place: Place, part: frames.Split, frame: bytes) -> None:
        is_known = False
        for entry in self.roster.candidates(part.address, place):
            is_known = True
            if entry.session.receive_ack(part, self._clock()):
                self._opened(entry, place, part)
                self.traffic.tap.frame(place.link.name, True, frame, entry.device, None, None)
                self._downlinks.flush(entry)
                return
        self.traffic.drop(place, frame, "unexpected" if is_known else "unknown_session")

    def _receive_data(self, place: Place, part: frames.Split, frame: bytes) -> None:
        now = self._clock()
        unlearnt: DeviceSession | None = None
        for entry in self.roster.candidates(part.address, place):
            device, session = entry.device, entry.session
            if not device.uplinks.is_known:
                unlearnt = unlearnt or entry  # its turn comes if the frame is nobody else's
                continue
            if not self._downlinks.may_open(entry, part):
                self.traffic.drop(place, frame, "not_ready", device)  # the node sends again
                return
            with self.traffic.tap.watching(session) as seen:
                incoming = session.receive_data(part, now, device.uplinks.taken)
            if incoming == "tag":
                continue
            if isinstance(incoming, str):
                if not entry.is_heard:
                    self.roster.move(entry, place)  # after a restart; COUNTER_FLOOR has to go somewhere
                self.traffic.drop(place, frame, incoming, device, seen)
                self._downlinks.flush(entry)
                return
            self._opened(entry, place, part)
            self.traffic.tap.frame(place.link.name, True, frame, device, seen, None)
            self._conversation.take(entry, incoming, now)
            self._downlinks.flush(entry)
            return
        if unlearnt is not None:
            self._downlinks.reserve(unlearnt)
            if not self._resumption.hold(unlearnt.device, place, frame):
                self.traffic.drop(place, frame, "not_ready")
            return
        self.traffic.drop(place, frame, "unknown_session")
        self.traffic.reject(place, part, wire.REJECT_SESSION)

    def _opened(self, entry: DeviceSession, place: Place, part: frames.Split) -> None:
        device = entry.device
        self.roster.move(entry, place)
        entry.is_heard = True
        entry.session.is_addressed = place.link.answers_addressed and part.address is not None
        device.last_seen_at = self._wall()
        device.frames_total += 1
        if entry is not device.current:
            self._promote(entry, place)
        self._listening.opened(entry, self._clock())

    def _promote(self, entry: DeviceSession, place: Place) -> None:
        device = entry.device
        old = self.roster.promote(entry)
        if old is not None:
            device.uplinks.forget_session(old.session)
            self._commands.fail(device, old, "the device joined anew; the outcome is unknown")
        self.neighbours.tell(HELD, device.name)
        device.is_elsewhere = False
        self.traffic.joins_total += 1
        device.joined_at = self._wall()
        device.reset_reason = entry.reset_reason
        # The count on the wire is its lowest byte.
        device.boot_count += (entry.boot - device.boot_count) & 0xFF
        device.uplinks.is_open = device.knows_manifest(entry.manifest_hash)
        if not device.uplinks.is_open:
            self._conversation.ask_manifest(entry)
        self._logger.info(
            "device_joined",
            device=device.name,
            link=place.link.name,
            boot=device.boot_count,
            reset_reason=entry.reset_reason,
        )
        self._changed(device)

    def _let_go(self, entry: DeviceSession) -> None:
        """The device has joined at another gateway of the site."""
        device = entry.device
        self._commands.fail(device, entry, "the device joined at another gateway; the outcome is unknown")
        device.uplinks.forget_session(entry.session)
        self.roster.end(entry)
        device.presence = Presence()  # it is the other gateway's to tell
        device.is_elsewhere = True
        self._downlinks.arm(device)

    # Availability and mail ---------------------------------------------------------------------------------

    def mail_arrived(self, name: str) -> None:
        """Something waits for a device. Mail for one that sleeps is brought at its next wake."""
        device = self.roster.devices.get(name)
        if device is not None and device.current is not None:
            self._downlinks.flush(device.current)

    def _flush(self, entry: DeviceSession) -> None:
        self._downlinks.flush(entry)

    def _gone(self, device: Device) -> None:
        if device.current is not None:
            self._postman.withdraw(device.current)
            device.current.is_listening = False

    # Time and the store ------------------------------------------------------------------------------------

    def _due(self, device: Device) -> None:
        """A timer of the device has run down."""
        self._joins.expire(device)
        busy_until = device.uplinks.busy_until
        if busy_until is not None and self._clock() >= busy_until:
            device.uplinks.busy_until = None
            self._tasks.spawn(self._submit_again(device))
        if device.current is not None:
            self._downlinks.flush(device.current)
        else:
            self._downlinks.arm(device)

    async def _submit_again(self, device: Device) -> None:
        """The store was busy; perhaps another gateway of the site has stored for the device meanwhile."""
        retry_s = await self._resumption.learn(device)
        now = self._clock()
        if retry_s is not None:
            device.uplinks.busy_until = now + max(1, int(1000 * retry_s))
        device.uplinks.flush(now)
        device.uplinks.acknowledge(now)
        if device.current is not None:
            self._downlinks.flush(device.current)

    def durable(self, entries: Sequence[tuple[str, int]]) -> None:
        """These (device, sequence) are on disk."""
        highest = dict(entries)  # in order of sequence per device, so the last one counts
        now = self._clock()
        for name, sequence in highest.items():
            device = self.roster.devices.get(name)
            if device is None:
                continue
            device.uplinks.became_durable(sequence, now)
            if device.uplinks.acknowledge(now) and device.current is not None:
                self._downlinks.flush(device.current)

    def _counters_used_up(self, entry: DeviceSession) -> None:
        """PROTOCOL.md, section 4: the session ends; the node is told with its next frame, and joins anew."""
        device = entry.device
        self._commands.fail(device, entry, "the session's counters are used up")
        device.uplinks.forget_session(entry.session)
        self.roster.end(entry)
        self._logger.warning("counters_used_up", device=device.name)
