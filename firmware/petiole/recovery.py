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
        kept = [s for s in self._sent if not s.lost or not all(item.is_done for item in s.items)]
        given_up = sum(1 for s in kept if s.lost) - MAX_GIVEN_UP
        if given_up > 0:
            kept = [s for i, s in enumerate(kept) if not s.lost or i >= given_up]
        kept.append(Sent(counter, items, now))
        self._sent = kept

    def acked(self, counter: int, now: int) -> "Sent | None":
        """The frame with this counter, to be given to `forget` when its items are settled; None if no ack of it is
        awaited."""
        found = None
        for sent in self._sent:
            if sent.counter == counter:
                found = sent
        if found is None:
            return None
        self._sample(now - found.sent_at)
        self.timeouts = 0
        for sent in self._sent:
            if sent is found:
                break
            self._judge(sent, now)
        return found

    def forget(self, sent: Sent) -> None:
        """Nothing of this frame is awaited any more."""
        self._sent.remove(sent)

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

    def has_timed_out(self, now: int) -> bool:
        """Whether the time of the oldest frame in flight is up: then all that are in flight are lost. Once each."""
        oldest = None
        for sent in self._sent:
            if not sent.lost:
                oldest = sent
                break
        if oldest is None or now < oldest.sent_at + self.timeout_ms():
            return False
        self.timeouts += 1
        self.timeouts_total += 1
        self.lose_all()
        return True

    def wake(self, now: int) -> None:
        """A peer that sleeps is heard. If it let a timeout pass, it slept: what has had time for an answer is lost, and
        is not left to timers, which would have to run down while the peer listens."""
        if self.timeouts:
            patience = max(self.srtt or 0, self._latest)
            for sent in self._sent:
                if now - sent.sent_at > patience:
                    sent.lost = True

    def lost(self) -> "list[Item]":
        """Items to send again, oldest first: of frames that are lost; until `retry`."""
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
