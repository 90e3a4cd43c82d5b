"""The durable outbox against a gateway that remembers what every number meant, in lives that hypothesis makes up."""

import tempfile
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from petiole_node import numbering, segments

from .outbox_rig import Life, Memory, World, check

STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 12)),
    st.tuples(st.just("send"), st.integers(0, 12)),
    st.tuples(st.sampled_from(["save", "flush", "ack", "join", "reset", "power", "sleep"]), st.just(0)),
    # A wake: a reading, a frame that arrives or not, an ack that comes or not, and its end.
    st.tuples(st.just("wake"), st.integers(0, 15)),
)
WAKES = st.lists(st.tuples(st.just("wake"), st.integers(0, 15)), min_size=2, max_size=12)


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 640)
    monkeypatch.setattr(numbering, "_CHUNK", 3)


def run(steps: list[tuple[str, int]], memory_size: int, policies: dict[int, int], limit: int) -> World:
    """Lives of a node; nothing is torn here. `sleep` saves before it, `reset` and `power` do not."""
    world = World()
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(memory_size) if memory_size else None

        def boot() -> Life:
            return Life(world, folder + "/", memory, policies, limit, window=7)

        life = boot()
        for step, number in steps:
            if step == "add":
                for i in range(number):
                    life.publish(i % 4, 10 * (i % 3))
            elif step == "send":
                if life.is_joined:
                    life.send(9, number)
            elif step == "save":
                assert life.save()
            elif step == "flush":
                assert life.flush()
            elif step == "ack":
                life.acked()
            elif step == "join":
                life.join()
            elif step == "wake":
                life = _wake(life, boot, number)
            else:
                if step == "sleep":
                    assert life.save()
                if step == "power" and memory is not None:
                    memory.data = b"\xa7" * 30
                    world.lose_power()
                life = boot()
        life = boot()
        life.join()
        for _ in range(2):  # a segment to which more may be added goes when a number was given that is in none
            life.add()
            life.drain()
            assert life.outbox.is_empty
        assert life.segments.files == []
    return world


def _wake(life: Life, boot: Callable[[], Life], how: int) -> Life:
    """`how`: as of `Life.wake`, and one bit more: a reset is its end."""
    if not life.is_joined:
        life.join()
    life.wake(how)
    if how & 8:
        return boot()
    assert life.save()
    kept = life.kept()
    life = boot()
    life.resume(kept)
    return life


@settings(max_examples=300)
@given(WAKES, st.sampled_from([0, 120, 400, 2048]))
def test_whatever_a_wake_ends_in_loses_nothing(steps: list[tuple[str, int]], memory_size: int) -> None:
    check(run(steps, memory_size, {}, 1 << 20))


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=40), st.sampled_from([0, 120, 400, 2048]))
@example([("add", 6), ("save", 0), ("join", 0), ("send", 3), ("add", 1), ("flush", 0), ("reset", 0)], 400)
def test_what_was_stored_comes_once_and_in_order(steps: list[tuple[str, int]], memory_size: int) -> None:
    check(run(steps, memory_size, {}, 1 << 20))


@settings(max_examples=200)
@given(
    st.lists(STEPS, max_size=60),
    st.sampled_from([0, 400]),
    st.dictionaries(st.integers(0, 3), st.integers(0, 3)),
)
def test_what_does_not_come_was_counted(
    steps: list[tuple[str, int]], memory_size: int, policies: dict[int, int]
) -> None:
    world = run(steps, memory_size, policies, 4 * 640)
    missing = check(world, 1 << 20)
    assert len(missing) <= world.dropped_total
