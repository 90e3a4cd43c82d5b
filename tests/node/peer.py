"""The gateway's end of the protocol over real links, for one device: the core's own, with readings kept in a list.

No NATS and no devices but one; what is durable is in `readings`.
"""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from petiole import cbor, join, manifest, wire
from petiole import frame as frames
from petiole.gateway_session import GatewaySession
from petiole.incoming import Incoming
from petiole.items import Encoded, Request
from petiole.records import Reading, Record
from petiole_gateway.aead import AesCcm

from .peer_ports import SerialPort, UdpPort

Place = Callable[[bytes], None]


def aead(key: bytes, tag_length: int) -> AesCcm:
    return AesCcm(key, tag_length)


class Peer:
    def __init__(self, key: bytes, seed: int = 1, commit_s: float = 0.01) -> None:
        self.key = key
        self.commit_s = commit_s
        self.is_deaf = False  # frames arrive and nothing happens: the process hangs
        self.acks_readings = True
        self.refusal: int | None = None
        self.readings: list[tuple[int, Any, int]] = []  # (channel, value, time) in order, durable
        self.live: list[tuple[int, Any]] = []
        self.lines: list[str] = []  # of a console
        self.logs: list[tuple[int, str]] = []
        self.manifest: dict[str, Any] = {}
        self.services: dict[str, Callable[[Any], tuple[int, Any]]] = {}
        self.joins: list[join.JoinRequest] = []  # of sessions that became current
        self.frames_total = 0
        self.repeats_total = 0  # of them with nothing but readings that came before
        self.answers_total = 0  # frames of sessions to the node
        self.dropped: dict[str, int] = {}
        self.taken = 0  # sequence: in memory without a gap
        self.durable = 0  # on the disk
        self._told = 0  # sequence, in the last accept for a node without a memory of its numbers
        self.rejects_total = 0
        self.on_record: list[Callable[[Reading | Record], None]] = []
        self.on_join: list[Callable[[], None]] = []  # a session became current
        self._random = random.Random(seed)
        self._current: GatewaySession | None = None
        self._provisional: list[tuple[GatewaySession, join.JoinRequest]] = []
        self._accepts: dict[bytes, bytes] = {}
        self._place: Place | None = None
        self._written: list[tuple[float, int, tuple[int, Any, int]]] = []  # taken, and durable at that time
        self._join_asked_at: float | None = None
        self.join_s = 0.0  # from the first request to the first frame of the session
        self._held: dict[int, tuple[int, Any, int]] = {}
        self._uncommitted: list[tuple[GatewaySession, Incoming]] = []
        self._requests: dict[int, asyncio.Future[tuple[int, Any]]] = {}
        self._sent: list[tuple[Request, asyncio.Future[tuple[int, Any]]]] = []
        self._last_time = 0
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.links: list[SerialPort | UdpPort] = []

    @property
    def session(self) -> GatewaySession | None:
        """The current one."""
        return self._current

    # Links and life ----------------------------------------------------------------------------------------

    def serial(self, path: Path, kind: str) -> SerialPort:
        link = SerialPort(self, path, kind)
        self.links.append(link)
        return link

    def udp(self, port: int = 0, host: str = "127.0.0.1") -> UdpPort:
        link = UdpPort(self, port, host)
        self.links.append(link)
        return link

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.links = []
        if self._timer is not None:
            self._timer.cancel()

    def forget(self) -> None:
        """A restart of a gateway that keeps no sessions: what was not durable is gone."""
        self._current = None
        self._provisional = []
        self._accepts = {}
        self._held = {}
        self._written = []
        self.taken = self.durable
        self._uncommitted = []

    # Waiting -----------------------------------------------------------------------------------------------

    async def wait(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        """Return when something has happened after which the condition holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def pause(self, seconds: float) -> None:
        """Let time pass, where the time itself is what is tested."""
        await asyncio.sleep(seconds)

    async def more_readings(self, number: int, timeout_s: float = 30) -> None:
        before = len(self.readings)
        await self.wait(lambda: len(self.readings) >= before + number, timeout_s)

    async def wait_for_frames(self, number: int, timeout_s: float = 30) -> None:
        """Until so many frames have come in all, taken or not."""
        await self.wait(lambda: self.frames_total >= number, timeout_s)

    @staticmethod
    def time() -> int:
        return time.time_ns() // 1_000_000

    async def joined(self, number: int = 1, timeout_s: float = 30) -> None:
        await self.wait(lambda: len(self.joins) >= number, timeout_s)
        await self.wait(lambda: bool(self.manifest), timeout_s)

    async def line(self, text: str, timeout_s: float = 30) -> str:
        await self.wait(lambda: any(text in line for line in self.lines), timeout_s)
        return next(line for line in self.lines if text in line)

    def values(self, channel: str) -> list[Any]:
        number = next(entry[0] for entry in self.manifest["ch"] if entry[1] == channel)
        return [value for at, value, _ in self.readings if at == number]

    def ask_manifest(self) -> None:
        assert self._current is not None
        self._current.send(Encoded(bytes((wire.MANIFEST_REQUEST,))))
        self._flush()

    def say_busy(self, seconds: int) -> None:
        """Tell the node that readings cannot be stored now."""
        assert self._current is not None
        self._current.notify(bytes((wire.BUSY, seconds)))
        self._flush()

    # Requests ----------------------------------------------------------------------------------------------

    async def command(self, name: str, arguments: Any = None, timeout_s: float = 20) -> tuple[int, Any]:
        """Call a command of the node by its name; return (status, value)."""
        return await asyncio.wait_for(self.call(name, arguments, timeout_s), timeout_s)

    def call(self, name: str, arguments: Any = None, timeout_s: float = 20) -> "asyncio.Future[tuple[int, Any]]":
        number = next((entry[0] for entry in self.manifest["cmd"] if entry[1] == name), 999)
        assert self._current is not None
        item = Request(number, arguments, int(timeout_s * 1000), self._now())
        answer: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        self._sent.append((item, answer))
        self._current.send(item)
        self._flush()
        return answer

    # Frames ------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes, place: Place) -> None:
        self.frames_total += 1
        self._changed.set()
        if self.is_deaf:
            return
        part = frames.split(frame)
        reason = part if isinstance(part, str) else self._receive(part, frame, place)
        if reason:
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._flush()
        self._changed.set()

    def say(self, lines: list[str]) -> None:
        self.lines += lines
        self._changed.set()

    def _receive(self, part: frames.Split, frame: bytes, place: Place) -> str:
        now = self._now()
        if part.type == wire.JOIN_REQUEST:
            return self._join(part, frame, place)
        sessions = [entry[0] for entry in self._provisional]
        if self._current is not None:
            sessions.insert(0, self._current)
        if part.type == wire.ACK:
            return "" if any(session.receive_ack(part, now) for session in sessions) else "unexpected"
        for session in sessions:
            incoming = session.receive_data(part, now, self.taken)
            if incoming == "tag":
                continue
            if isinstance(incoming, str):
                return incoming
            self._place = place
            self._promote(session)
            if self.manifest.get("p", [0])[0]:
                session.recovery.wake(now)  # as a gateway does for a device that sleeps
            readings = [record for record in incoming.records if isinstance(record, Reading)]
            self.repeats_total += bool(readings) and all(map(self._has, readings))
            for record in incoming.records:
                self._take(record)
            if incoming.is_deferred and self.acks_readings:
                self._uncommitted.append((session, incoming))
            return ""
        self.rejects_total += 1
        place(frames.reject(part, wire.REJECT_SESSION))
        return "unknown_session"

    def _join(self, part: frames.Split, frame: bytes, place: Place) -> str:
        if self._join_asked_at is None:
            self._join_asked_at = time.monotonic()
        if self.refusal is not None:
            place(frames.reject(part, self.refusal))
            return "refused"
        request = join.open_request(aead, self.key, frame)
        if request is None:
            place(frames.reject(part, wire.REJECT_JOIN))
            return "tag"
        if frame not in self._accepts:
            self._last_time = max(self._last_time + 1, time.time_ns() // 1_000_000)
            nonce = self._last_time.to_bytes(6, "big") + self._random.randbytes(1)
            address = 1 + self._random.randrange(300)
            # Without memory of its numbers the node must not use one again that is still on its way to the disk.
            sequence = self.durable
            if request.wants_full_sequence:
                sequence = self.taken
                if self._current is not None or self._provisional:
                    # What the session before may still bring goes up to 127 above what was told for it.
                    sequence = max(sequence, self._told) + wire.MAX_SEQUENCES_AHEAD
                self._told = sequence
            answer, keys = join.accept(aead, self.key, request, address, sequence, nonce)
            self._accepts[frame] = answer
            session = GatewaySession(keys, address, wire.WINDOW_DOWNLINK, self._now())
            self._provisional = [*self._provisional[-1:], (session, request)]
        place(self._accepts[frame])
        return ""

    def _promote(self, session: GatewaySession) -> None:
        for provisional, request in self._provisional:
            if provisional is session:
                self._provisional = []
                self._current = session
                self._held = {}
                self._uncommitted = []
                self.joins.append(request)
                self.join_s = time.monotonic() - (self._join_asked_at or 0)
                self._join_asked_at = None
                if not self.manifest or manifest.digest(cbor.encode(self.manifest)) != request.manifest_hash:
                    self.manifest = {}
                    session.send(Encoded(bytes((wire.MANIFEST_REQUEST,))))
                for joined in self.on_join:
                    joined()
                return

    def _take(self, record: Reading | Record) -> None:
        for take in self.on_record:
            take(record)
        if isinstance(record, Reading):
            self._take_reading(record)
            return
        value = record.value
        if record.kind == wire.FLOOR:
            if value[0] - 1 > self.taken:
                # The gap is closed; what is on its way to the disk stays below it.
                self.taken = value[0] - 1
                self.durable = max(self.durable, self.taken if not self._written else 0)
        elif record.kind == wire.MANIFEST:
            assert manifest.check(value) == ""
            self.manifest = value
        elif record.kind == wire.LOG:
            self.logs.append((value[0], value[1]))
        elif record.kind == wire.REQUEST:
            service = self.services.get(value[1])
            status, result = service(value[2]) if service else (wire.NOT_FOUND, "no responders")
            assert self._current is not None
            self._current.send(Encoded(bytes((wire.REPLY,)) + cbor.encode((value[0], status, result))))
        elif record.kind == wire.REPLY:
            for entry in self._sent:
                if entry[0].id == value[0] and not entry[1].done():
                    entry[1].set_result((value[1], value[2]))
        elif record.kind == wire.TIME_REQUEST:
            assert self._current is not None
            self._current.notify(bytes((wire.TIME, 0)) + (time.time_ns() // 1_000_000).to_bytes(6, "big"))

    def _has(self, reading: Reading) -> bool:
        return reading.sequence is not None and (reading.sequence <= self.taken or reading.sequence in self._held)

    def _take_reading(self, reading: Reading) -> None:
        if reading.sequence is None:
            self.live.append((reading.channel, reading.value))
            return
        at = reading.at_ms
        if at is None:
            at = time.time_ns() // 1_000_000 - (reading.age_ms or 0)
        if reading.sequence > self.taken:
            self._held[reading.sequence] = (reading.channel, reading.value, at)

    def _commit(self) -> None:
        now = time.monotonic()
        while self.taken + 1 in self._held and self.acks_readings:
            self.taken += 1
            self._written.append((now + self.commit_s, self.taken, self._held.pop(self.taken)))
            asyncio.get_running_loop().call_later(self.commit_s + 0.001, self._flush)
        while self._written and self._written[0][0] <= now:
            _, self.durable, reading = self._written.pop(0)
            self.readings.append(reading)
        kept = []
        for session, incoming in self._uncommitted:
            sequences = [r.sequence for r in incoming.records if isinstance(r, Reading) and r.sequence is not None]
            if all(sequence <= self.durable for sequence in sequences):
                session.acknowledge(incoming, self._now())
            else:
                kept.append((session, incoming))
        self._uncommitted = kept

    def _flush(self) -> None:
        self._commit()
        session, place = self._current, self._place
        if session is None or place is None:
            return
        while not self.is_deaf and (frame := session.next_frame(self._now())) is not None:
            self.answers_total += 1
            place(frame)
        if self._timer is not None:
            self._timer.cancel()
        deadline = session.deadline(self._now())
        if deadline is not None:
            delay = max(1, deadline - self._now()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, self._flush)
        self._changed.set()

    @staticmethod
    def _now() -> int:
        return time.monotonic_ns() // 1_000_000
