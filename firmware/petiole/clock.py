"""The gateway's time on a node's clock (PROTOCOL.md, section 12)."""

_SAMPLES = 8


class Clock:
    """Offset from the node's clock (ms) to the gateway's time (ms since 1970), from the shortest round trip."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, int]] = []  # (round trip, offset)
        self.offset: int | None = None
        self.is_doubtful = True

    def sample(self, time: int, sent: int, received: int, is_doubtful: bool) -> None:
        """The gateway said `time` in answer to a frame sent at `sent`."""
        if self.is_doubtful != is_doubtful:
            self._samples = []  # the gateway has learnt the time: what it said before is worth nothing
        self.is_doubtful = is_doubtful
        trip = received - sent
        if len(self._samples) == _SAMPLES:
            self._samples.pop(0)
        self._samples.append((trip, time + trip // 2 - received))
        self.offset = min(self._samples)[1]

    def correct(self, offset: int) -> None:
        """This is right so far, and worth less than anything that comes."""
        self._samples = []
        self.offset = offset

    def time(self, now: int) -> int | None:
        """The gateway's time, or None before the first sample."""
        return None if self.offset is None else now + self.offset
