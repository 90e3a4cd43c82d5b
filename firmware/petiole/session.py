"""One session: frames in, records out, and the reverse, reliably (PROTOCOL.md, sections 4, 7, 8 and 11).

Sans-IO: `now` is an argument, in ms of a clock that never goes back. Both ends run this code; what only a node or
only a gateway knows is above it.
"""

from petiole import counter as counters
from petiole import filling, records, wire
from petiole import frame as frames
from petiole.acks import Acks
from petiole.errors import QueueFull
from petiole.incoming import Incoming
from petiole.items import Fragment, Item, Measured, is_confirmed, order_of
from petiole.messages import Messages
from petiole.reassembly import Reassembly
from petiole.records import Reading, Record, Writer
from petiole.recovery import Recovery

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import Trace
    from petiole.frame import Keys, Split

MAX_QUEUE = 160  # items: 127 readings on the wire and what else a node has to say
_ORDERS = 32  # places in the order for one item: itself and its fragments
_READINGS = 1 << 28  # added to the order of confirmed readings: everything else goes first


class Session:
    """`window`: frames in flight that ask for an ack."""

    floor = 0  # the highest counter that counts as opened from the start

    def __init__(self, keys: "Keys", address: int, window: int, now: int, send_counter: int = 1) -> None:
        self.keys = keys
        self.address = address
        self.is_addressed = False  # whether our frames carry the address; the link decides
        self.send_counter = send_counter
        self.acked_counter = 0  # highest of ours that the peer acknowledged
        self.recovery = Recovery(window)
        self.replay = counters.ReplayWindow(0)
        self.is_suspended = False  # the peer, or the node itself, sleeps
        self.queue: list[Item] = []
        self.dropped: dict[str, int] = {}
        self.opened_at = now
        self.silent_timeouts = 0  # since a frame was opened
        self.paused_until = 0  # confirmed readings wait: the gateway is busy
        self.messages_from = 0  # before, none is cut: the times in it could not be corrected
        self.acked_sequence = 0  # highest confirmed reading that is durable
        self.oldest_sequence = 0  # of the outbox
        self.dropped_readings = 0  # of the outbox, in its life
        self.needs_floor = False
        self.clock_offset: int | None = None  # time = now + offset
        self.trace: "Trace | None" = None  # sees every plaintext, for people who look on
        self._acks = Acks()
        self._notices: list[bytes] = []  # records that ask for no ack
        self._reassembly = Reassembly()
        self.messages = Messages()  # of ours
        self._order = 0

    # Sending -----------------------------------------------------------------------------------------------

    def send(self, item: Item) -> None:
        """Queue an item. Raises QueueFull."""
        if len(self.queue) >= MAX_QUEUE:
            self.queue = [waiting for waiting in self.queue if not waiting.is_done]
        if len(self.queue) >= MAX_QUEUE:
            raise QueueFull("queue", "at most " + str(MAX_QUEUE) + " items")
        self._order += _ORDERS
        item.order = self._order
        item.tries = 0
        if is_confirmed(item):
            item.order += _READINGS
            self.queue.append(item)
            return
        # A store that is slow to make readings durable must not hold up replies and requests.
        position = len(self.queue)
        while position and self.queue[position - 1].order > item.order:
            position -= 1
        self.queue.insert(position, item)

    def notify(self, data: bytes) -> None:
        """Encoded records that ask for no ack and go out with the next frame, at once."""
        self._notices.append(data)

    def suspend(self) -> None:
        """One of the ends sleeps. Until a frame is opened nothing is sent and no time runs out; then what was in flight
        is sent again."""
        self.is_suspended = True
        self.recovery.lose_all()
        self._acks.due.clear()  # whoever sleeps without an ack says it again

    @property
    def has_due_acks(self) -> bool:
        """Whether the next frame will carry an ack."""
        return bool(self._acks.due)

    def is_settled(self, now: int) -> bool:
        """Nothing is to be said, and all that was said is acknowledged. Ends of mail items are not waited for, and
        neither are readings that a busy gateway does not take."""
        if self._acks.due or self._notices or self.messages.open:
            return False
        is_paused = now < self.paused_until
        for item in self.recovery.unfinished() + self.queue:
            if item.is_awaited and not item.is_done and not (is_paused and is_confirmed(item)):
                return False
        return True

    def next_frame(self, now: int) -> bytes | None:
        """The next frame to send at `now`, or None. To be called until None after every event and at `deadline`."""
        if self.is_suspended or self.send_counter >= wire.COUNTER_LIMIT:
            return None
        self._recover(now)
        writer = Writer(self._room(), self.acked_sequence)
        taken = 0
        while taken < len(self._notices) and writer.add(self._notices[taken]):
            taken += 1
        is_urgent = bool(writer.data) or self._acks.are_due(now)
        is_waiting = self.recovery.can_send() and self._has_sendable(now)
        if not is_urgent and not is_waiting:
            return None
        if not is_waiting and not writer.data and len(self._acks.due) == 1:
            frame = frames.seal_ack(self.keys, self._acks.due[0][0], self._shown_address())
            self._acks.due.clear()
            return frame
        left = self._acks.write(writer)
        notices = self._notices[taken:]
        items: list[Item] = []
        kept = self.queue
        if is_waiting:
            items, kept = filling.fill(self, writer, now)
            if not writer.data:
                return None  # what waited turned out to be a third long message
        counter = self.send_counter
        id = counter & 0xFFFF
        frame = self._seal(writer, any(item.tries for item in items))
        awaited = [item for item in items if item.is_reliable]
        if awaited:
            self.recovery.sent(counter, awaited, now)
        # Told only now, and without a need for memory: what there was none for is still to be told, all of it.
        for item in items:
            item.left(id)
        self.queue = kept
        self._notices = notices
        self._acks.due = left
        return frame

    def _room(self) -> int:
        overhead = 1 + 4 + self.keys.tag_length
        return wire.MAX_FRAME - overhead - (2 if self.is_addressed else 0)

    def _shown_address(self) -> int | None:
        return self.address if self.is_addressed else None

    def _seal(self, writer: Writer, is_again: bool) -> bytes:
        counter = self.send_counter
        self.send_counter += 1
        plaintext = bytes(writer.data)
        if plaintext == bytes((wire.PING,)):
            plaintext = b""  # an empty frame asks the same
        if self.trace is not None:
            self.trace(False, counter, plaintext)
        is_long = is_again or counter - self.acked_counter >= wire.COUNTER_LONG_AFTER
        return frames.seal_data(self.keys, counter, plaintext, self._shown_address(), is_long)

    def is_held(self, item: Item, now: int) -> bool:
        """Whether it waits for something else than its turn."""
        if item.is_long and (self.messages.are_full or now < self.messages_from):
            return True
        if not isinstance(item, Measured) or item.sequence is None:
            return False
        return now < self.paused_until or item.sequence - self.oldest_sequence >= wire.MAX_SEQUENCES_AHEAD

    def _has_sendable(self, now: int) -> bool:
        return any(not item.is_done and not self.is_held(item, now) for item in self.queue)

    def message_writer(self) -> Writer:
        return Writer(wire.MAX_MESSAGE, None)  # the same bytes may be sent much later

    def time_at(self, moment: int, now: int) -> int:
        """The time of a moment of our clock. Without a clock the peer's view of `now` is unknown: 0 plus the age."""
        return moment + (self.clock_offset or 0)

    def write_floor(self, item: Measured, writer: Writer) -> bool:
        """FLOOR before the oldest reading: in the first frame of a session, and when it is sent again."""
        if item.sequence is None or item.sequence != self.oldest_sequence:
            return True
        if not self.needs_floor and not item.tries:
            return True
        floor = bytes((wire.FLOOR,)) + item.sequence.to_bytes(4, "big")
        return writer.add(floor + records.varint(self.dropped_readings))

    def _recover(self, now: int) -> None:
        if self.recovery.has_timed_out(now):
            self.silent_timeouts += 1
        again: list[Item] = [item for item in self.recovery.lost() if not item.is_done]
        again.extend(self.messages.again(now))
        queue = self.queue
        if again:
            queue = sorted(again + queue, key=order_of)
        # From here on no memory is needed: what was lost is queued once, or still lost.
        self.recovery.retry()
        self.messages.retry(now)
        self.queue = queue
        expired = self._reassembly.expire(now)
        if expired:
            self._drop("fragment_timeout", expired)

    # Receiving ---------------------------------------------------------------------------------------------

    def receive_ack(self, part: "Split", now: int) -> bool:
        """Take an ACK frame. False: it is none of ours."""
        low = part.header & 7
        for counter in self.recovery.counters():
            if counter & 7 == low and frames.opens_ack(self.keys, part, counter):
                self._opened(now)
                self._acked(counter, now)
                return True
        return False

    def receive_data(self, part: "Split", now: int, reference: int = 0) -> "Incoming | str":
        """Take a DATA frame, all of it. A string is a drop reason; "tag" may mean that it is another session's."""
        incoming = self.open_data(part, now, reference)
        if not isinstance(incoming, str):
            self.settle(incoming, now)
        return incoming

    def settle(self, incoming: Incoming, now: int) -> None:
        """The owner has taken the records of a frame, but those that are deferred: now it is acknowledged. Without, the
        peer says them again in another frame."""
        if incoming.whole is not None:
            self._say_taken(incoming.whole)
        if incoming.asks_for_ack:
            is_answered = any(isinstance(r, Record) and r.kind in (wire.REQUEST, wire.MAIL) for r in incoming.records)
            self._acks.add(incoming.counter, now + wire.ACK_DELAY_MS if is_answered else now)

    def open_data(self, part: "Split", now: int, reference: int = 0) -> "Incoming | str":
        """Open a DATA frame. A string is a drop reason. To be followed by `settle`."""
        value, bits, offset = frames.data_counter(part)
        if not bits:
            return "short"
        expected = self.replay.highest + 1
        counter, plaintext = frames.open_near(self.keys, part, value, bits, offset, expected, self.floor)
        if plaintext is None:
            return "tag"
        admitted = self._admit(counter, reference)
        if admitted is None:
            return "replayed"
        self.replay.mark(counter)
        self._opened(now)
        if self.trace is not None:
            self.trace(True, counter, plaintext)
        taken = records.taken(plaintext, admitted)
        if isinstance(taken, str):
            return taken
        incoming = Incoming(counter, records.asks_for_ack(taken))
        for record in taken:
            if isinstance(record, Record) and record.kind == wire.FRAGMENT:
                reason = self._reassemble(record, incoming, admitted, now)
                if reason:
                    return reason
            elif isinstance(record, Reading) or not self._consume(record, now):
                incoming.records.append(record)
            elif record.kind == wire.ACKS:
                incoming.has_acks = True
        return incoming

    def _admit(self, counter: int, reference: int) -> "int | None":
        """What short sequence numbers in the frame with this counter are relative to; None if it was opened before."""
        return reference if self.replay.check(counter) else None

    def _reassemble(self, record: Record, incoming: Incoming, reference: int, now: int) -> str:
        """Give the records of the message to `incoming` if this part makes it whole. Return a drop reason, or ""."""
        message = record.value[0]
        whole = self._reassembly.add(record.value, now)
        if isinstance(whole, str):
            return whole
        if whole is None:
            return ""
        inner = records.taken(whole, reference, True) if whole else []
        if isinstance(inner, str):
            if inner != "memory":
                self._reassembly.release(message)
            return inner
        incoming.own = len(incoming.records)
        incoming.records.extend(inner)
        incoming.whole = message
        return ""

    def _say_taken(self, message: int) -> None:
        self._reassembly.take(message)
        self.notify(bytes((wire.MESSAGE_TAKEN, message)))

    def _opened(self, now: int) -> None:
        self.opened_at = now
        self.silent_timeouts = 0
        self.is_suspended = False

    def _consume(self, record: Record, now: int) -> bool:
        """Records that concern the session itself. False: for the owner."""
        if record.kind == wire.ACKS:
            low, bitmap = record.value
            highest = self.send_counter - 1 - ((self.send_counter - 1 - low) & 255)
            self._acked(highest, now)
            for bit in range(8):
                if bitmap >> bit & 1:
                    self._acked(highest - 1 - bit, now)
        elif record.kind == wire.BUSY:
            self.paused_until = now + 1000 * max(1, min(record.value, 300))
        elif record.kind == wire.COUNTER_FLOOR:
            if record.value >= self.send_counter:
                self.send_counter = record.value + 1
                self.recovery.lose_all()
        elif record.kind == wire.MESSAGE_TAKEN:
            message = self.messages.find(record.value)
            if message is not None:
                self._finished(message.item)
                self.messages.close(message)
        else:
            return record.kind == wire.PING
        return True

    def _acked(self, counter: int, now: int) -> None:
        sent = self.recovery.acked(counter, now)
        if sent is None:
            return
        self.acked_counter = max(self.acked_counter, counter)
        for item in sent.items:
            if not item.is_done:
                if isinstance(item, Fragment):
                    item.message_of.arrived(item, now, self.recovery.timeout_ms())
                else:
                    self._finished(item)
        self.recovery.forget(sent)  # not before: what is left of it then is sent again

    def _finished(self, item: Item) -> None:
        item.is_done = True
        if isinstance(item, Measured) and item.sequence is not None:
            self.acked_sequence = max(self.acked_sequence, item.sequence)
            self.needs_floor = False

    def _drop(self, reason: str, number: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + number

    # Time --------------------------------------------------------------------------------------------------

    def deadline(self, now: int) -> int | None:
        """When `next_frame` is to be called again without any other event; at most `now` if at once."""
        if self.is_suspended:
            return None
        times = [due for _, due in self._acks.due]
        if self._notices:
            times.append(now)
        for candidate in (self.recovery.deadline(), self._reassembly.deadline(), self.messages.deadline()):
            if candidate is not None:
                times.append(candidate)
        if self.recovery.can_send():
            if self._has_sendable(now):
                times.append(now)
            elif self.queue:
                times.extend(moment for moment in (self.paused_until, self.messages_from) if now < moment)
        return min(times) if times else None

    def unfinished(self) -> "list[Item]":
        """Items that were neither acknowledged nor given up, oldest first, whether in flight or queued."""
        return [item for item in self.recovery.unfinished() + self.queue if not item.is_done]
