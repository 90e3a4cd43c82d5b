"""Times of stored readings, over restarts and clocks that were never set."""

from itertools import pairwise
from pathlib import Path

import pytest

from petiole_node import segments

from .outbox_rig import Life, World
from .test_outbox_damage import boot


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 640)


def moments(life: Life) -> list[int]:
    """Times of the readings that are ready to be sent."""
    life.outbox.fill(life.offset())
    return [item.taken + life.started_at for item in life.outbox.items]


DAY_MS = 86_400_000


def test_what_a_clock_that_nobody_has_set_said_is_forgotten_when_somebody_does(tmp_path: Path) -> None:
    world = World()
    life = boot(world, tmp_path)
    life.join()
    wrong = life.started_at - 3 * DAY_MS
    life.outbox.is_clock_doubtful = True
    expected = []
    for _ in range(3):
        life.add()
        expected.append(world.time)
        assert life.outbox.flush(wrong)
    life.outbox.is_clock_doubtful = False
    assert moments(life) == expected


def test_over_power_loss_a_clock_that_nobody_has_set_is_better_than_none(tmp_path: Path) -> None:
    world = World()
    expected = []
    for _ in range(3):
        life = boot(world, tmp_path)
        life.join()
        life.outbox.is_clock_doubtful = True
        life.add()
        expected.append(world.time)
        assert life.flush()
        world.time += 3_600_000
    life = boot(world, tmp_path)
    life.join()
    life.outbox.is_clock_doubtful = True
    assert moments(life) == expected


def test_readings_keep_their_time_over_restarts(tmp_path: Path) -> None:
    world = World()
    expected = []
    for wake in range(4):
        life = boot(world, tmp_path)
        if wake:
            life.join()
        for _ in range(2):
            life.add()
            expected.append(world.time)
        if not wake:
            life.join()  # the clock is set before the readings are stored
        life.flush()
        world.time += 3600_000
    life = boot(world, tmp_path)
    life.join()
    assert moments(life) == expected


def test_what_is_stored_waits_for_the_clock_after_power_loss(tmp_path: Path) -> None:
    world = World()
    life = boot(world, tmp_path)
    life.join()
    life.add()
    life.drain()  # flash knows of numbers from now on
    life.add()
    expected = [world.time]
    life.flush()
    world.time += 3_600_000
    life = boot(world, tmp_path)
    assert moments(life) == [], "nothing can be sent before the join, and that tells the time"
    life.add()
    expected.append(world.time)
    assert moments(life) == []
    life.pass_time(5000)
    life.join()
    assert moments(life) == expected[:1]
    life.send()
    life.acked()
    assert moments(life) == expected[1:], "behind the numbers that were free to give at the power loss"


def test_a_clock_that_is_set_after_storing_still_tells_the_time(tmp_path: Path) -> None:
    world = World()
    life = boot(world, tmp_path)
    life.add()
    expected = world.time
    life.flush()
    life.join()
    life.send(1, 0)  # gives the number, and writes down what this clock was worth
    world.time += 7200_000
    life = boot(world, tmp_path)
    life.join()
    assert moments(life) == [expected]


def test_a_clock_that_was_never_set_keeps_distances_and_no_time_is_in_the_future(tmp_path: Path) -> None:
    world = World()
    life = boot(world, tmp_path)
    for _ in range(3):
        life.add()
    life.flush()
    world.time += 7200_000
    life = boot(world, tmp_path)
    life.join()
    times = moments(life)
    assert [b - a for a, b in pairwise(times)] == [1000, 1000]
    assert times[-1] <= world.time
