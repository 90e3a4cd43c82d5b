"""A week without a gateway, in the node's own time: what an outbox of 16 KB keeps of it, and what it counts."""

import itertools
from pathlib import Path

import pytest

from petiole import shedding

from .outbox_rig import Life, World, check
from .outbox_scenarios import MIXED

DAY = 24 * 60
MINUTES = 7 * DAY


@pytest.mark.parametrize("policies", [{}, {0: shedding.THIN}], ids=["oldest", "thin"])
def test_a_node_that_stores_a_reading_at_each_wake_fills_all_of_its_flash(
    tmp_path: Path, policies: dict[int, int]
) -> None:
    """A chip that retains nothing: RAM is lost at each sleep, and nobody is there for a week."""
    world = World()
    folder = f"{tmp_path}/"
    life = Life(world, folder, policies=policies, limit=16384)
    life.join()
    for _ in range(7 * DAY // 10):
        life.pass_time(599_000)
        life.add(0, 60)
        life.send(0)
        assert life.save(), "there is no room"
        kept = life.kept()
        life = Life(world, folder, policies=policies, limit=16384)
        life.resume(kept)
    size = sum(path.stat().st_size for path in (tmp_path / "outbox").iterdir())
    assert size > 2 * 4096, "of four segments one has just begun, and one has just gone"
    life.join()
    life.drain()
    check(world, world.dropped_total)
    assert len(world.gateway.got) + world.dropped_total == 7 * DAY // 10
    assert world.gateway.got[-1][0] == 7 * DAY // 10


def test_an_outbox_that_is_full_for_a_week_keeps_what_its_channels_say(tmp_path: Path) -> None:
    world = World()
    folder = f"{tmp_path}/"
    boots = 7
    for _ in range(boots):  # it is reset every day, and its count goes on
        life = Life(world, folder, policies=MIXED, limit=16384)
        for minute in range(MINUTES // boots):
            life.pass_time(59_000)
            life.publish(minute % 4, 20)
        assert life.flush()
    life.join()
    life.drain()
    check(world, world.dropped_total)
    assert len(world.gateway.got) + world.dropped_total == MINUTES
    kept = {policy: [v[0] for v in world.gateway.got if MIXED[v[1]] == policy] for policy in MIXED.values()}
    assert kept[shedding.OLDEST][0] > MINUTES // 2
    assert kept[shedding.OLDEST][-1] == MINUTES - 3
    assert kept[shedding.NEWEST][:10] == list(range(2, 42, 4))
    assert kept[shedding.LAST][-1] == MINUTES - 1
    # Of the whole week, and without a hole of a day: the others leave it room for 20 readings beside the newest 100.
    thin = kept[shedding.THIN]
    assert thin[-1] == MINUTES
    holes = [newer - older for older, newer in itertools.pairwise([0, *thin])]
    assert max(holes) < DAY, holes
    assert len(thin) >= 100
