"""The hub: frames from links in, readings, requests and replies out, and the reverse. Knows no NATS.

Everything runs in one event loop; nothing here waits but the few coroutines that say so.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from petiole import frame as frames
from petiole import wire
from petiole.items import Request

from . import commands
from .conversation import Conversation
from .device import RESERVE, RESERVE_AHEAD, Device, DeviceSession, OpenRequest
from .joins import JoinDesk
from .policy import Policy
from .ports import Busy, CommandError, Logger, Place, Records, Requester, Uplinks
from .roster import Roster
from .tap import Tap
from .uplinks import Taken

# PROTOCOL.md, section 6: enough for a site whose gateway was replaced, too little to be an amplifier.
REJECTS_PER_S = 4
MAX_TIMEOUT_S = 300.0


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Hub:
    """`receive` is called by links with what came, `durable` by the store with what is on disk."""

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
    ) -> None:
        self.dropped: dict[str, int] = {}
        self.frames_total = {"up": 0, "down": 0}
        self.tap = Tap(wall)
        self._uplinks = uplinks
        self._logger = logger
        self._clock = clock
        self._wall = wall
        self.roster = Roster(registry, sessions, self._submit, logger)
        self._joins = JoinDesk(self.roster, uplinks, logger, clock, wall, is_clock_doubtful)
        self._conversation = Conversation(
            requester,
            policy or Policy(),
            logger,
            clock,
            wall,
            is_clock_doubtful,
            self._spawn,
            self.flush,
            self._changed,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rejected_at: dict[str, list[int]] = {}

    def _submit(self, device: str, sequence: int, taken: Taken) -> None:
        self._uplinks.submit(device, sequence, taken.channel, taken.payload)

    # Life --------------------------------------------------------------------------------------------------

    async def start(self, with_sessions: bool = True) -> None:
        """Load devices and sessions. Without sessions every node joins anew: after a power cut stored counters
        may be older than what was used."""
        await self.roster.load(self._clock(), with_sessions)

    async def stop(self) -> None:
        """Fail what is open and end all tasks. Frames that wait for their readings are not acknowledged any more."""
        for device in self.roster.devices.values():
            if device.timer is not None:
                device.timer.cancel()
                device.timer = None
            self._fail_open(device, None, "the gateway stops")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._logger.error("task_failed", error=repr(task.exception()))

    # Devices -----------------------------------------------------------------------------------------------

    async def add_device(self, name: str, key: bytes | None = None) -> Device:
        """Register a device, with a fresh key unless one is given. CommandError 400 or 409."""
        device = await self.roster.add(name, key or secrets.token_bytes(wire.KEY_LENGTH), self._wall())
        self._logger.info("device_added", device=name, id=device.id.hex())
        return device

    async def remove_device(self, name: str) -> None:
        """Forget a device. CommandError 404."""
        device = self.device(name)
        self._fail_open(device, None, "the device was removed")
        if device.timer is not None:
            device.timer.cancel()
        await self.roster.remove(device)
        self._logger.info("device_removed", device=name)

    def device(self, name: str) -> Device:
        """The device of this name. CommandError 404."""
        device = self.roster.devices.get(name)
        if device is None:
            raise CommandError(404, f"no device {name}")
        return device

    # Frames in ---------------------------------------------------------------------------------------------

    def receive(self, place: Place, frame: bytes) -> None:
        """A frame has come. Whatever it is, this neither raises nor waits."""
        self.frames_total["up"] += 1
        part = frames.split(frame)
        if isinstance(part, str):
            self._drop(place, frame, part)
        elif part.type == wire.JOIN_REQUEST:
            self._spawn(self._join(place, part, frame))
        elif part.type in (wire.DATA, wire.ACK):
            self._receive_sealed(place, part, frame)
        else:
            self._drop(place, frame, "unexpected")

    async def _join(self, place: Place, part: frames.Split, frame: bytes) -> None:
        reason = await self._joins.receive(place, part, frame)
        self.tap.frame(place.link.name, True, frame, None, None, reason or None)
        if reason:
            self._count(reason)

    def _receive_sealed(self, place: Place, part: frames.Split, frame: bytes) -> None:
        now = self._clock()
        is_known = False
        for entry in self.roster.candidates(part.address, place):
            is_known = True
            device = entry.device
            if not device.uplinks.is_known:
                self._learn(device, place, frame)
                return
            session = entry.session
            if part.type == wire.ACK:
                if session.receive_ack(part, now):
                    self._opened(entry, place, part, now)
                    self.tap.frame(place.link.name, True, frame, device, None, None)
                    self.flush(entry)
                    return
                continue
            if entry.reserved_receive and session.replay.highest >= entry.reserved_receive:
                # The next bound is not stored yet; the node sends again.
                self._drop(place, frame, "unexpected")
                self._reserve(entry)
                return
            with self.tap.watching(place.link.name, True, frame, device, session):
                incoming = session.receive_data(part, now, device.uplinks.taken)
            if incoming == "tag":
                continue
            if isinstance(incoming, str):
                if entry.place is None:
                    self.roster.move(entry, place)  # after a restart; COUNTER_FLOOR has to go somewhere
                device.count_drop(incoming)
                self._count(incoming)
                self.flush(entry)
                return
            self._opened(entry, place, part, now)
            self._conversation.take(entry, incoming, now)
            self.flush(entry)
            return
        if part.type == wire.ACK and is_known:
            self._drop(place, frame, "unexpected")
            return
        self._drop(place, frame, "unknown_session")
        if part.type == wire.DATA and self._may_reject(place, now):
            place.send(frames.reject(part, wire.REJECT_SESSION))

    def _opened(self, entry: DeviceSession, place: Place, part: frames.Split, now: int) -> None:
        device = entry.device
        if entry is not device.current:
            self._promote(entry)
        self.roster.move(entry, place)
        entry.session.is_addressed = place.link.answers_addressed and part.address is not None
        device.last_seen_at = self._wall()
        device.asleep_until = None
        device.frames_total += 1

    def _promote(self, entry: DeviceSession) -> None:
        device = entry.device
        old = self.roster.promote(entry)
        if old is not None:
            device.uplinks.forget_session(old.session)
            self._fail_open(device, old, "the device joined anew; the outcome is unknown")
        device.joined_at = self._wall()
        device.reset_reason = entry.reset_reason
        # The count on the wire is its lowest byte.
        device.boot_count += (entry.boot - device.boot_count) & 0xFF
        device.remembered_requests.clear()
        device.uplinks.is_open = device.manifest is not None and device.manifest_hash == entry.manifest_hash
        if not device.uplinks.is_open:
            self._conversation.ask_manifest(entry)
        self._logger.info(
            "device_joined",
            device=device.name,
            link=entry.place.link.name if entry.place else "",
            boot=device.boot_count,
            reset_reason=entry.reset_reason,
        )
        self._changed(device)

    def _changed(self, device: Device) -> None:
        self._spawn(self._store(device))

    async def _store(self, device: Device) -> None:
        try:
            await self.roster.store(device)
        except Busy as busy:
            # Boot count and manifest come again with the next join.
            self._logger.warning("device_not_stored", device=device.name, reason=busy.reason)

    def _learn(self, device: Device, place: Place, frame: bytes) -> None:
        """After a restart: keep the device's frames until it is known what is stored of it."""
        if len(device.stashed) < wire.WINDOW_UPLINK:
            device.stashed.append((place, frame))
        if not device.is_learning:
            device.is_learning = True
            self._spawn(self._read_sequence(device))

    async def _read_sequence(self, device: Device) -> None:
        try:
            device.uplinks.learn(await self._uplinks.last_sequence(device.name))
            if device.current is not None and not device.current.is_storing:
                device.current.is_storing = True
                await self._store_session(device.current)
        except Busy as busy:
            self._logger.warning("sequence_unknown", device=device.name, reason=busy.reason)
        finally:
            device.is_learning = False
            stashed, device.stashed = device.stashed, []
        if device.uplinks.is_known:
            for place, frame in stashed:
                self.receive(place, frame)

    # Frames out --------------------------------------------------------------------------------------------

    def flush(self, entry: DeviceSession) -> None:
        """Send what the session has to say now, and come back when it has more."""
        place = entry.place
        device = entry.device
        now = self._clock()
        if place is not None and entry is device.current:
            while not entry.reserved_send or entry.session.send_counter < entry.reserved_send:
                with self.tap.watching(place.link.name, False, None, device, entry.session) as seen:
                    frame = entry.session.next_frame(now)
                    seen.frame = frame
                if frame is None:
                    break
                self.frames_total["down"] += 1
                place.send(frame)
            self._reserve(entry)
        self._arm(device, now)

    def _reserve(self, entry: DeviceSession) -> None:
        """Store counters ahead of their use, so that a restart neither repeats one nor takes one twice."""
        session = entry.session
        is_short = (
            entry.reserved_send - session.send_counter < RESERVE_AHEAD
            or entry.reserved_receive - session.replay.highest < RESERVE_AHEAD
        )
        if is_short and not entry.is_storing:
            entry.is_storing = True
            self._spawn(self._store_session(entry))

    async def _store_session(self, entry: DeviceSession) -> None:
        send = entry.session.send_counter + RESERVE
        receive = entry.session.replay.highest + RESERVE
        try:
            await self.roster.store_session(entry, send, receive)
            entry.reserved_send, entry.reserved_receive = send, receive
        except Busy as busy:
            self._logger.warning("session_not_stored", device=entry.device.name, reason=busy.reason)
            await asyncio.sleep(busy.retry_after_s)
        finally:
            entry.is_storing = False
        if entry is entry.device.current:
            self.flush(entry)

    def _arm(self, device: Device, now: int) -> None:
        times = [entry.created_at + wire.PROVISIONAL_MS for entry in device.provisional]
        if device.current is not None and device.current.place is not None:
            deadline = device.current.session.deadline(now)
            if deadline is not None:
                times.append(deadline)
        if device.timer is not None:
            device.timer.cancel()
            device.timer = None
        if times:
            delay_s = max(0, min(times) - now) / 1000
            device.timer = asyncio.get_running_loop().call_later(delay_s, self._due, device)

    def _due(self, device: Device) -> None:
        device.timer = None
        self._joins.expire(device)
        if device.current is not None:
            self.flush(device.current)
        else:
            self._arm(device, self._clock())

    # What the store says -----------------------------------------------------------------------------------

    def durable(self, entries: Sequence[tuple[str, int]]) -> None:
        """These (device, sequence) are on disk."""
        highest = dict(entries)  # in order of sequence per device, so the last one counts
        now = self._clock()
        for name, sequence in highest.items():
            device = self.roster.devices.get(name)
            if device is None:
                continue
            device.uplinks.became_durable(sequence)
            if device.uplinks.acknowledge(now) and device.current is not None:
                self.flush(device.current)

    # Commands ----------------------------------------------------------------------------------------------

    async def command(self, name: str, command: str, arguments: Any, timeout_s: float) -> Any:
        """Have a device execute a command of its manifest; return the result. CommandError otherwise."""
        device = self.device(name)
        entry = device.current
        state = device.state(self._clock())
        if entry is None:
            raise CommandError(503, f"{name} has not joined")
        if state == "asleep":
            raise CommandError(503, f"{name} is asleep{self._next_wake(device)}")
        if device.manifest is None:
            raise CommandError(503, f"{name} has not said yet what it can do")
        known = device.channels.command(command)
        if known is None:
            has = ", ".join(device.channels.command_names) or "none"
            raise CommandError(404, f"{name} has no command {command}; it has {has}")
        number, declared = known
        checked = commands.check(command, arguments, declared)
        if state == "offline":
            raise CommandError(503, f"{name} is offline")
        if len(device.open_requests) >= wire.MAX_OPEN_REQUESTS:
            raise CommandError(429, f"{name} has {wire.MAX_OPEN_REQUESTS} commands open")
        timeout_s = min(timeout_s, MAX_TIMEOUT_S)
        item = Request(number, checked, int(timeout_s * 1000), self._clock())
        open_request = OpenRequest(item, asyncio.get_running_loop().create_future(), entry.session)
        if len(item.message(entry.session, self._clock())) > wire.MAX_MESSAGE:
            raise CommandError(413, f"arguments of more than {wire.MAX_MESSAGE} bytes")
        item.id = None  # it is given by the frame that carries the request first
        device.open_requests.append(open_request)
        entry.session.send(item)
        self.flush(entry)
        try:
            return await asyncio.wait_for(open_request.answered, timeout_s)
        except TimeoutError:
            raise CommandError(408, f"{name} did not answer within {timeout_s:g} s") from None
        finally:
            item.is_done = True
            if open_request in device.open_requests:
                device.open_requests.remove(open_request)

    def _next_wake(self, device: Device) -> str:
        if not device.asleep_until:
            return ""
        return f", next wake in {max(0, device.asleep_until - self._clock()) // 1000} s"

    def _fail_open(self, device: Device, ended: DeviceSession | None, text: str) -> None:
        for entry in list(device.open_requests):
            if ended is None or entry.session is ended.session:
                device.open_requests.remove(entry)
                if not entry.answered.done():
                    entry.answered.set_exception(CommandError(503, f"{device.name}: {text}"))

    # Counting ----------------------------------------------------------------------------------------------

    def _drop(self, place: Place, frame: bytes, reason: str) -> None:
        self._count(reason)
        self.tap.frame(place.link.name, True, frame, None, None, reason)

    def _count(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _may_reject(self, place: Place, now: int) -> bool:
        recent = [at for at in self._rejected_at.get(place.link.name, ()) if now - at < 1000]
        self._rejected_at[place.link.name] = recent
        if len(recent) >= REJECTS_PER_S:
            return False
        recent.append(now)
        return True
