"""Records: whatever comes is a list or malformed, and what is written is read."""

from hypothesis import given, settings
from hypothesis import strategies as st

from petiole import cbor, records, wire
from petiole.errors import MalformedRecord
from petiole.records import Reading, Record, Writer

from .plaintexts import plaintexts

MAX_SEQUENCE = 0xFFFFFFFF
MAX_AGE = 0xFFFFFFFF
NOW = 1 << 42

Entry = tuple[int, int | None, int, int | None]  # channel, sequence, age, time


@given(plaintexts, st.one_of(st.integers(0, 400), st.integers(0, MAX_SEQUENCE)), st.booleans())
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_records_or_malformed(plaintext: bytes, reference: int, in_message: bool) -> None:
    try:
        found = records.parse(plaintext, reference, in_message)
    except MalformedRecord as error:
        assert error.reason == "malformed_record"
        return
    assert isinstance(records.asks_for_ack(found), bool)
    for record in found:
        if isinstance(record, Reading):
            assert 0 <= record.channel <= 255
            assert record.sequence is None or record.sequence >= 0
            assert (record.age_ms is None) != (record.at_ms is None)
            assert (record.age_ms or 0) >= 0
        else:
            assert isinstance(record, Record)
            assert record.kind != wire.SEQUENCE
            assert not (in_message and record.kind == wire.FRAGMENT)


@given(st.integers(0, MAX_AGE), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_come_back(value: int, before: bytes, after: bytes) -> None:
    data = before + records.varint(value) + after
    assert records.read_varint(data, len(before)) == (value, len(data) - len(after))


@given(st.binary(max_size=7))
def test_a_varint_has_one_spelling(data: bytes) -> None:
    try:
        value, end = records.read_varint(data, 0)
    except MalformedRecord:
        return
    assert records.varint(value) == data[:end]


@st.composite
def frames(draw: st.DrawFn) -> tuple[int, list[Entry]]:
    """The highest number acknowledged, and readings with rising numbers, some without, of any age or time."""
    acked = draw(st.one_of(st.integers(0, 600), st.integers(0, MAX_SEQUENCE - 1)))
    gaps = st.sampled_from([0, 0, 0, 1, 5, 126, 127, 128, 500])
    # Seldom a number that was acknowledged already: the ack was late.
    following = max(1, acked + 1 - draw(st.sampled_from([0, 0, 0, 1, 200])))
    ages = st.one_of(st.integers(-5, 12), st.integers(0, 100_000), st.integers(0, 2 * MAX_AGE))
    times = st.one_of(st.none(), st.none(), st.integers(0, (1 << 48) - 1))
    entries: list[Entry] = []
    for _ in range(draw(st.integers(0, 8))):
        number = None
        number_wanted = following + draw(gaps)
        if draw(st.booleans()) and number_wanted <= MAX_SEQUENCE:
            number = number_wanted
            following = number + 1
        entries.append((draw(st.integers(0, 255)), number, draw(ages), draw(times)))
    return acked, entries


@given(frames(), st.integers(0, 200), st.integers(0, wire.MAX_SEQUENCES_AHEAD))
@settings(max_examples=500, deadline=None)
def test_what_is_written_is_read(frame: tuple[int, list[Entry]], room: int, ahead: int) -> None:
    acked, entries = frame
    writer = Writer(room, acked)
    written: list[tuple[int, Entry]] = []
    for position, entry in enumerate(entries):
        channel, number, age, at = entry
        before = bytes(writer.data)
        if writer.reading(channel, number, NOW - age, NOW, cbor.encode(position), at):
            written.append((position, entry))
            assert bytes(writer.data).startswith(before)
        else:
            assert bytes(writer.data) == before
        assert len(writer.data) <= room
    # The gateway may have taken more than the node knows.
    found = records.parse(bytes(writer.data), acked + ahead)
    assert len(found) == len(written)
    for record, (position, (channel, number, age, at)) in zip(found, written, strict=True):
        assert isinstance(record, Reading)
        assert (record.channel, record.sequence, record.value) == (channel, number, position)
        if at is not None:
            assert record.at_ms == at
        elif age < records.NOW_MS:
            assert record.age_ms == 0
        else:
            assert record.age_ms == min(age, MAX_AGE)
    assert records.asks_for_ack(found) == (not found or any(entry[1] is not None for _, entry in written))
