"""Tasks that must not end: one that does is told, counted and started again."""

from __future__ import annotations

import asyncio

import pytest

from petiole_gateway import supervision
from petiole_gateway.supervision import MAX_NAMES, STUCK_AFTER, Supervisor

from .memory import NullLogger


@pytest.fixture
def logger() -> NullLogger:
    return NullLogger()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_BACKOFF_S", 0.001)


class Work:
    """Runs until it is told how to end."""

    def __init__(self) -> None:
        self.runs = 0
        self.ended = 0
        self.began = asyncio.Event()
        self.ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        self.runs += 1
        self.began.set()
        self.ends = asyncio.get_running_loop().create_future()
        try:
            await self.ends
        finally:
            self.ended += 1

    async def starts(self) -> None:
        self.began.clear()
        async with asyncio.timeout(30):
            await self.began.wait()


async def test_work_that_raises_is_told_with_its_trace_counted_and_started_again(logger: NullLogger) -> None:
    supervisor, work = Supervisor(logger), Work()
    task = supervisor.keep("work", work.run)
    await work.starts()
    work.ends.set_exception(ValueError("boom"))
    await work.starts()
    assert work.runs == 2
    assert not task.done()
    (told,) = logger.events("task_failed")
    assert (told["task"], told["error"]) == ("work", "ValueError('boom')")
    assert told["exc_info"].__traceback__ is not None
    assert [(each["name"], each["failures_total"]) for each in supervisor.document()] == [("work", 1)]
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("how", ["returns", "is cancelled by nobody"])
async def test_an_end_without_an_error_is_a_failure_too(logger: NullLogger, how: str) -> None:
    supervisor, work = Supervisor(logger), Work()
    task = supervisor.keep("work", work.run)
    await work.starts()
    if how == "returns":
        work.ends.set_result(None)
    else:
        work.ends.cancel()
    await work.starts()
    assert supervisor.failures["work"].total == 1
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_what_may_end_ends(logger: NullLogger) -> None:
    supervisor, work = Supervisor(logger), Work()
    task = supervisor.keep("work", work.run, may_end=True)
    await work.starts()
    work.ends.set_result(None)
    await task
    assert (work.runs, supervisor.failures, supervisor.kept) == (1, {}, {})


async def test_ending_it_ends_the_work_though_a_library_swallows_cancellations(logger: NullLogger) -> None:
    supervisor = Supervisor(logger)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1

    task = supervisor.keep("work", stubborn)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait({task})
    assert (swallowed, supervisor.failures, supervisor.kept) == (2, {}, {})


async def test_vital_work_that_cannot_run_asks_for_a_restart_of_the_process(
    logger: NullLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "MAX_BACKOFF_S", 0.002)
    supervisor = Supervisor(logger)
    reached = asyncio.Event()
    runs = 0

    async def broken() -> None:
        nonlocal runs
        runs += 1
        if runs > STUCK_AFTER:
            reached.set()
        raise RuntimeError("always")

    tasks = [supervisor.keep("vital", broken, is_vital=True), supervisor.keep("other", broken)]
    async with asyncio.timeout(30):
        while not supervisor.stuck() or supervisor.failures["other"].in_a_row < STUCK_AFTER:
            assert supervisor.failures.get("vital") is None or len(supervisor.stuck()) <= 1
            await asyncio.sleep(0.001)
    (stuck,) = supervisor.stuck()
    assert stuck.startswith("vital has failed")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_work_that_has_run_for_long_has_got_over_its_failures(
    logger: NullLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "SETTLED_S", 0.0)
    supervisor, work = Supervisor(logger), Work()
    task = supervisor.keep("work", work.run, is_vital=True)
    for _ in range(STUCK_AFTER + 1):
        await work.starts()
        work.ends.set_exception(ValueError())
    await work.starts()
    assert supervisor.failures["work"].in_a_row == 1
    assert supervisor.stuck() == []
    task.cancel()
    await asyncio.wait({task})


async def test_a_single_piece_of_work_that_fails_is_counted_and_not_repeated(logger: NullLogger) -> None:
    supervisor = Supervisor(logger)

    async def fails() -> None:
        raise KeyError("x")

    await asyncio.wait({supervisor.once("piece", fails())})
    await asyncio.sleep(0)
    assert supervisor.failures["piece"].total == 1


async def test_what_a_timer_raises_is_a_failure(logger: NullLogger) -> None:
    supervisor, loop = Supervisor(logger), asyncio.get_running_loop()
    loop.set_exception_handler(supervisor.handle)

    def fires() -> None:
        raise ValueError("late")

    loop.call_soon(fires)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert supervisor.failures["a callback"].error == "ValueError('late')"


async def test_failures_of_many_names_take_bounded_memory(logger: NullLogger) -> None:
    supervisor = Supervisor(logger)
    for number in range(2 * MAX_NAMES):
        supervisor.failed(f"link {number}", ValueError())
    assert len(supervisor.failures) == MAX_NAMES + 1
    assert sum(found.total for found in supervisor.failures.values()) == 2 * MAX_NAMES
