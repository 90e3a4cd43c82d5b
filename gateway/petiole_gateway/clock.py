"""This machine's clocks, and whether the one of the day is right."""

from __future__ import annotations

import ctypes
import time

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_SIZE = 256  # struct timex has 208 bytes on 64-bit systems
_CACHE_S = 10.0


def monotonic_ms() -> int:
    """ms that never go back."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """ms since 1970."""
    return time.time_ns() // 1_000_000


class SystemClock:
    """Asks the kernel, at most every 10 s."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._asked_at = -_CACHE_S
        self._is_doubtful = True

    def is_doubtful(self) -> bool:
        """True until the kernel's clock has been synchronised with a time source (NTP, GPS, RTC daemon)."""
        now = time.monotonic()
        if now - self._asked_at >= _CACHE_S:
            self._asked_at = now
            buffer = ctypes.create_string_buffer(_SIZE)  # modes = 0: only ask
            try:
                self._is_doubtful = self._libc.adjtimex(buffer) in (-1, _TIME_ERROR)
            except AttributeError:
                self._is_doubtful = True  # not Linux: nobody says
        return self._is_doubtful
