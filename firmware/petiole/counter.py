"""Frame counters: from the low bits to the whole (RFC 9147 §4.2.2); which were seen (RFC 4303 §3.4.3)."""

from petiole import wire

LIMIT = 1 << 40  # counters are below it: a nonce holds 5 bytes of counter

WINDOW = wire.REPLAY_WINDOW  # the highest and the 29 below it
_ALL = (1 << WINDOW) - 1


def reconstruct(low: int, bits: int, expected: int) -> int:
    """Return the counter nearest to `expected` (the highest seen + 1) whose lowest `bits` are those of `low`.

    Never negative, and below `LIMIT` for an `expected` below it. Of two equally near the higher: frames get
    lost more often than they come late, and a late one would be refused by the window anyway.
    """
    size = 1 << bits
    counter = expected - (expected & size - 1) + (low & size - 1)
    if counter - expected > size >> 1 and counter >= size:
        return counter - size
    if expected - counter >= size >> 1 and counter + size < LIMIT:
        return counter + size
    return counter


class ReplayWindow:
    """Refuses counters that were marked, and those more than 29 below the highest.

    `check` before opening a frame, `mark` only after its tag was right: else a forged counter would move the
    window and lock the true sender out. (highest, bitmap) is its whole state; with `highest` alone everything
    up to it counts as seen.
    """

    def __init__(self, highest: int = -1, bitmap: int = _ALL) -> None:
        self.highest = highest
        self.bitmap = bitmap  # bit n: highest - n was seen

    def check(self, counter: int) -> bool:
        """True: not seen yet. Changes nothing."""
        age = self.highest - counter
        if age < 0:
            return True
        return age < WINDOW and not self.bitmap >> age & 1

    def mark(self, counter: int) -> None:
        age = self.highest - counter
        if age < -WINDOW:
            self.bitmap = 1
            self.highest = counter
        elif age < 0:
            # Masked first, so that the shift stays a small integer.
            self.bitmap = (self.bitmap & _ALL >> -age) << -age | 1
            self.highest = counter
        elif age < WINDOW:
            self.bitmap |= 1 << age


class References:
    """What the short sequence numbers in a frame are relative to: of a frame that comes late, what was taken when the
    first one after it came. Until then the sender cannot have gone on; later its readings may have come in another."""

    def __init__(self) -> None:
        self._skipped: dict[int, int] = {}  # counters that may still come; none is older than the replay window

    def of(self, counter: int, highest: int, reference: int) -> int:
        """For the frame of this counter. `highest`: opened before it; `reference`: taken by now."""
        if counter <= highest:
            return self._skipped.pop(counter, reference)
        oldest = counter - WINDOW
        for skipped in list(self._skipped):
            if skipped <= oldest:
                del self._skipped[skipped]
        for skipped in range(max(highest, oldest) + 1, counter):
            self._skipped[skipped] = reference
        return reference
