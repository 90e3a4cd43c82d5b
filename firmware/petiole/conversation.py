"""What a node and its gateway say to each other, in whichever session it is."""

from petiole import cbor, wire
from petiole.clock import Clock
from petiole.errors import LocalError, QueueFull
from petiole.items import Encoded, Measured, Request
from petiole.mail import Mail
from petiole.records import Reading, Record, varint
from petiole.session import MAX_QUEUE, Session

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import CborValue, Outbox

_TIME_QUESTIONS = 5  # a gateway that acknowledges so many and answers none has no time to tell
MAX_LIVE = 32  # readings that may be lost wait in the queue; newer ones are refused
_FEED_TO = MAX_QUEUE - 32  # readings leave room for requests, replies and the manifest
_ANSWER_TO = MAX_QUEUE - 16  # nothing that a peer sends fills the queue to the brim


class Conversation:
    """`manifest` is encoded."""

    def __init__(self, manifest: bytes, outbox: "Outbox") -> None:
        if 1 + len(manifest) > wire.MAX_MESSAGE:
            raise LocalError("manifest", "at most " + str(wire.MAX_MESSAGE - 1) + " bytes encoded")
        self.session: Session | None = None
        self.outbox = outbox
        self.clock = Clock()
        self.mail = Mail()
        self.dropped: dict[str, int] = {}
        self.manifest = manifest
        self._time_asked_at = 0
        self._question: Encoded | None = None  # for the time, until it is answered
        self._questions_left = 0
        self._fed_sequence = 0  # highest reading given to the session
        self._open: list[Request] = []
        self.seen: list[int] = []  # ids of requests that were executed, in this session
        self.executing: list[int] = []
        self._described: Encoded | None = None  # the manifest on its way
        self._events: list[tuple[object, ...]] = []  # not told yet

    # What the application says ---------------------------------------------------------------------------

    def publish(self, channel: int, value: object, now: int, is_confirmed: bool = True) -> Measured:
        """Queue a reading taken now. Raises QueueFull, or LocalError for a value that does not fit the wire."""
        data = cbor.encode(value)
        if len(data) > wire.MAX_VALUE:
            raise LocalError("value", "at most " + str(wire.MAX_VALUE) + " bytes encoded")
        if is_confirmed:
            return self.outbox.add(channel, now, data)
        item = Measured(channel, None, now, data)
        if self.session is None or len(self.session.queue) >= MAX_LIVE:
            raise QueueFull("live", "no session, or the link is too slow")
        self.session.send(item)
        return item

    def request(self, subject: str, arguments: object, timeout_ms: int, now: int) -> Request:
        """Queue a request to a subject. Raises QueueFull while 8 are open."""
        if len(self._open) >= wire.MAX_OPEN_REQUESTS:
            raise QueueFull("requests", "at most " + str(wire.MAX_OPEN_REQUESTS) + " open")
        if 1 + len(cbor.encode((0xFFFF, subject, arguments, timeout_ms))) > wire.MAX_MESSAGE:
            raise LocalError("arguments", "at most " + str(wire.MAX_MESSAGE) + " bytes encoded, with the subject")
        item = Request(subject, arguments, timeout_ms, now)
        self._open.append(item)
        try:
            if self.session is not None:
                self.session.send(item)
        except (QueueFull, MemoryError):
            self._open.remove(item)
            raise
        return item

    def reply(self, id: int, status: int, value: object) -> None:
        """Answer a command. A result too large, deep or long for a message becomes status 413; TypeError: no CBOR."""
        if id not in self.executing:
            return  # its session is gone
        try:
            data = _reply(id, status, value)
        except ValueError:
            data = b""
        if not 0 < len(data) <= wire.MAX_MESSAGE:
            data = _reply(id, wire.TOO_LARGE, "result")
        if self.session is not None:
            self.session.send(Encoded(data))
        self.executing.remove(id)

    def finish(self, item: int, status: int, value: object) -> None:
        """A mailbox item has ended. As `reply`; whether there is a session or not, the gateway will hear it."""
        self.mail.finish(item, status, value, self.session)

    def log(self, level: int, text: str) -> None:
        """A log line for the gateway, where the link itself carries none. Lost without a session."""
        if self.session is not None and len(self.session.queue) < MAX_LIVE:
            self.session.send(Encoded(bytes((wire.LOG,)) + cbor.encode((level, text[:160])), False))

    def sleep(self, seconds: int, listens: bool = False) -> None:
        """Announce that the node sleeps for about so long (0: unknown), now or when the next frame is answered."""
        if self.session is not None:
            self.session.notify(bytes((wire.SLEEP,)) + varint(2 * seconds + listens))

    def ask_time(self, now: int) -> None:
        """Ask for the time; the clock is set by the answer."""
        if self.session is not None:
            self._ask_time(self.session, now)

    def _ask_time(self, session: Session, now: int, left: int = _TIME_QUESTIONS) -> None:
        question = Encoded(bytes((wire.TIME_REQUEST,)))
        session.send(question)
        self._question = question
        self._questions_left = left - 1
        self._time_asked_at = now

    def _insist_on_time(self, session: Session, now: int) -> None:
        """An answer is said once, and may be lost while its question is acknowledged: then ask again."""
        if self._question is None or session.is_suspended:
            return
        if self._question.is_done and now - self._time_asked_at >= wire.TIMEOUT_INITIAL_MS:
            if self._questions_left:
                self._ask_time(session, now, self._questions_left)
            else:
                self._question = None

    # What time brings, and acks --------------------------------------------------------------------------

    def expire(self, now: int) -> "list[tuple[object, ...]]":
        """Events that time alone brings."""
        for item in [item for item in self._open if now >= item.expires_at]:
            self._events.append(("failed", item, "timed_out"))
            self._open.remove(item)
            item.is_done = True
        self._collect()  # what was acknowledged when there was no memory
        return self._told()

    def _told(self) -> "list[tuple[object, ...]]":
        events = self._events
        self._events = []
        return events

    def _collect(self) -> None:
        session = self.session
        if session is not None and session.acked_sequence >= self.outbox.oldest_sequence:
            self._trim(session.acked_sequence)

    def _trim(self, sequence: int) -> None:
        """Everything up to this number is durable: the gateway stores in order."""
        for item in self.outbox.items:
            if item.sequence is None or item.sequence > sequence:
                break
            self._events.append(("durable", item))
            item.is_done = True
        self.outbox.trim(sequence)

    def _feed(self) -> None:
        """Give the session the readings that it may send."""
        session = self.session
        if session is None:
            return
        oldest = self.outbox.oldest_sequence
        session.oldest_sequence = oldest
        start = max(self._fed_sequence + 1, oldest)
        end = oldest + min(len(self.outbox.items), wire.MAX_SEQUENCES_AHEAD)
        for sequence in range(start, end):
            if len(session.queue) >= _FEED_TO:
                break
            session.send(self.outbox.items[sequence - oldest])
            self._fed_sequence = sequence

    def _carry_over(self, old: Session | None, session: Session) -> None:
        """What the old session had not said: readings come from the outbox, requests go only if they never went."""
        for item in list(self._open):
            if item.id is None:
                session.send(item)
            else:
                self._events.append(("failed", item, "session_lost"))
                self._open.remove(item)
                item.is_done = True
        self.mail.renew(session)
        if old is None:
            return
        for left in old.unfinished():
            if isinstance(left, Measured) and left.sequence is None:
                session.send(left)

    # What the gateway says -------------------------------------------------------------------------------

    def _take(self, record: "Reading | Record", now: int) -> None:
        """Take one record: as a whole, or not at all."""
        session = self.session
        if isinstance(record, Reading) or session is None:
            return
        value = record.value
        if record.kind == wire.REQUEST:
            self._take_request(session, value)
        elif record.kind == wire.REPLY:
            self._take_reply(value)
        elif record.kind == wire.TIME:
            self._take_time(value, now)
        elif record.kind == wire.MANIFEST_REQUEST:
            if self._described is None or self._described.is_done:
                described = Encoded(bytes((wire.MANIFEST,)) + self.manifest)
                session.send(described)
                self._described = described
        elif record.kind == wire.PENDING:
            self.mail.pending = value
        elif record.kind == wire.AWAKE:
            self._events.append(("awake", min(value, wire.MAX_AWAKE_S)))
        elif record.kind == wire.MAIL:
            self._take_mail(session, value)
        elif record.kind == wire.POLICY:
            self._take_policy(value)
        elif record.kind < 0x40:
            self._count("unknown_extension")

    def _take_mail(self, session: Session, value: "CborValue") -> None:
        has_room = len(session.queue) < _ANSWER_TO
        reason = self.mail.take(value, session, self._events, has_room)
        if reason:
            self._count(reason)

    def _take_policy(self, value: "CborValue") -> None:
        if isinstance(value, list) and len(value) >= 2:
            period, spacing = value[0], value[1]
            if isinstance(period, int) and isinstance(spacing, int) and period >= 0 and spacing >= 0:
                self._events.append(("policy", min(period, wire.MAX_PERIOD_S), min(spacing, wire.MAX_SPACING_MS)))
                return
        self._count("malformed_record")

    def _take_request(self, session: Session, value: "CborValue") -> None:
        if not isinstance(value, list) or not 3 <= len(value) <= 4 or not isinstance(value[0], int):
            self._count("malformed_record")
            return
        id = value[0]
        if id in self.seen:
            return
        if len(session.queue) >= _ANSWER_TO:
            self._count("unexpected")  # far more than may be open: no answer would have room
            return
        if len(self.executing) >= wire.MAX_OPEN_REQUESTS:
            session.send(Encoded(_reply(id, wire.TOO_MANY, "busy")))
            self.seen.append(id)
        else:
            self._events.append(("command", id, value[1], value[2]))
            try:
                self.executing.append(id)
                self.seen.append(id)
            except MemoryError:
                self._events.pop()
                if id in self.executing:
                    self.executing.remove(id)
                raise
        if len(self.seen) > wire.REMEMBERED_REQUESTS:
            self.seen.pop(0)

    def _take_reply(self, value: "CborValue") -> None:
        if not isinstance(value, list) or len(value) != 3:
            self._count("malformed_record")
            return
        for item in self._open:
            if item.id == value[0] and item.id is not None:
                self._events.append(("reply", item, value[1], value[2]))
                self._open.remove(item)
                item.is_done = True
                return
        self._count("unexpected")

    def _take_time(self, value: "CborValue", now: int) -> None:
        session = self.session
        flags, time = value
        if session is not None:
            # TIME is sent at once, so it is half a fast round trip old at the most.
            srtt = session.recovery.srtt
            sent = self._time_asked_at if srtt is None else now - srtt
            self.clock.sample(time, sent, now, flags & 1 != 0)
            session.clock_offset = self.clock.offset
            session.messages_from = 0
            self._question = None

    def _count(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def _reply(id: int, status: int, value: object) -> bytes:
    return bytes((wire.REPLY,)) + cbor.encode((id, status, value))
