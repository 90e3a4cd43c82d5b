"""The last segment of readings with numbers: more are added to it, as long as their numbers follow."""

from pathlib import Path

import pytest

from petiole import shedding

from .outbox_rig import Life, World, check


def store_one(life: Life) -> None:
    life.add()
    assert life.flush()
    life.send(0)  # numbers are given, and nothing is said


def values(world: World) -> list[int]:
    return [value[0] for value in world.gateway.got]


def asleep(life: Life, folder: Path) -> Life:
    """The life after a sleep without retained memory."""
    assert life.save()
    kept = life.kept()
    life = Life(life.world, f"{folder}/")
    life.resume(kept)
    return life


def test_readings_that_are_stored_one_by_one_share_a_segment_and_are_all_sent(tmp_path: Path) -> None:
    world = World()
    life = Life(world, f"{tmp_path}/")
    life.join()
    for _ in range(6):
        store_one(life)
    assert len(life.segments.files) == 1
    assert life.send() == 6
    life.acked()
    life.drain()
    assert life.outbox.is_empty
    assert values(world) == [1, 2, 3, 4, 5, 6]


def test_what_was_acknowledged_is_not_sent_again_after_a_sleep(tmp_path: Path) -> None:
    world = World()
    life = Life(world, f"{tmp_path}/")
    life.join()
    life.add()
    life.drain()  # numbers are free to give now, without a write that would tell what is acknowledged
    for _ in range(5):
        life.add()
    assert life.flush()
    life.drain()
    for heard in (False, False, True, False):
        life = asleep(life, tmp_path)
        waiting = world.value - world.gateway.taken
        store_one(life)
        assert life.send(9, 9 if heard else 0) == waiting + 1
        if heard:
            life.acked()
    assert len(life.segments.files) == 1
    life.drain()
    check(world)


def test_after_a_power_cut_numbers_go_on_in_a_segment_of_their_own_if_some_were_unused(tmp_path: Path) -> None:
    world = World()
    life = Life(world, f"{tmp_path}/")
    life.join()
    life.add()
    life.send(1, 0)  # a number that only RAM knows, and some that are free to give
    store_one(life)
    store_one(life)
    assert len(life.segments.files) == 1
    life = Life(world, f"{tmp_path}/")
    life.join()
    life.send(0)
    store_one(life)
    assert len(life.segments.files) == 2
    life.drain()
    assert values(world) == [1, 2, 3, 4]


def test_a_segment_to_which_nothing_can_be_added_goes_when_it_is_durable(tmp_path: Path) -> None:
    world = World()
    life = Life(world, f"{tmp_path}/")
    life.join()
    store_one(life)
    life.drain()
    assert life.outbox.is_empty
    assert len(life.segments.files) == 1
    life.add()
    life.drain()
    assert life.segments.files == []


@pytest.mark.parametrize("policy", [shedding.OLDEST, shedding.LAST, shedding.THIN])
def test_a_full_outbox_has_segments_without_numbers_that_its_policies_may_have(tmp_path: Path, policy: int) -> None:
    """Small ones, as many as there may be, and RAM has room for all of them: numbers would make them untouchable."""
    world = World()
    life = Life(world, f"{tmp_path}/", policies={0: policy, 1: policy}, limit=1)
    life.join()
    for number in range(600):
        life.add(number % 2, 60)
        if number % 8 == 7:
            assert life.flush(), "there is no room"
            life.send(0)
        if number == 303:  # somebody hears the first of them, and is gone again
            life.send()
            life.acked()
            life.send(0)
    life.drain()
    check(world, world.dropped_total)
    assert len(world.gateway.got) + world.dropped_total == 600
    assert world.gateway.got[-1][0] == 600
