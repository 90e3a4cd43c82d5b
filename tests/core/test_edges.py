"""Where the words and floats of a board end: integers from 2**30 on are objects there, a float has 24 bits."""

from struct import pack, unpack

from petiole import batch, cbor, records, resume, states, wire
from petiole.clock import Clock
from petiole.counter import WINDOW, ReplayWindow, reconstruct
from petiole.drift import Drift
from petiole.items import Measured
from tests.core.pair import TIME, Pair
from tests.core.support import Rng
from tests.core.test_resume import life, online

HAS_DOUBLES = 1 + 2**-40 != 1


def near(*powers):
    """Whole numbers around powers of two."""
    return [(1 << power) + distance for power in powers for distance in (-2, -1, 0, 1, 2)]


def test_integers_come_back_at_every_edge_of_words_and_lengths():
    for number in near(4, 5, 8, 16, 29, 30, 31, 32, 33, 62, 63):
        for value in (number, -number, -1 - number):
            data = cbor.encode(value)
            magnitude = value if value >= 0 else -1 - value
            length = 1
            for size, limit in ((1, 23), (2, 0xFF), (4, 0xFFFF), (8, 0xFFFFFFFF)):
                length += size - length + 1 if magnitude > limit else 0
            assert len(data) == length, value
            assert cbor.decode(data) == (value, len(data))
            assert cbor.skip(data, 0) == len(data)
    assert cbor.decode(cbor.encode((1 << 64) - 1))[0] == (1 << 64) - 1


def test_every_half_comes_back_in_three_bytes():
    for half in [1, 2, 3, 0x3FF, 0x400, 0x401, 0x8001, 0x83FF] + list(range(0, 0x10000, 7)):
        data = b"\xf9" + pack(">H", half)
        value = cbor.decode(data)[0]
        if value == value:
            assert cbor.encode(value) == data, half


def test_singles_come_back_as_they_were_and_no_longer():
    rng = Rng(30)
    edges = (0x00000001, 0x007FFFFF, 0x00800000, 0x33800000, 0x38800000, 0x477FE000, 0x4B800000, 0x7F7FFFFF)
    for bits in edges + tuple([rng.below(0x7F800000) for _ in range(400)]):
        for sign in (0, 0x80000000):
            data = b"\xfa" + pack(">I", bits | sign)
            value = cbor.decode(data)[0]
            shortest = cbor.encode(value)
            assert len(shortest) in (3, 5), bits
            assert cbor.decode(shortest)[0] == value, bits
            assert unpack(">I", pack(">f", value))[0] == bits | sign


def test_a_double_is_read_as_the_nearest_that_there_is():
    for bits, single in ((0x3FB999999999999A, 0x3DCCCCCD), (0xC00921FB54442D18, 0xC0490FDB), (0, 0)):
        value = cbor.decode(b"\xfb" + bits.to_bytes(8, "big"))[0]
        assert pack(">f", value) == single.to_bytes(4, "big")
        assert len(cbor.encode(value)) == (9 if HAS_DOUBLES and bits else 5 if bits else 3)


def test_varints_come_back_and_more_than_32_bits_are_refused():
    for value in [0, 127, 128, 16383, 16384] + near(28, 29, 30, 31) + [(1 << 32) - 1]:
        data = records.varint(value)
        assert records.read_varint(data, 0) == (value, len(data))
    for value in (1 << 32, 1 << 35, 1 << 64):
        try:
            records.read_varint(records.varint(value), 0)
        except records.MalformedRecord:
            continue
        raise AssertionError(value)


def test_ages_and_times_are_told_whatever_the_clock_counts():
    for start in [0] + near(29, 30, 31, 32, 40):
        for age in (0, 5, 10, 500, 86_400_000, (1 << 30) - 1, 1 << 30, (1 << 32) - 1):
            now = start + age
            for channel, sequence in ((0, 1), (14, 100), (15, (1 << 30) - 1), (255, 1 << 30), (3, (1 << 32) - 2)):
                writer = records.Writer(200, sequence - 1)
                assert writer.reading(channel, sequence, start, now, b"\x01")
                assert writer.reading(channel, sequence + 1, now, now, b"\x02")
                read = records.parse(writer.data, sequence - 1)
                assert [(one.channel, one.sequence) for one in read] == [(channel, sequence), (channel, sequence + 1)]
                assert read[0].age_ms == (age if age >= records.NOW_MS else 0)
                assert read[1].age_ms == 0
                writer = records.Writer(200, None)
                assert writer.reading(channel, sequence, start, now, b"\x01", TIME + start)
                assert writer.reading(channel, sequence + 1, now, now, b"\x02", TIME + now)
                read = records.parse(writer.data, 0)
                assert [one.at_ms for one in read] == [TIME + start, TIME + now]
                assert [one.sequence for one in read] == [sequence, sequence + 1]


