"""Mailbox items at a node (PROTOCOL.md, section 17): carried out once, answered until the gateway has heard it."""

from petiole import cbor, wire
from petiole.errors import QueueFull
from petiole.items import Encoded

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import CborValue
    from petiole.session import Session


_NUMBER = 5  # bytes of an item's number, encoded


def _record(item: int, status: int, value: object) -> bytes:
    return bytes((wire.MAIL_RESULT,)) + cbor.encode((item, status, value))


class Result(Encoded):
    """How an item ended. A node that sleeps does not wait for its ack."""

    is_awaited = False

    def __init__(self, item: int, status: int, data: bytes) -> None:
        super().__init__(data)
        self.item = item
        self.status = status


class Mail:
    """Which items are being carried out, and how the last ones ended. Outlives sessions and, by `dump`, sleep."""

    def __init__(self) -> None:
        self.pending = 0  # items that the gateway still has for us, as it said last
        self._running: list[int] = []
        self._results: list[Result] = []  # the newest last
        self.returned: list[int] = []  # items that were given back and of which the gateway has not heard
        self._return: Encoded | None = None  # says so, on its way
        self._return_of: list[int] = []

    @property
    def is_idle(self) -> bool:
        """Nothing is being carried out, and the gateway has spoken of no more."""
        return not self._running and not self.pending

    def take(
        self, value: "CborValue", session: "Session", events: "list[tuple[object, ...]]", has_room: bool = True
    ) -> str:
        """A MAIL record: adds ("mail", item, target, arguments, is_redelivered) to the events if there is anything to
        do, and `has_room` for an answer. Returns a drop reason, or ""."""
        if not isinstance(value, list) or not 3 <= len(value) <= 4:
            return "malformed_record"
        item = value[0]
        attempt = value[3] if len(value) == 4 else 1
        if not isinstance(item, int) or not isinstance(attempt, int):
            return "malformed_record"
        self.pending = max(0, self.pending - 1)
        if not has_room:
            if item not in self._running:
                self._give_back(item)
            return "unexpected"
        for result in self._results:
            if result.item == item:
                if result.is_done:  # else it is on its way
                    self._say(Result(item, result.status, result.data), session)
                return ""
        if item in self._running:
            return ""
        if len(self._running) >= wire.MAX_OPEN_REQUESTS:
            self._give_back(item)
            return "unexpected"
        # The gateway may not have heard yet that it was begun, and say it as before.
        events.append(("mail", item, value[1], value[2], attempt > 1 or item in self.returned))
        try:
            self._running.append(item)
        except MemoryError:
            events.pop()
            raise
        for given_back in (self.returned, self._return_of):
            if item in given_back:
                given_back.remove(item)  # whatever the gateway hears of before, it is here again
        return ""

    def finish(self, item: int, status: int, value: object, session: "Session | None") -> None:
        """An item has ended. A result too large, deep or long for a message becomes status 413; TypeError: no CBOR."""
        if item not in self._running:
            return
        try:
            data = _record(item, status, value)
        except ValueError:
            data = b""
        if not 0 < len(data) <= wire.MAX_MESSAGE:
            status = wire.TOO_LARGE
            data = _record(item, status, "result")
        self._say(Result(item, status, data), session)
        self._running.remove(item)

    def _say(self, result: Result, session: "Session | None") -> None:
        kept = [other for other in self._results if other.item != result.item]
        for other in kept:
            if other.is_done and len(other.data) > wire.REMEMBERED_RESULT:
                other.data = _record(other.item, other.status, None)
        kept = kept[1 - wire.REMEMBERED_ITEMS :]
        kept.append(result)
        if session is not None:
            session.send(result)
        self._results = kept

    def renew(self, session: "Session") -> None:
        """A new session: what the gateway has not acknowledged is said in it."""
        results = []
        for result in self._results:
            if not result.is_done:
                # Another one: in the old session this one is queued, or in flight.
                result = Result(result.item, result.status, result.data)  # noqa: PLW2901
                session.send(result)
            results.append(result)
        self._results = results
        self.pending = 0
        self._return = None

    # What is given back ------------------------------------------------------------------------------------

    def _give_back(self, item: int) -> None:
        if item not in self.returned:
            kept = self.returned[1 - wire.REMEMBERED_ITEMS :]
            kept.append(item)
            self.returned = kept

    def forget(self, item: int) -> None:
        """The item was not begun; it comes again when the gateway has heard so."""
        if item in self._running:
            self._give_back(item)
            self._running.remove(item)

    def interrupt(self) -> None:
        """Whoever carried items out has stopped; they come again, as redeliveries."""
        for item in self._running:
            self._give_back(item)
        self._running = []
        self.pending = 0

    def say_returned(self, session: "Session") -> None:
        """Have the gateway hear of what was given back, until it has."""
        if self._return is not None:
            if not self._return.is_done:
                return
            self.returned = [item for item in self.returned if item not in self._return_of]
            self._return = None
        if self.returned:
            given_back = list(self.returned)
            letter = Encoded(bytes((wire.MAIL_RETURN,)) + cbor.encode(len(given_back)))
            try:
                session.send(letter)
            except QueueFull:
                return  # later
            self._return_of = given_back
            self._return = letter

    # Retained memory ---------------------------------------------------------------------------------------

    def dump(self, room: int) -> "tuple[list[list[object]], list[int]]":
        """Results as `[item, status, record, is_acknowledged]`, oldest first: the newest whose records fit. And the
        items that have been given back when only that is left. Both together take at most `room` bytes, encoded."""
        kept: list[list[object]] = []
        returned = list(self.returned)
        room -= _NUMBER * (len(returned) + sum(1 for result in self._results if not result.is_done))
        for result in reversed(self._results):
            room -= len(result.data) + 16  # the number, the status and heads, encoded
            room += 0 if result.is_done else _NUMBER
            if room >= 0:
                kept.insert(0, [result.item, result.status, result.data, result.is_done])
            elif not result.is_done:
                room -= _NUMBER
                returned.append(result.item)
        return kept, returned

    def load(self, kept: "list[CborValue]", returned: "list[CborValue]") -> None:
        """What `dump` gave. LocalError would help nobody here: what is none of it is left out."""
        self.returned = [item for item in returned if isinstance(item, int)]
        for entry in kept[-wire.REMEMBERED_ITEMS :]:
            if isinstance(entry, list) and len(entry) == 4:
                item, status, data, is_done = entry
                if isinstance(item, int) and isinstance(status, int) and isinstance(data, bytes):
                    result = Result(item, status, data)
                    result.is_done = is_done is True
                    self._results.append(result)
