"""Garbage in retained memory, broken files, clocks that were never set, an outbox that is full for a week."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from petiole import cbor, shedding
from petiole.errors import QueueFull
from petiole_node import ledger, segments

from .outbox_rig import Life, Memory, World, check


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", 640)


def boot(world: World, folder: Path, memory: Memory | None = None, **options: object) -> Life:
    return Life(world, f"{folder}/", memory, **options)


def finish(world: World, folder: Path, memory: Memory | None = None) -> list[int]:
    """Deliver everything; the values that came."""
    life = boot(world, folder, memory)
    life.join()
    life.drain()
    assert life.outbox.is_empty
    return [value[0] for value in world.gateway.got]


def test_garbage_in_retained_memory_is_no_readings(tmp_path: Path) -> None:
    world = World()
    memory = Memory()
    life = boot(world, tmp_path, memory)
    for _ in range(5):
        life.add()
    life.save()
    whole = memory.data
    rng = random.Random(1)
    garbage = [b"", b"\0" * 2048, b"\xff" * 2048, *(rng.randbytes(n) for n in range(0, 300, 11))]
    garbage += [whole[:n] for n in range(len(whole))]
    garbage += [whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(len(whole))]
    for data in garbage:
        memory.data = data
        assert boot(world, tmp_path, memory).outbox.is_empty, data
    # What follows a whole one, as a region of a fixed size has it, does not matter.
    memory.data = whole + b"\xff" * 100
    world.stored = [1, 2, 3, 4, 5]
    assert finish(world, tmp_path, memory) == [1, 2, 3, 4, 5]


def test_retained_memory_that_was_flushed_is_not_taken_twice(tmp_path: Path) -> None:
    world = World()
    memory = Memory()
    life = boot(world, tmp_path, memory)
    for _ in range(3):
        life.add()
    life.save()
    before = memory.data
    life.flush()
    memory.data = before  # the reset came before it could be written
    assert finish(world, tmp_path, memory) == [1, 2, 3]
    # The segment is gone now, and what stood in memory must not look newer than nothing.
    assert finish(world, tmp_path, memory) == [1, 2, 3]


def one_kept_and_one_sent(world: World, folder: Path, memory: Memory) -> Life:
    """Retained memory holds 1, which nobody heard in the wake before, and RAM holds 2; both have arrived now."""
    life = boot(world, folder, memory)
    life.join()
    life.wake(0)
    assert life.save()
    kept = life.kept()
    life = boot(world, folder, memory)
    life.resume(kept)
    life.wake(1)
    return life


def test_an_ack_in_the_last_moment_of_a_wake_frees_no_number(tmp_path: Path) -> None:
    """Retained memory holds 1 and RAM 2; both are acknowledged, and nobody has looked when the node sleeps."""
    world = World()
    memory = Memory()
    life = one_kept_and_one_sent(world, tmp_path, memory)
    life.acked()
    assert life.save()
    assert life.outbox.next_sequence == 3
    kept = life.kept()
    life = boot(world, tmp_path, memory)
    life.resume(kept)
    life.add()
    life.send()
    assert [value[0] for value in world.gateway.got] == [1, 2, 3]


@pytest.mark.parametrize("store", ["save", "flush"])
def test_a_number_that_a_reset_took_from_ram_is_given_to_no_other(tmp_path: Path, store: str) -> None:
    """The gateway has 2, and a reset came before the ack; the gateway is away in the wake after it."""
    world = World()
    memory = Memory()
    life = one_kept_and_one_sent(world, tmp_path, memory)
    life = boot(world, tmp_path, memory)
    life.add()
    assert life.save() if store == "save" else life.flush()
    assert finish(world, tmp_path, memory) == [1, 2, 3]


@pytest.mark.parametrize("damage", ["empty", "half", "tail", "garbage", "bit"])
def test_a_broken_segment_loses_its_own_readings_only(tmp_path: Path, damage: str) -> None:
    world = World()
    life = boot(world, tmp_path)
    for _ in range(6):
        for _ in range(12):
            life.add(0, 20)
        life.flush()
        life.segments._is_closed = True
    life.join()
    life.send(3)
    files = sorted(path for path in (tmp_path / "outbox").iterdir() if path.name != "state")
    for path in (files[0], files[3], files[5]):
        data = path.read_bytes()
        broken = {
            "empty": b"",
            "half": data[: len(data) // 2],
            "tail": data + b"\xff" * 50,
            "garbage": bytes(reversed(data)),
            "bit": data[:100] + bytes([data[100] ^ 4]) + data[101:],
        }
        path.write_bytes(broken[damage])
    life = boot(world, tmp_path)
    life.add()
    assert life.flush()
    got = finish(world, tmp_path)
    lost = {} if damage == "tail" else {*range(4, 13), *range(37, 49), *range(61, 73)}
    assert set(range(1, 74)) - set(got) == set(lost)
    assert got == sorted(set(got))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "outbox").iterdir()}


def test_a_merge_that_power_loss_ended_halfway_repeats_nothing_and_counts_what_it_dropped(tmp_path: Path) -> None:
    world = World()
    life = boot(world, tmp_path, policies={0: shedding.THIN}, limit=4 * 640)
    before: dict[str, bytes] = {}
    while not life.outbox.dropped_total:
        before = files(tmp_path)
        for _ in range(8):
            life.add(0, 20)
        assert life.flush()
    gone = {name: data for name, data in before.items() if name not in files(tmp_path)}
    assert len(gone) == 1, "of two segments one has the readings of both"
    for name, data in gone.items():
        (tmp_path / "outbox" / name).write_bytes(data)
    life = boot(world, tmp_path)
    assert life.outbox.dropped_total > 0
    got = finish(world, tmp_path)
    assert len(got) + life.outbox.dropped_total == world.value
    check(world, life.outbox.dropped_total)


def test_a_process_that_is_killed_while_it_overwrites_a_file_still_has_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*names: str) -> None:
        raise OSError(5, "EIO")

    store = segments.Segments(f"{tmp_path}/", 4096, False)
    state = store.open() or ledger.State()
    state.limit = 7
    store.write_state(state)
    with monkeypatch.context() as patched:
        patched.setattr("os.rename", killed)
        state.limit = 8
        with pytest.raises(OSError, match="EIO"):
            store.write_state(state)
    kept = segments.Segments(f"{tmp_path}/", 4096, False).open()
    assert kept is not None
    assert kept.limit == 7


@pytest.mark.parametrize("state", [b"", b"\xff" * 40, None])
def test_a_lost_state_makes_the_gateway_say_where_to_go_on(tmp_path: Path, state: bytes | None) -> None:
    world = World()
    life = boot(world, tmp_path)
    life.join()
    for _ in range(20):
        life.add()
    life.send(20, 20)
    life.acked()
    for _ in range(5):
        life.add()
    life.send(5, 2)  # on the wire with numbers that nobody remembers
    for _ in range(5):
        life.add()
    path = tmp_path / "outbox" / "state"
    if state is None:
        path.unlink()
    else:
        path.write_bytes(state)
    life = boot(world, tmp_path)
    assert not life.outbox.has_memory
    for _ in range(5):
        life.add()
    life.flush()
    assert finish(world, tmp_path)[-5:] == [31, 32, 33, 34, 35]
    check(world)


def test_a_new_outbox_gives_no_number_before_the_gateway_has_said_where_to_begin(tmp_path: Path) -> None:
    life = boot(World(), tmp_path)
    life.add()
    life.outbox.fill()
    assert life.outbox.items == []
    life.flush()
    life.add()
    life.outbox.fill()
    assert life.outbox.items == []


def test_another_outbox_of_the_device_makes_it_number_anew(tmp_path: Path) -> None:
    world = World()
    life = boot(world, tmp_path)
    life.join()
    for _ in range(10):
        life.add()
    life.send(4, 0)
    world.gateway.wire = {}
    world.gateway.taken = 5000  # by a node with the same key
    life = boot(world, tmp_path)
    for _ in range(3):
        life.add()
    life.flush()
    assert finish(world, tmp_path) == [11, 12, 13]
    assert world.gateway.taken == 5003


def test_what_was_stored_with_numbers_that_count_no_more_gets_others_and_is_not_taken_for_durable(
    tmp_path: Path,
) -> None:
    world = World()
    life = boot(world, tmp_path)
    life.join()
    for _ in range(2):
        for _ in range(15):
            life.add(0, 20)
        assert life.flush()
        life.send(0)
    assert len([name for name in files(tmp_path) if "." in name]) == 2, "segments with numbers"
    world.gateway.taken = 5000  # by a node with the same key
    for _ in range(2):  # the first is reset before anything has arrived, and when it had a look at one segment only
        life = boot(world, tmp_path, window=4)
        life.join()
        life.send(0)
        assert [item.sequence for item in life.outbox.items] == [5001, 5002, 5003, 5004]
    assert finish(world, tmp_path) == list(range(1, 31))


def test_readings_are_bounded_in_ram(tmp_path: Path) -> None:
    life = boot(World(), tmp_path, ram=1000)
    for _ in range(1000 // (len(cbor.encode([14, 0, b"." * 60])) + 8)):
        life.add(0, 60)
    with pytest.raises(QueueFull):
        life.add(0, 60)
    life.flush()
    life.add(0, 1000)
    with pytest.raises(QueueFull):
        life.add()
    life.flush()
    # And when they come back: not all of it at once.
    life.join()
    life.outbox.fill(0)
    assert sum(len(item.value) for item in life.outbox.items) < 1000 + 1010


def full_for_a_week(world: World, folder: Path, policies: dict[int, int]) -> list[int]:
    life = boot(world, folder, policies=policies, limit=8 * 640)
    for i in range(1000):
        life.add(i % 2, 20)
        if i % 10 == 9:
            life.flush()
        if i % 200 == 199:
            life = boot(world, folder, policies=policies, limit=8 * 640)
    life.flush()
    size = sum(path.stat().st_size for path in (folder / "outbox").iterdir() if path.name != "state")
    assert size <= 8 * 640
    got = finish(world, folder)
    assert len(world.stored) - len(got) <= world.dropped_total <= 1000 - len(got)
    return got


def test_a_week_drops_the_oldest(tmp_path: Path) -> None:
    world = World()
    got = full_for_a_week(world, tmp_path, {})
    assert got == list(range(1001 - len(got), 1001))
    assert len(got) > 80
    assert world.dropped_total == 1000 - len(got)


def test_a_week_keeps_the_beginning_where_the_newest_go(tmp_path: Path) -> None:
    world = World()
    got = full_for_a_week(world, tmp_path, {0: shedding.NEWEST, 1: shedding.NEWEST})
    assert got == list(range(1, len(got) + 1))
    assert world.dropped_total == 1000 - len(got)


def test_a_week_is_thinned_out_and_all_of_it_is_there(tmp_path: Path) -> None:
    world = World()
    got = full_for_a_week(world, tmp_path, {0: shedding.THIN, 1: shedding.THIN})
    assert got[-1] == 1000
    assert got[0] < 100
    gaps = [b - a for a, b in pairwise(got)]
    assert max(gaps) < 150
    # What is recent is whole.
    assert gaps[-40:] == [1] * 40


def test_a_week_of_a_last_value_is_its_last_value(tmp_path: Path) -> None:
    world = World()
    got = full_for_a_week(world, tmp_path, {0: shedding.LAST})
    even = [value for value in got if world.accepted[value] == 0]
    odd = [value for value in got if world.accepted[value] == 1]
    assert 999 in even
    assert 1000 in odd
    assert len(odd) > len(even)


@pytest.mark.parametrize("memory_size", [0, 600])
def test_flash_that_takes_nothing_costs_readings_but_no_number(
    tmp_path: Path, memory_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    memory = Memory(memory_size) if memory_size else None
    life = boot(world, tmp_path, memory, policies={1: shedding.NEWEST})
    life.join()
    for _ in range(4):
        life.add()
    life.send(4, 2)
    life.flush()

    def broken(self: segments.Segments, name: str, data: object, mode: str = "") -> None:
        raise OSError(5, "EIO")

    with monkeypatch.context() as patched:
        patched.setattr(segments.Segments, "_write", broken)
        patched.setattr(segments.Segments, "_overwrite", broken)
        for i in range(300):
            life.publish(i % 2, 20)
            if i % 10 == 9:
                life.save()
                life.send(20, 20)
                life.acked()
        assert not life.flush()
        assert life.outbox.failures_total > 0
        assert life.outbox.dropped_total > 50
        # After a power cut now no number would mean another reading.
        assert boot(World(), tmp_path).outbox.next_sequence > max(world.gateway.wire)
    life.add()
    assert life.flush()
    got = finish(world, tmp_path, memory)
    assert got[-1] == world.value
    missing = check(world, 1000)
    assert missing == []
    assert world.value - len(got) <= world.dropped_total
