"""How floats of nodes are told: a board has single floats, a process has doubles."""

import math
import random
import struct

import pytest

from petiole import cbor
from petiole_gateway.hub.readings import Channels, encode, plain


def single(value: float) -> float:
    """What a board makes of it."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


@pytest.mark.parametrize("value", [21.7, -0.1, 3.14159, 1013.25, 0.001, 1e10, 123456.7, 1e-30, 3.4028235e38])
def test_a_single_float_is_told_as_it_was_meant(value: float) -> None:
    sent = cbor.encode(single(value))
    assert plain(cbor.decode(sent)[0]) == value


@pytest.mark.parametrize("value", [21.7, 0.1, 1 / 3, 1e300, 5e-324, -1.7976931348623157e308])
def test_a_double_is_told_as_it_is(value: float) -> None:
    assert plain(cbor.decode(cbor.encode(value))[0]) == value


@pytest.mark.parametrize("value", [21.5, 0.0, -0.0, 0.0999755859375, 65504.0, 16777216.0, 5.960464477539063e-08])
def test_what_is_exact_as_it_is_written_stays(value: float) -> None:
    told = plain(cbor.decode(cbor.encode(value))[0])
    assert (told, math.copysign(1, told)) == (value, math.copysign(1, value))


def test_no_single_float_becomes_another_one() -> None:
    luck = random.Random(1)
    for _ in range(20000):
        value = struct.unpack("f", luck.randbytes(4))[0]
        told = plain(value)
        if value - value == 0:
            assert single(told) == value
            assert len(repr(told)) <= len(repr(value))
        else:
            assert told is None


def test_it_is_so_inside_of_lists_and_in_the_document_of_a_reading() -> None:
    assert plain({"a": [single(0.1)]}) == {"a": [0.1]}
    assert b'"value":21.7,' in encode("kitchen", Channels(None), 0, 0, single(21.7), 1)