def test_counters_are_reconstructed_and_refused_across_the_end_of_a_word():
    for expected in near(27, 30, 31, 32):
        for away in (-127, -30, -1, 0, 1, 100, 128):
            assert reconstruct((expected + away) & 255, 8, expected) == expected + away
        window = ReplayWindow(expected - 1 - WINDOW)
        for counter in range(expected - WINDOW, expected + WINDOW):
            assert window.check(counter)
            window.mark(counter)
            assert not window.check(counter)
            assert window.bitmap < 1 << WINDOW


def test_the_clock_is_right_to_the_millisecond_when_its_numbers_outgrow_a_word():
    for now in near(29, 30, 31, 32):
        clock = Clock()
        for trip in (40, 8, 100, 3):
            clock.sample(TIME + now - trip // 2 - trip % 2, now - trip, now, False)
        assert abs(clock.time(now) - (TIME + now)) <= 1
        drift = Drift(clock)
        for ms in (1, 60_000, (1 << 30) - 1, 1 << 30):
            before = clock.offset
            drift.ppm = -20_000
            drift.sleep(ms)
            assert clock.offset - before == -((ms * 20_000 + 999_999) // 1_000_000), ms


def test_a_session_is_kept_up_to_the_last_value_of_each_field():
    for counter in (1, (1 << 26) + 1, resume.COUNTER_LIMIT - 1):
        for bitmap in (0, 1, (1 << 29) + 5, (1 << 30) - 1):
            for offset in (1, (1 << 30) - 1, 1 << 31, TIME, (1 << 42) - 1):
                peer = online()
                session = peer.node.session
                session.send_counter = session.replay.highest = counter
                session.replay.bitmap = bitmap
                session.messages.next_number = 255
                peer.node.clock.offset = offset
                kept = resume.freeze(peer.node)
                assert len(kept[1]) == resume.COUNTERS
                node, is_resumed = life(kept)
                assert is_resumed
                session = node.session
                assert (session.send_counter, session.replay.highest) == (counter, counter)
                assert (session.replay.bitmap, session.messages.next_number) == (bitmap, 255)
                assert node.clock.offset == offset


def test_stored_readings_keep_moments_of_any_size():
    for first in near(29, 30, 31, 32, 41):
        for away in (0, 1, (1 << 30) - 1, 1 << 30, (1 << 32) - 1):
            items = [Measured(2, None, first, b"\x01"), Measured(3, None, first + away, b"\x02")]
            for boot, offset in (((1 << 32) - 1, None), (1, TIME)):
                part = batch.parse(batch.extend(b"", items, boot, offset))
                moments = []
                while part.step():
                    moments.append(part.base + part.delta)
                assert moments == [first + (offset or 0), first + away + (offset or 0)]
                assert part.boot == (0 if offset else boot)


def test_readings_arrive_once_with_their_time_while_clock_and_counters_outgrow_a_word():
    """12 days after a start, and a session whose counters and numbers reach 2**30 at the same time."""
    for ahead_ms in (0, 400, 5000):
        pair = Pair(seed=3 + ahead_ms, next_sequence=(1 << 30) - 20, loss=10, duplicate=10, reorder=10)
        pair.now = (1 << 30) - ahead_ms
        pair.gateway.taken = pair.gateway.durable = (1 << 30) - 21
        pair.node.link_up(pair.now, False)
        assert pair.run(lambda pair=pair: pair.node.state == states.ONLINE)
        assert pair.run(lambda pair=pair: pair.gateway.current is not None)
        for session in (pair.node.session, pair.gateway.current):
            session.send_counter += (1 << 30) - 20
        taken = []
        for value in range(40):
            taken.append(pair.now)
            pair.node.publish(0, value, pair.now)
            pair.run(for_ms=150)
        assert pair.run(lambda pair=pair: not pair.node.outbox.items)
        assert [reading[1] for reading in pair.gateway.readings] == list(range(40))
        for reading, moment in zip(pair.gateway.readings, taken):
            assert abs(reading[2] - TIME - moment) <= 60, (reading, moment)
        assert pair.node.session.send_counter > 1 << 30
        assert pair.node.joins_total == 1


def test_numbers_of_readings_go_on_across_the_end_of_a_word_after_a_join():
    for last in (1 << 30) - 1, 1 << 30, (1 << 31) + 7, (1 << 32) - 40:
        pair = Pair(next_sequence=last)
        pair.gateway.taken = pair.gateway.durable = last - 1
        pair.run(lambda pair=pair: pair.node.state == states.ONLINE)
        for value in range(5):
            pair.node.publish(0, value, pair.now)
        assert pair.run(lambda pair=pair: not pair.node.outbox.items)
        assert [reading[0] for reading in pair.gateway.readings] == [last + value for value in range(5)]
        assert wire.COUNTER_LIMIT == 1 << 31
