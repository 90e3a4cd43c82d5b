"""The loop whose time jumps, and stands still for the world outside."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from petiole_tools.sim.virtual_loop import BEGIN_AT, DISK_S, run, running


def test_hours_pass_in_an_instant_and_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = running()
        loop.begin()
        said: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            said.append((name, loop.time() - BEGIN_AT))

        await asyncio.gather(sleeper("late", 86_400), sleeper("early", 60))
        return said

    started_at = time.monotonic()
    assert run(main()) == [("early", 60.0), ("late", 86_400.0)]
    assert time.monotonic() - started_at < 10


def test_before_it_begins_time_is_real() -> None:
    async def main() -> float:
        started_at = time.monotonic()
        await asyncio.sleep(0.05)
        return time.monotonic() - started_at

    assert run(main()) >= 0.05


@pytest.mark.parametrize("is_slow", [False, True])
def test_the_work_of_a_thread_ends_at_the_same_moment_however_long_it_took(is_slow: bool) -> None:
    async def main() -> tuple[float, float, list[float]]:
        loop = running()
        loop.begin()
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                ticks.append(round(loop.time() - BEGIN_AT, 6))
                await asyncio.sleep(DISK_S / 4)

        ticking = asyncio.create_task(tick())
        gate = threading.Event()
        if is_slow:
            threading.Timer(0.2, gate.set).start()
        else:
            gate.set()
        await loop.run_in_executor(None, gate.wait)
        ended_at = loop.time() - BEGIN_AT
        await asyncio.sleep(DISK_S)
        ticking.cancel()
        return ended_at, loop.time() - BEGIN_AT, ticks

    ended_at, now, ticks = run(main())
    assert ended_at == pytest.approx(DISK_S)
    assert now == pytest.approx(2 * DISK_S)
    assert len(ticks) in (8, 9)


def test_an_error_of_a_thread_is_the_error_of_its_future() -> None:
    def fail() -> None:
        raise ValueError("disk")

    async def main() -> None:
        running().begin()
        await running().run_in_executor(None, fail)

    with pytest.raises(ValueError, match="disk"):
        run(main())


def test_answers_take_effect_in_the_order_of_the_questions() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = running()
        loop.begin()
        said: list[tuple[str, float]] = []
        first, second = loop.expect(1.0), loop.expect(1.0)
        later = loop.expect(2.0)
        for expected, name in ((later, "later"), (second, "second"), (first, "first")):
            loop.answer(expected, lambda name=name: said.append((name, loop.time() - BEGIN_AT)))  # type: ignore[misc]
        await asyncio.sleep(3)
        return said

    assert run(main()) == [("first", 1.0), ("second", 1.0), ("later", 2.0)]


def test_time_stands_still_for_an_answer_and_goes_on_without_one() -> None:
    async def main() -> tuple[float, float, int]:
        loop = running()
        loop.begin()
        started_at = time.monotonic()
        loop.expect(1.0, patience_s=0.2)
        await asyncio.sleep(5)
        return time.monotonic() - started_at, loop.time() - BEGIN_AT, loop.forgotten_total

    real_s, virtual_s, forgotten = run(main())
    assert real_s >= 0.2
    assert virtual_s == 5.0
    assert forgotten == 1


def test_what_is_expected_takes_effect_at_once_when_time_becomes_real() -> None:
    async def main() -> list[str]:
        loop = running()
        loop.begin()
        said: list[str] = []
        loop.answer(loop.expect(3600.0), lambda: said.append("answer"))
        with loop.real():
            await asyncio.sleep(0)
            return list(said)

    assert run(main()) == ["answer"]
