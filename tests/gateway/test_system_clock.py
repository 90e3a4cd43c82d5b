"""What the kernel says of the clock is what the gateway says (adjtimex(2))."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from petiole_gateway.clock import SystemClock


class Kernel:
    """Answers with a state; what it was asked is kept, for modes 0 ask and all others set the clock."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    def adjtimex(self, buffer: Any) -> int:
        self.asked.append(buffer.raw)
        return self.answer


def clock_of(kernel: object) -> SystemClock:
    clock = SystemClock()
    clock._libc = kernel  # type: ignore[assignment]
    return clock


# TIME_OK; a leap second is to come, passes, has passed (TIME_INS, TIME_DEL, TIME_OOP, TIME_WAIT); TIME_ERROR; nothing.
@pytest.mark.parametrize(
    ("answer", "is_doubtful"), [(0, False), (1, False), (2, False), (3, False), (4, False), (5, True), (-1, True)]
)
def test_a_clock_is_doubtful_until_a_time_source_has_set_it(answer: int, is_doubtful: bool) -> None:
    kernel = Kernel(answer)
    assert clock_of(kernel).is_doubtful() is is_doubtful
    assert not any(kernel.asked[0]), "only asked"


def test_where_nobody_says_it_is_doubtful() -> None:
    assert clock_of(SimpleNamespace()).is_doubtful()


def test_the_kernel_is_asked_every_ten_seconds_and_its_news_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kernel = Kernel(5)
    clock = clock_of(kernel)
    assert clock.is_doubtful()
    kernel.answer = 0
    now = 109.9
    assert clock.is_doubtful()
    now = 110.0
    assert not clock.is_doubtful()
    assert len(kernel.asked) == 2


def test_this_machine_says_one_or_the_other() -> None:
    assert SystemClock().is_doubtful() in (True, False)
