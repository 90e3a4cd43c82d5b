"""What a session still has to say: each item writes itself into a frame, as often as it takes."""

from petiole import cbor, reassembly, wire

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.records import Writer
    from petiole.session import Session


_MAX_AGE_MS = 0xFFFFFFFF


class Item:
    """`is_reliable`: sent until acknowledged. `is_awaited`: a node does not sleep before it is. `tries`: frames that
    carried it. `is_done`: acknowledged or given up."""

    is_reliable = True
    is_awaited = True

    def __init__(self) -> None:
        self.tries = 0
        self.is_done = False
        self.is_long = False  # too long for a frame
        self.order = 0  # in its session; what is sent again goes back to its place

    def write(self, writer: "Writer", session: "Session", now: int) -> bool:
        """Add the records to the frame, or return False and add nothing."""
        raise NotImplementedError()

    def message(self, session: "Session", now: int) -> bytes:
        """The records as a message of their own, for fragments: without ages."""
        raise NotImplementedError()

    def left(self, id: int) -> None:
        """A frame is made that carries it, or its first part. Needs no memory. `id`: lowest 16 bits of its counter."""
        self.tries += 1
        if not self.is_reliable:
            self.is_done = True


class Encoded(Item):
    """Records whose bytes never change."""

    def __init__(self, data: bytes, is_reliable: bool = True) -> None:
        super().__init__()
        self.data = data
        self.is_reliable = is_reliable

    def write(self, writer: "Writer", session: "Session", now: int) -> bool:
        return writer.add(self.data)

    def message(self, session: "Session", now: int) -> bytes:
        return self.data


class Request(Item):
    """A REQUEST. `id` is None until a frame carries it; `expires_at` is ours, in the caller's clock."""

    def __init__(self, target: "int | str", arguments: object, timeout_ms: int, now: int) -> None:
        super().__init__()
        self.id: int | None = None
        self.expires_at = now + timeout_ms
        self._body = (target, arguments, timeout_ms)

    def write(self, writer: "Writer", session: "Session", now: int) -> bool:
        if self.id is None and writer.has_request:
            return False  # ids are counters of frames: two new ones in a frame would be the same
        if not writer.add(self._encode(session)):
            return False
        if self.id is None:
            writer.has_request = True
        return True

    def message(self, session: "Session", now: int) -> bytes:
        return self._encode(session)

    def left(self, id: int) -> None:
        if self.id is None:
            self.id = id
        super().left(id)

    def _encode(self, session: "Session") -> bytes:
        target, arguments, timeout_ms = self._body
        id = session.send_counter & 0xFFFF if self.id is None else self.id
        return bytes((wire.REQUEST,)) + cbor.encode((id, target, arguments, timeout_ms))


class Measured(Item):
    """A reading on its way. `taken` is in the clock of `now`; `sequence` is None for a live one, and for one that has
    none yet. `outcome`: "stored" or "refused" by an outbox that does not keep it in RAM any more."""

    outcome = ""

    def __init__(self, channel: int, sequence: int | None, taken: int, value: bytes) -> None:
        super().__init__()
        self.channel = channel
        self.sequence = sequence
        self.taken = taken
        self.value = value
        self.is_reliable = sequence is not None

    def write(self, writer: "Writer", session: "Session", now: int) -> bool:
        before = len(writer.data)
        # An age has 32 bits, 49 days; a time of ours needs the clock.
        is_old = now - self.taken > _MAX_AGE_MS and session.clock_offset is not None
        at = session.time_at(self.taken, now) if is_old else None
        if session.write_floor(self, writer) and writer.reading(
            self.channel, self.sequence, self.taken, now, self.value, at
        ):
            return True
        writer.data[before:] = b""
        return False

    def message(self, session: "Session", now: int) -> bytes:
        writer = session.message_writer()
        session.write_floor(self, writer)
        at = session.time_at(self.taken, now)
        writer.reading(self.channel, self.sequence, self.taken, now, self.value, at)
        return bytes(writer.data)


def is_confirmed(item: Item) -> bool:
    """It is a reading that has a sequence number."""
    return isinstance(item, Measured) and item.sequence is not None


def order_of(item: Item) -> int:
    """Its place among the items of its session."""
    return item.order


class Fragment(Item):
    """One part of a message. An ack says that it arrived, no more."""

    def __init__(self, message: "Message", index: int, data: bytes) -> None:
        super().__init__()
        self.order = message.item.order + 1 + index
        self.message_of = message
        self.record = reassembly.fragment(message.number, index, data)

    def write(self, writer: "Writer", session: "Session", now: int) -> bool:
        return writer.add(self.record)


class Message:
    """An item too long for a frame, in parts, until the peer says that it has taken the whole."""

    def __init__(self, item: Item, number: int, data: bytes) -> None:
        self.item = item
        self.number = number
        self.parts = [Fragment(self, index, data) for index in range(reassembly.count(len(data)))]
        self._last = self.parts[-1:]
        self.probe_at: int | None = None  # all parts have arrived; when to ask what became of them
        self.probes = 0

    def arrived(self, arrived: Fragment, now: int, timeout_ms: int) -> None:
        """A part was acknowledged."""
        if self.probe_at is None and all(part.is_done or part is arrived for part in self.parts):
            self.probe_at = now + (timeout_ms << min(self.probes, 4))
        arrived.is_done = True

    def is_due(self, now: int) -> bool:
        """All has arrived, and it was not said in time that it is taken."""
        return self.probe_at is not None and now >= self.probe_at

    def again(self) -> "list[Fragment]":
        """The parts to send because the peer has not said that it took the message: the last one, which makes it
        repeat what it said, or all, because it may have forgotten them."""
        return self._last if (self.probes + 1) % (wire.MESSAGE_PROBES + 1) else self.parts

    def retry(self) -> None:
        """They are queued again. Needs no memory."""
        for part in self.again():
            part.is_done = False
        self.probes += 1
        self.probe_at = None
