from petiole import batch
from petiole.items import Measured
from tests.core.support import Rng


def item(channel, taken, value):
    return Measured(channel, None, taken, value)


def contents(data):
    """[(boot, moment, channel, value)] of the batches in `data`."""
    found = []
    offset = 0
    part = batch.parse(data)
    while part is not None:
        while part.step():
            found.append((part.boot, part.base + part.delta, part.channel, part.value()))
        offset = part.end
        part = batch.parse(data, offset)
    return found


ITEMS = [item(0, 1000, b"\x05"), item(255, 1000, b"\x43abc"), item(3, 61000, b"\x82\x01\xf6")]


def test_readings_come_back_with_channel_value_and_moment():
    data = batch.extend(b"", ITEMS, 7, None)
    assert contents(data) == [(7, 1000, 0, b"\x05"), (7, 1000, 255, b"\x43abc"), (7, 61000, 3, b"\x82\x01\xf6")]
    assert batch.count(data) == 3
    assert len(data) == batch.OVERHEAD + 3 + 6 + 7


def test_a_known_clock_makes_times_of_moments():
    offset = 1767225600000
    assert contents(batch.extend(b"", ITEMS[:1], 7, offset)) == [(0, offset + 1000, 0, b"\x05")]


def test_later_readings_extend_the_last_batch_of_the_same_clock():
    data = batch.extend(batch.extend(b"", ITEMS[:1], 7, None), ITEMS[1:], 7, None)
    assert data == batch.extend(b"", ITEMS, 7, None)
    mixed = batch.extend(data, ITEMS, 7, 5000)
    assert mixed[: len(data)] == data
    assert [entry[0] for entry in contents(mixed)] == [7, 7, 7, 0, 0, 0]
    later = batch.extend(mixed, ITEMS[:1], 8, None)
    assert contents(later)[-1] == (8, 1000, 0, b"\x05")


def test_a_clock_that_was_set_back_begins_a_new_batch():
    data = batch.extend(batch.extend(b"", ITEMS, 7, 100000), ITEMS, 7, 50000)
    assert [entry[1] for entry in contents(data)] == [101000, 101000, 161000, 51000, 51000, 111000]


def test_nothing_to_add_changes_nothing():
    data = batch.extend(b"", ITEMS, 7, None)
    assert batch.extend(data, [], 7, None) == data
    assert batch.extend(b"", [], 7, None) == b""
    assert batch.count(b"") == 0


def test_every_cut_shows_whole_batches_only():
    one = batch.extend(b"", ITEMS, 7, None)
    two = one + batch.extend(b"", ITEMS[:2], 0, 9)
    for size in range(len(two)):
        assert len(contents(two[:size])) == (3 if size >= len(one) else 0), size
        assert batch.count(two[:size]) == (3 if size >= len(one) else 0)


def test_every_flipped_bit_is_noticed():
    data = batch.extend(b"", ITEMS, 7, None)
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        assert batch.parse(bytes(broken)) is None, bit


def test_garbage_is_no_batch():
    rng = Rng(5)
    for size in range(0, 200, 7):
        data = rng.bytes(size)
        assert batch.parse(data) is None
        assert batch.parse(bytes((batch.MAGIC,)) + data) is None
        assert batch.count(data) == 0
        assert contents(batch.extend(b"", ITEMS, 1, None) + data) == contents(batch.extend(b"", ITEMS, 1, None))
    for fill in (b"\x00", b"\xff"):
        assert batch.parse(fill * 100) is None


def test_a_value_that_is_no_cbor_ends_its_batch():
    data = batch.build(0, 5, 2, b"\x01\x00\x05" + b"\x01\x00\x1f")
    assert contents(data + batch.extend(b"", ITEMS[:1], 1, None)) == [(0, 5, 1, b"\x05"), (1, 1000, 0, b"\x05")]


def test_no_distance_is_more_than_a_varint_holds():
    old = [item(0, 0, b"\x01"), item(0, 1 << 40, b"\x02")]
    assert [entry[1] for entry in contents(batch.extend(b"", old, 1, None))] == [0, (1 << 32) - 1]
