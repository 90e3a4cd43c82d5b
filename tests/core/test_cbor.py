from petiole.cbor import MAX_DEPTH, MAX_ITEMS, CborError, decode, encode, skip
from tests.core.support import Rng, raises, unhex, value_of, vectors

RFC = vectors("rfc8949.json")
GENERATED = vectors("cbor_generated.json")


def same(a, b):
    if isinstance(a, float) and a != a:
        return b != b
    return a == b and type(a) is type(b)


HAS_DOUBLES = 1 + 2**-40 != 1  # a board's VM has single floats


def needs_doubles(data):
    """Whether a float of 64 bits is in it, as far as the vectors go: where one may begin."""
    return b"\xfb" in data


def test_valid_items_are_written_and_read_as_published():
    for case in RFC["valid"] + GENERATED["valid"]:
        data = unhex(case["hex"])
        if not HAS_DOUBLES and needs_doubles(data):
            decode(data)  # it is read as the nearest there is
            continue
        value = value_of(case["value"])
        assert encode(value) == data, case
        read, offset = decode(data)
        assert same(read, value), case
        assert offset == len(data) == skip(data, 0), case
        assert encode(read) == data, case


def test_wider_floats_are_read_but_written_shorter():
    for case in RFC["wide"]:
        data = unhex(case["hex"])
        value = value_of(case["value"])
        assert same(decode(data)[0], value), case
        assert len(encode(value)) == 3


def test_what_has_another_spelling_or_no_value_is_refused():
    for case in RFC["refused"] + RFC["malformed"]:
        error = raises(CborError, decode, unhex(case["hex"]))
        assert error.reason == case["reason"], case
        assert 0 <= error.offset <= len(case["hex"]) // 2, case


def test_skip_refuses_bad_lengths_too():
    for case in RFC["malformed"]:
        if case["reason"] in ("length", "indefinite", "reserved", "not shortest"):
            assert raises(CborError, skip, unhex(case["hex"]), 0).reason == case["reason"], case


def test_every_item_cut_short_is_refused():
    for case in RFC["valid"] + GENERATED["valid"]:
        data = unhex(case["hex"])
        for end in range(len(data)):
            raises(CborError, decode, data[:end])
            raises(CborError, skip, data[:end], 0)


def test_items_follow_one_another():
    values = [1, "two", b"three", [4.0], {5: None}]
    data = b"".join([encode(value) for value in values])
    offset = 0
    for value in values:
        assert skip(data, offset) == decode(data, offset)[1]
        read, offset = decode(memoryview(data), offset)
        assert read == value
    assert offset == len(data)
    raises(CborError, decode, data, offset)
    raises(CborError, decode, data, -1)


def test_keys_are_sorted_by_their_encoding_whatever_the_order_of_insertion():
    keys = [100, 10, -1, "z", "aa", "", 1 << 40, "b", -500, 24, 23, "ü"]
    rng = Rng(8)
    first = None
    for _ in range(20):
        shuffled = list(keys)
        for index in range(len(shuffled)):
            other = rng.below(len(shuffled))
            shuffled[index], shuffled[other] = shuffled[other], shuffled[index]
        data = encode(dict.fromkeys(shuffled))
        first = first or data
        assert data == first
    # RFC 8949 §4.2.1: bytewise, so 10 before 24 before 100 before -1, not shortest first (RFC 7049).
    offset = 1
    previous = b""
    for _ in keys:
        end = skip(first, offset)
        assert first[offset:end] > previous
        previous = first[offset:end]
        offset = skip(first, end)


def test_depth_is_bounded_both_ways():
    value = None
    for _ in range(MAX_DEPTH):
        value = [value]
    assert decode(encode(value))[0] == value
    raises(ValueError, encode, [value])
    assert raises(CborError, decode, b"\x81" + encode(value)).reason == "depth"


def test_a_hundred_thousand_nested_arrays_cost_no_stack():
    assert raises(CborError, decode, b"\x81" * 20000).reason == "depth"
    assert raises(CborError, skip, b"\x81" * 20000, 0).reason == "length"
    assert skip(b"\x81" * 20000 + b"\xf6", 0) == 20001


def test_the_number_of_items_is_bounded():
    data = encode([None] * (MAX_ITEMS - 1))
    assert len(decode(data)[0]) == MAX_ITEMS - 1
    assert raises(CborError, decode, b"\x99\x04\x00" + b"\xf6" * MAX_ITEMS).reason == "items"
    nested = encode([None] * 200) * (MAX_ITEMS // 200 + 1)
    assert raises(CborError, decode, b"\x86" + nested).reason == "items"


def test_nothing_is_written_that_is_not_read():
    """A list of small numbers fits a message long before the reader's bound on items."""
    for value in ([0] * MAX_ITEMS, [[0] * 200] * 6, {n: [0] * 60 for n in range(20)}):
        raises(ValueError, encode, value)
    full = {n: [0] * 100 for n in range(10)}
    full["rest"] = [0] * (MAX_ITEMS - 1 - 20 - 1000 - 2)
    assert decode(encode(full))[0] == full
    full["rest"].append(0)
    raises(ValueError, encode, full)


def test_an_announced_length_allocates_nothing_before_it_is_checked():
    for head in (b"\x5a\xff\xff\xff\xff", b"\x7b" + b"\x7f" * 8, b"\x9a\x10\0\0\0", b"\xba\x10\0\0\0"):
        assert raises(CborError, decode, head + b"x" * 20).reason == "length"
        assert raises(CborError, skip, head + b"x" * 20, 0).reason == "length"
    # Three entries are six items: known at the head, not after building two of them.
    assert raises(CborError, decode, b"\xa3\x01\x02\x03\x04\x05").offset == 0


def test_what_is_no_value_is_refused():
    for value in (object(), {1, 2}, 1j, {(1, 2): 3}, {None: 1}, {True: 1}, {1.5: 1}, {b"": 1}):
        raises(TypeError, encode, value)
    for value in (1 << 64, -1 - (1 << 64)):
        raises(ValueError, encode, value)


def test_tuples_are_arrays_and_bytearrays_bytes():
    assert encode((1, bytearray(b"x"))) == encode([1, b"x"])


def test_all_halves_return():
    # Every 16-bit pattern that is not NaN; each has exactly one spelling.
    for half in range(0, 0x10000, 7):
        data = b"\xf9" + bytes([half >> 8, half & 255])
        value = decode(data)[0]
        if value == value:
            assert encode(value) == data, half


def test_random_bytes_are_a_value_or_an_error():
    rng = Rng(9)
    for _ in range(3000):
        data = rng.bytes(1 + rng.below(24))
        try:
            value, offset = decode(data)
        except CborError:
            continue
        assert 0 < offset <= len(data)
        assert skip(data, 0) == offset
        assert same(decode(encode(value))[0], value) or "nan" in str(value)
