from petiole import cbor, records, wire
from petiole.errors import MalformedRecord
from petiole.records import Reading, Writer, parse, read_varint, varint
from tests.core.support import raises

NOW = 10_000_000


def written(entries, room=200, acked=0, now=NOW):
    """Write (channel, sequence, taken) readings with their position as the value."""
    writer = Writer(room, acked)
    for position, (channel, sequence, taken) in enumerate(entries):
        assert writer.reading(channel, sequence, taken, now, cbor.encode(position))
    return bytes(writer.data)


def test_varints_come_back_in_their_shortest_form():
    for value, length in ((0, 1), (127, 1), (128, 2), (16383, 2), (16384, 3), (0xFFFFFFFF, 5)):
        data = varint(value)
        assert len(data) == length
        assert read_varint(b"x" + data + b"y", 1) == (value, 1 + length)


def test_a_reading_taken_now_costs_no_time():
    data = written([(0, 41, NOW - records.NOW_MS + 1)], acked=40)
    assert data.hex() == "812900"
    reading = parse(data, 40)[0]
    assert (reading.sequence, reading.age_ms, reading.at_ms) == (41, 0, None)


def test_ages_and_distances_come_back():
    taken = [NOW - 9000, NOW - 9000, NOW - 500, NOW - 700, NOW - 5, NOW - 300]
    data = written([(1, None, moment) for moment in taken])
    ages = [reading.age_ms for reading in parse(data)]
    for age, moment in zip(ages, taken):
        assert age == NOW - moment or (age == 0 and NOW - moment < records.NOW_MS)


def test_readings_in_order_say_only_the_distance():
    data = written([(0, None, NOW - 9000), (0, None, NOW - 8900), (0, None, NOW - 8900), (0, None, NOW - 8000)])
    assert data.hex() == "82a84600" + "866401" + "860002" + "86840703"
    writer = Writer(200)
    for at in (5000, 5001, 5001):
        assert writer.reading(0, None, 0, 0, b"\x00", at)
    assert bytes(writer.data).hex() == "8400000000138800" + "860100" + "860000"


def test_a_reading_older_than_a_varint_is_as_old_as_can_be_said():
    """49 days without a gateway must not make a frame that nobody parses."""
    now = 1 << 40
    data = written([(0, 1, 0), (0, 2, now - 5000), (0, 3, now - 4000)], now=now)
    assert [reading.age_ms for reading in parse(data)] == [0xFFFFFFFF, 5000, 4000]
    writer = Writer(200)
    for at in (0, 1 << 40, (1 << 40) + 9):
        assert writer.reading(0, None, 0, 0, b"\x00", at)
    assert [reading.at_ms for reading in parse(bytes(writer.data))] == [0, 1 << 40, (1 << 40) + 9]


def test_the_first_confirmed_reading_carries_a_byte_of_its_number_and_the_others_none():
    data = written([(0, 255, NOW), (0, None, NOW), (0, 256, NOW), (0, 257, NOW)], acked=254)
    assert data.hex() == "81ff00" + "8001" + "8102" + "8103"
    assert [reading.sequence for reading in parse(data, 254)] == [255, None, 256, 257]


def test_a_number_far_from_the_acknowledged_is_written_whole():
    for sequence, acked, is_whole in ((128, 0, True), (127, 0, False), (40, 40, True), (70000, 3, True)):
        data = written([(0, sequence, NOW)], acked=acked)
        assert (data[0] == wire.SEQUENCE) == is_whole, (sequence, acked)
        assert parse(data, acked)[0].sequence == sequence


def test_a_gap_in_the_numbers_is_written():
    data = written([(0, 41, NOW), (0, 43, NOW), (0, 44, NOW)], acked=40)
    assert [reading.sequence for reading in parse(data, 40)] == [41, 43, 44]


def test_what_does_not_fit_adds_nothing():
    for room in range(12):
        writer = Writer(room)
        assert not writer.reading(255, 70000, NOW - 5000, NOW, b"\x19\x03\xe8")
        assert writer.data == b""
    writer = Writer(20)
    assert writer.reading(0, 1, NOW, NOW, b"\x00")
    assert not writer.reading(0, 2, NOW, NOW, b"\x58\x20" + bytes(32))
    # What was refused is not counted as the one before.
    assert writer.reading(0, 2, NOW - 100, NOW, b"\x01")
    assert [(reading.sequence, reading.age_ms) for reading in parse(bytes(writer.data))] == [(1, 0), (2, 100)]


def test_only_what_must_arrive_asks_for_an_ack():
    assert records.asks_for_ack([])
    assert records.asks_for_ack(parse(b"\x81\x01\x00"))
    assert not records.asks_for_ack(parse(b"\x80\x00"))
    assert not records.asks_for_ack(parse(b"\x40\x01\x00\x44\x05\x80\x00"))
    assert records.asks_for_ack(parse(b"\x40\x01\x00\x49"))
    assert records.asks_for_ack(parse(b"\x3f\x00"))
    assert not records.asks_for_ack(parse(b"\x04\x82\x0a\x60"))


def test_a_value_longer_than_allowed_is_refused():
    largest = cbor.encode(bytes(wire.MAX_VALUE - 3))
    assert len(largest) == wire.MAX_VALUE
    assert isinstance(parse(b"\x80" + largest)[0], Reading)
    raises(MalformedRecord, parse, b"\x80" + cbor.encode(bytes(wire.MAX_VALUE - 2)))


def test_every_beginning_of_a_frame_parses_or_is_malformed():
    data = written([(0, 41, NOW - 500), (15, 42, NOW), (3, None, NOW - 400)], acked=40)
    data += b"\x40\x01\x02\x42\x00" + bytes(6) + b"\x46\x00\x00\x00\x01\x05\x01\x83\x01\x00\xa0"
    for length in range(len(data)):
        try:
            found = parse(data[:length], 40)
        except MalformedRecord:
            continue
        assert len(found) < len(parse(data, 40))
