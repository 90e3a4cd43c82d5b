"""The codec against cbor2, and against anything."""

import math
from typing import Any

import cbor2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from petiole.cbor import MAX_ITEMS, CborError, decode, encode, skip

keys = st.one_of(st.integers(-(1 << 64), (1 << 64) - 1), st.text(max_size=8))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 64), (1 << 64) - 1),
    st.floats(),
    st.floats(width=16),
    st.floats(width=32),
    st.binary(max_size=40),
    st.text(max_size=20),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=30,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)


def depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


@given(values.filter(lambda value: depth(value) <= 8))
@settings(max_examples=300)
def test_cbor2_reads_what_we_write_and_we_read_what_it_writes(value: Any) -> None:
    ours = encode(value)
    assert same(cbor2.loads(ours), value)
    read, end = decode(ours)
    assert same(read, value)
    assert end == skip(ours, 0) == len(ours)
    for canonical in (False, True):
        theirs = cbor2.dumps(value, canonical=canonical)
        assert same(decode(theirs)[0], value)
        # The shortest form has one length, whoever chooses it.
        assert len(theirs) >= len(ours)
        if canonical:
            assert len(theirs) == len(ours)


@given(scalars)
def test_scalars_are_written_exactly_as_cbor2_writes_them(value: Any) -> None:
    assert encode(value) == cbor2.dumps(value, canonical=True)


@given(st.one_of(st.binary(max_size=64), values.filter(lambda v: depth(v) <= 8).map(encode)), st.data())
@settings(max_examples=500)
@example(b"\x9f", None)
def test_anything_is_a_value_or_an_error_of_one_type(base: bytes, data: Any) -> None:
    changed = bytearray(base)
    if data is not None and base:
        for _ in range(data.draw(st.integers(0, 3))):
            changed[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(changed))


def check(data: bytes) -> None:
    try:
        value, end = decode(data)
    except CborError as error:
        assert 0 <= error.offset <= len(data)
        assert error.reason
    else:
        assert 0 < end <= len(data)
        assert skip(data, 0) == end
        # What was read can be written, in no more bytes, and then is the one spelling of itself.
        written = encode(value)
        assert len(written) <= end
        assert encode(decode(written)[0]) == written
        assert same(cbor2.loads(data[:end]), value)


@given(st.integers(1, 5000), st.sampled_from([b"\x80", b"\xf6", b"\xa0", b"\x40"]))
def test_memory_is_bounded_by_the_number_of_items(count: int, item: bytes) -> None:
    data = b"\x99" + count.to_bytes(2, "big") + item * count
    try:
        value, _ = decode(data)
    except CborError as error:
        assert error.reason in ("items", "not shortest")
    else:
        assert isinstance(value, list)
        assert len(value) < MAX_ITEMS
