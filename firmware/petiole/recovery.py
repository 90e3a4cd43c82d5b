"""Loss and round-trip time of one direction of a session (PROTOCOL.md, section 8; after RFC 6298 and RFC 9002)."""

from petiole import wire

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.items import Item

MAX_GIVEN_UP = 16  # lost frames whose late ack is still recognised


class Sent:
    """A frame in flight and what it carries."""

    __slots__ = ("counter", "items", "lost", "reported", "sent_at")

    def __init__(self, counter: int, items: "list[Item]", sent_at: int) -> None:
        self.counter = counter
        self.items = items
        self.sent_at = sent_at
        self.lost = False
        self.reported = False


class Recovery:
    """Keeps the frames that wait for an ack, and says which are lost and when to look again. Times in ms."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._sent: list[Sent] = []  # by counter, ascending
        self.srtt: int | None = None
        self._rttvar = 0
        self._latest = 0
        self.timeouts = 0  # in a row, until anything is acknowledged
        self.timeouts_total = 0

    def timeout_ms(self) -> int:
        """How long an ack may take, backed off after timeouts."""
        if self.srtt is None:
            base = wire.TIMEOUT_INITIAL_MS
        else:
            base = self.srtt + max(4 * self._rttvar, 50) + wire.COMMIT_DELAY_MS
            base = max(base, wire.TIMEOUT_MIN_MS)
        return min(base << min(self.timeouts, 6), wire.TIMEOUT_MAX_MS)

    def in_flight(self) -> int:
        return sum(1 for sent in self._sent if not sent.lost)

    def can_send(self) -> bool:
        """Whether one more frame that asks for an ack may leave."""
        return self.in_flight() < (1 if self.timeouts else self._window)

    def counters(self) -> list[int]:
        """Counters that an ack may name, newest first."""
        return [sent.counter for sent in reversed(self._sent)]

    def sent(self, counter: int, items: "list[Item]", now: int) -> None:
        """A frame that asks for an ack has left with these items."""
        # What came again in another frame needs no late ack of the first; its readings would only fill the heap.
        self._sent = [s for s in self._sent if not s.lost or not all(item.is_done for item in s.items)]
        self._sent.append(Sent(counter, items, now))
        given_up = len(self._sent) - self.in_flight() - MAX_GIVEN_UP
        if given_up > 0:
            self._sent = [s for i, s in enumerate(self._sent) if not s.lost or i >= given_up]

    def acked(self, counter: int, now: int) -> "list[Item] | None":
        """The items of the frame with this counter, or None if no ack of it is awaited."""
        for i, sent in enumerate(self._sent):
            if sent.counter == counter:
                self._sample(now - sent.sent_at)
                self.timeouts = 0
                for position in range(i):
                    self._judge(self._sent[position], now)
                self._sent.pop(i)
                return sent.items
        return None

    def _sample(self, rtt: int) -> None:
        rtt = max(rtt, 1)
        self._latest = rtt
        if self.srtt is None:
            self.srtt = rtt
            self._rttvar = rtt >> 1
        else:
            self._rttvar = (3 * self._rttvar + abs(self.srtt - rtt)) >> 2
            self.srtt = (7 * self.srtt + rtt) >> 3

    def _judge(self, earlier: Sent, now: int) -> None:
        """A later frame was acknowledged: this one is lost if it has had more than its time."""
        patience = max(self.srtt or 0, self._latest)
        if now - earlier.sent_at > patience + (patience >> 3):
            earlier.lost = True

    def lost(self, now: int) -> "list[Item]":
        """Items to send again, oldest first: of frames judged lost, and after a timeout of all; until `retry`."""
        oldest = None
        for sent in self._sent:
            if not sent.lost:
                oldest = sent
                break
        if oldest is not None and now >= oldest.sent_at + self.timeout_ms():
            self.timeouts += 1
            self.timeouts_total += 1
            for sent in self._sent:
                sent.lost = True
        items: list[Item] = []
        for sent in self._sent:
            if sent.lost and not sent.reported:
                items.extend(sent.items)
        return items

    def retry(self) -> None:
        """What was lost is queued again."""
        for sent in self._sent:
            sent.reported = sent.lost

    def lose_all(self) -> None:
        """The peer has said that it took none of the frames in flight."""
        for sent in self._sent:
            sent.lost = True

    def unfinished(self) -> "list[Item]":
        """The items of the frames in flight, oldest first."""
        items: list[Item] = []
        for sent in self._sent:
            if not sent.reported:
                items.extend(sent.items)
        return items

    def deadline(self) -> int | None:
        """When `lost` is to be asked again, or None."""
        for sent in self._sent:
            if not sent.lost:
                return sent.sent_at + self.timeout_ms()
            if not sent.reported:
                return sent.sent_at
        return None
