"""What the runtime does without memory: one piece of work fails, and only what never works again ends the program."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petiole import states
from petiole.items import Measured
from petiole_node import Node
from petiole_node import carrier as carriers
from petiole_node import execution as executions
from petiole_node import node as nodes
from petiole_node.carrier import Carrier
from petiole_node.commands import Command
from petiole_node.execution import Execution

MANY = 400  # shortages: four times as many as end a program if they come in a row
PATIENCE_S = 60.0


async def until(condition: Callable[[], bool]) -> None:
    """Let the program run until then; it waits for nothing that takes time."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for is no event
            await asyncio.sleep(0)


class Board:
    """A port with a clock that stands, and frames of no meaning."""

    reserves_used = 0

    def now(self) -> int:
        return 0

    def feed_watchdog(self) -> None:
        """None."""

    def use_reserve(self) -> None:
        self.reserves_used += 1

    def is_waitable(self, result: object) -> bool:
        return False


class Wire:
    name = "wire"
    is_addressed = is_console = False

    def __init__(self) -> None:
        self.sent = 0
        self.opened = 0
        self.failures = 0  # of the next tries to open it
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        self.opened += 1
        if self.failures:
            self.failures -= 1
            raise MemoryError

    async def refresh(self) -> None:
        """Nothing moves."""

    async def receive(self) -> list[bytes]:
        return [await self.incoming.get()]

    async def send(self, frame: bytes) -> None:
        self.sent += 1

    def heard(self) -> None:
        """Nothing is searched."""

    def close(self) -> None:
        """It stays."""


class Endpoint:
    """Says what it is told to say; `lost` sessions are counted."""

    session = None
    state = states.JOINING
    joins_total = 0

    def __init__(self) -> None:
        self.lost = 0
        self.next: Callable[[], bytes | None] = lambda: None
        self.taken: Callable[[bytes], list[tuple[object, ...]]] = lambda frame: []

    def link_up(self, now: int, is_addressed: bool) -> None:
        """It is told so."""

    def link_down(self) -> None:
        """It is told so."""

    def expire(self, now: int) -> list[tuple[object, ...]]:
        return []

    def next_frame(self, now: int) -> bytes | None:
        return self.next()

    def receive(self, frame: bytes, now: int) -> list[tuple[object, ...]]:
        return self.taken(frame)

    def deadline(self, now: int) -> int:
        return now + 1

    def lose_session(self, now: int) -> None:
        self.lost += 1


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(carriers, "_SHORTAGE_S", 0)
        monkeypatch.setattr(carriers, "_REOPEN_S", (0,))
        self.endpoint = Endpoint()
        self.wire = Wire()
        self.events: list[tuple[object, ...]] = []
        self.refusals = 0  # events that find no memory
        endpoint: Any = self.endpoint
        port: Any = Board()
        self.carrier = Carrier(endpoint, [self.wire], port, self.dispatch, lambda level, text: None)

    def dispatch(self, event: tuple[object, ...]) -> None:
        if event[0] != "memory" and self.refusals:
            self.refusals -= 1
            raise MemoryError
        self.events.append(event)

    @property
    def shortages(self) -> int:
        return self.events.count(("memory",))

    async def runs_until(self, condition: Callable[[], bool]) -> None:
        """The program goes on at least until then."""
        task = asyncio.create_task(self.carrier.run())
        try:
            await until(lambda: condition() or task.done())
            assert not task.done(), task.exception()
        finally:
            while not task.done():  # `wait_for` of Python 3.11 swallows a cancellation now and then
                task.cancel()
                await asyncio.sleep(0)

    async def ends(self) -> None:
        """The program ends for want of memory."""
        with pytest.raises(MemoryError):
            await asyncio.wait_for(self.carrier.run(), 60)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def short_every(number: int) -> Callable[[], bytes | None]:
    """Frames, of which so many in a row find no memory before one does."""
    calls = 0

    def next_frame() -> bytes | None:
        nonlocal calls
        calls += 1
        if calls % (number + 2) == 0:
            return None
        if calls % (number + 2) == 1:
            return b"frame"
        raise MemoryError

    return next_frame


async def test_shortages_of_a_long_outage_never_end_the_program(rig: Rig) -> None:
    rig.endpoint.next = short_every(40)
    await rig.runs_until(lambda: rig.shortages > MANY)
    assert rig.endpoint.lost == 0
    assert rig.wire.sent > 5


async def test_frames_that_can_never_be_made_cost_the_session_and_then_the_program(rig: Rig) -> None:
    def none() -> bytes:
        raise MemoryError

    rig.endpoint.next = none
    await rig.ends()
    assert rig.endpoint.lost == 1
    assert rig.shortages == 2 * carriers._MAX_SHORTAGES + 1


async def test_frames_that_can_never_be_taken_end_the_program_though_others_leave(rig: Rig) -> None:
    def taken(frame: bytes) -> list[tuple[object, ...]]:
        raise MemoryError

    rig.endpoint.taken = taken
    rig.endpoint.next = short_every(0)
    for _ in range(MANY):
        rig.wire.incoming.put_nowait(b"frame")
    await rig.ends()
    assert rig.endpoint.lost == 1


async def test_shortages_between_frames_that_are_taken_are_forgotten(rig: Rig) -> None:
    calls = 0

    def taken(frame: bytes) -> list[tuple[object, ...]]:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise MemoryError
        return []

    rig.endpoint.taken = taken
    for _ in range(3 * MANY):
        rig.wire.incoming.put_nowait(b"frame")
    await rig.runs_until(lambda: rig.shortages > MANY)
    assert rig.endpoint.lost == 0


