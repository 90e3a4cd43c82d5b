"""A clock that is wrong while its node sleeps, and how much (PROTOCOL.md, section 12)."""

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.clock import Clock

_LEARN_MS = 30000  # of sleep: less says more about the way of a frame than about the clock
_MAX_PPM = 100000
_UNKNOWN = 20  # a sleeping clock may be wrong by one part in so many
_KNOWN = 200  # one that was measured
_MAX_ERROR_MS = 1000


class Drift:
    """`ppm`: how much true time goes on beyond the clock, in a million. `slept_ms`: since the offset was sampled."""

    def __init__(self, clock: "Clock") -> None:
        self.ppm = 0
        self.slept_ms = 0
        self._clock = clock
        self._expected: int | None = None  # the offset after the last sleep

    def sleep(self, ms: int) -> None:
        """The node has slept so long by its clock."""
        self.learn()
        offset = self._clock.offset
        if offset is None:
            return
        self.slept_ms += ms
        self._expected = offset + ms * self.ppm // 1000000
        self._clock.correct(self._expected)

    def learn(self) -> None:
        """To be called after samples."""
        offset, expected = self._clock.offset, self._expected
        if offset is None or expected is None or offset == expected:
            return
        if self.slept_ms >= _LEARN_MS:
            wrong = (offset - expected) * 1000000 // self.slept_ms
            if abs(wrong) <= _MAX_PPM:  # else somebody has set the gateway's clock
                self.ppm = max(-_MAX_PPM, min(self.ppm + wrong // 2, _MAX_PPM))
        self.slept_ms = 0
        self._expected = None

    @property
    def is_large(self) -> bool:
        """Whether the time is to be asked for."""
        return self._clock.offset is None or self.slept_ms // (_KNOWN if self.ppm else _UNKNOWN) > _MAX_ERROR_MS
