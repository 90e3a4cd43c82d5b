"""The gateway's time on a node's clock (PROTOCOL.md, section 12)."""

_SAMPLES = 8
_LEARN_MS = 30000  # of sleep: less says more about the way of a frame than about the clock
_MAX_DRIFT = 100000  # parts in a million


class Clock:
    """Offset from the node's clock (ms) to the gateway's time (ms since 1970), from the shortest round trip."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, int]] = []  # (round trip, offset)
        self.offset: int | None = None
        self.is_doubtful = True
        self.drift_ppm = 0  # how much true time goes on beyond the clock while the node sleeps
        self.slept_ms = 0  # since the last sample

    def sample(self, time: int, sent: int, received: int, is_doubtful: bool) -> None:
        """The gateway said `time` in answer to a frame sent at `sent`."""
        if self.is_doubtful != is_doubtful:
            self._samples = []  # the gateway has learnt the time: what it said before is worth nothing
        self.is_doubtful = is_doubtful
        trip = received - sent
        if len(self._samples) == _SAMPLES:
            self._samples.pop(0)
        offset = time + trip // 2 - received
        if self.offset is not None and self.slept_ms >= _LEARN_MS:
            wrong = (offset - self.offset) * 1000000 // self.slept_ms
            if abs(wrong) <= _MAX_DRIFT:  # else somebody has set the gateway's clock
                self.drift_ppm = max(-_MAX_DRIFT, min(self.drift_ppm + wrong // 2, _MAX_DRIFT))
        self.slept_ms = 0
        self._samples.append((trip, offset))
        self.offset = min(self._samples)[1]

    def sleep(self, ms: int) -> None:
        """The node has slept so long, by a clock that is a bad one while it does: what was sampled before is worth less
        than anything that comes now."""
        self._samples = []
        self.slept_ms += ms
        if self.offset is not None:
            self.offset += ms * self.drift_ppm // 1000000

    def time(self, now: int) -> int | None:
        """The gateway's time, or None before the first sample."""
        return None if self.offset is None else now + self.offset