async def test_an_event_that_finds_no_memory_comes_again_in_its_place(rig: Rig) -> None:
    told: list[tuple[object, ...]] = [("command", 1), ("durable", 2), ("reply", 3)]
    rig.endpoint.taken = lambda frame: list(told)
    rig.refusals = 5
    rig.wire.incoming.put_nowait(b"frame")
    await rig.runs_until(lambda: len([event for event in rig.events if event[0] != "memory"]) == 3)
    assert [event for event in rig.events if event[0] != "memory"] == told


async def test_a_frame_is_not_taken_while_events_wait_for_memory(rig: Rig) -> None:
    """It would be acknowledged, and what it says might be lost."""
    frames = []

    def taken(frame: bytes) -> list[tuple[object, ...]]:
        frames.append(frame)
        return [("durable", frame)]

    rig.endpoint.taken = taken
    rig.wire.incoming.put_nowait(b"first")
    await rig.runs_until(lambda: ("durable", b"first") in rig.events)
    rig.carrier._events = [("durable", b"kept")]
    rig.refusals = 1
    with pytest.raises(MemoryError):
        rig.carrier._take(rig.wire, b"second")
    assert frames == [b"first"]


async def test_a_link_that_finds_no_memory_is_opened_again(rig: Rig) -> None:
    rig.wire.failures = 20
    rig.endpoint.next = short_every(0)
    await rig.runs_until(lambda: rig.wire.sent > 0)
    assert rig.wire.opened == 21


# Commands --------------------------------------------------------------------------------------------------


class Desk:
    """An endpoint to which results are told; the next `failures` of them find no memory."""

    def __init__(self) -> None:
        self.failures = 0
        self.told: list[tuple[object, ...]] = []
        self.mail = self

    def _take(self, *what: object) -> None:
        if self.failures:
            self.failures -= 1
            raise MemoryError
        self.told.append(what)

    def reply(self, id: int, status: int, value: object) -> None:
        self._take("reply", id, status, value)

    def finish(self, item: int, status: int, value: object) -> None:
        self._take("finish", item, status, value)

    def forget(self, item: int) -> None:
        self.told.append(("forget", item))


class Work:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executions, "_SHORTAGE_S", 0)
        self.desk = Desk()
        self.calls = 0
        command = Command(0, "count", self.count, None)
        endpoint: Any = self.desk
        self.board = Board()
        port: Any = self.board
        self.execution = Execution(endpoint, {0: command}, port, lambda: None, lambda reason: None, lambda *line: None)

    def count(self) -> int:
        self.calls += 1
        return self.calls

    async def do(self, event: tuple[object, ...]) -> None:
        self.execution.begin(event)
        await until(lambda: not self.execution.tasks)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.mark.parametrize("kind", ["reply", "finish"])
@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_a_result_that_finds_no_memory_for_a_moment_is_told_as_it_is(
    work: Work, failures: int, kind: str
) -> None:
    work.desk.failures = failures
    await work.do(("command" if kind == "reply" else "mail", 7, 0, [], False))
    assert work.desk.told == [(kind, 7, 0, 1)]
    assert work.calls == 1
    assert work.board.reserves_used == failures, "what is kept for this is used"


async def test_a_result_whose_note_finds_no_memory_is_told_once_and_noted(work: Work) -> None:
    noted: list[int] = []

    def note() -> None:
        noted.append(len(noted))
        if len(noted) == 1:
            raise MemoryError

    work.execution.on_result = note
    await work.do(("mail", 7, 0, [], False))
    assert set(work.desk.told) == {("finish", 7, 0, 1)}  # an endpoint takes the end of an item once
    assert len(noted) == 2


@pytest.mark.parametrize("failures", [4, 5, 30])
async def test_a_command_whose_answer_finds_no_memory_is_told_so_once_there_is_some(work: Work, failures: int) -> None:
    work.desk.failures = failures
    await work.do(("command", 7, 0, []))
    assert work.desk.told == [("reply", 7, 503, "out of memory")]
    assert work.calls == 1


@pytest.mark.parametrize("failures", [4, 5, 30])
async def test_mail_whose_result_finds_no_memory_is_not_carried_out_again(work: Work, failures: int) -> None:
    work.desk.failures = failures
    await work.do(("mail", 7, 0, [], False))
    assert work.desk.told == [("finish", 7, 413, "result")]
    assert work.calls == 1


@pytest.mark.parametrize("kind", ["command", "mail"])
async def test_what_there_is_no_memory_to_begin_is_refused(
    work: Work, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(work: Any) -> None:
        work.close()
        raise MemoryError

    monkeypatch.setattr(asyncio, "create_task", none)
    work.execution.begin((kind, 7, 0, [], False))
    assert work.desk.told == [("reply", 7, 503, "out of memory") if kind == "command" else ("forget", 7)]
    work.desk.failures = 1
    if kind == "command":
        with pytest.raises(MemoryError):
            work.execution.begin((kind, 8, 0, [], False))
    assert work.execution.tasks == []
    assert work.calls == 0


async def test_a_reading_that_was_accepted_is_waited_for_also_when_memory_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_LOOK_AGAIN_S", 0)
    node = Node({"name": "n", "key": "00" * 16, "folder": str(tmp_path), "links": [{"kind": "console"}]})
    item = Measured.__new__(Measured)  # of which only its end is asked
    item.is_done = False
    asked: list[int] = []

    class Cycle:
        def speak(self) -> None:
            asked.append(len(asked))
            if len(asked) < 3:
                raise MemoryError
            item.is_done = True
            asyncio.get_running_loop().call_soon(node._finish, item)

    node._cycle = Cycle()  # type: ignore[assignment]
    await node._durable(item)
    assert len(asked) == 3
