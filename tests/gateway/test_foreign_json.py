"""JSON that others wrote: what is let through can be handed on, and nothing but JsonError comes out for the rest."""

from __future__ import annotations

import contextlib
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petiole_gateway.foreign_json import BYTES_PER_BRACKET, MAX_NESTING, MAX_TEXT, JsonError, parse, parse_object


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b" 1 ", 1),
        (b"\xef\xbb\xbf[]", []),
        (b"18446744073709551615", 2**64 - 1),
        (b"-18446744073709551616", -(2**64)),
        (b"1e308", 1e308),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a":{"a":1}}', {"a": {"a": 1}}),
        (b'"' + b"[" * 500 + b'"', "[" * 500),
        (b"[" + b"[]," * 500 + b"[]]", [[]] * 501),
    ],
)
def test_json_that_can_be_handed_on_is_taken(text: bytes, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        (b"", False),
        (b"{", False),
        (b"\xff", False),
        (b"NaN", False),
        (b"[Infinity]", False),
        (b"-Infinity", False),
        (b"1e999", True),
        (b'{"a":-1e999}', True),
        (b"18446744073709551616", True),
        (b"-18446744073709551617", True),
        (b"9" * 60_000, True),
        (b'"\\ud800"', True),
        (b'{"\\udfff":1}', True),
        (b'{"a":1,"b":2,"a":1}', True),
        (nested(MAX_NESTING + 1), True),
        (nested(MAX_NESTING, '{"a":[', "]}"), True),
        (nested(940), True),
        (nested(MAX_TEXT // 2), True),
        (b"[" * MAX_TEXT, True),
        (b" " * MAX_TEXT + b"1", True),
    ],
)
def test_what_could_not_be_handed_on_is_refused_with_a_reason(text: bytes, is_json: bool) -> None:
    with pytest.raises(JsonError) as raised:
        parse(text)
    assert raised.value.is_json is is_json
    assert 0 < len(raised.value.reason) < 200


def test_the_deepest_value_that_is_taken_can_be_written_back() -> None:
    assert json.dumps(parse(nested(MAX_NESTING))).encode() == nested(MAX_NESTING)


def test_an_object_is_asked_for_by_name() -> None:
    assert parse_object(b'{"a":1}') == {"a": 1}
    for text in (b"[]", b"1", b"null", b'"a"'):
        with pytest.raises(JsonError):
            parse_object(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_taken_is_the_value_and_survives_another_turn(value: Any) -> None:
    try:
        found = parse(json.dumps(value).encode())
    except JsonError:
        return
    assert found == value
    assert parse(json.dumps(found, ensure_ascii=False, allow_nan=False).encode()) == found


@given(st.binary(max_size=64) | st.text('[]{}":,0e19-+.NIanfity\\ud8 ', max_size=64).map(str.encode))
def test_any_bytes_give_a_value_or_a_json_error(data: bytes) -> None:
    try:
        json.dumps(parse(data), ensure_ascii=False, allow_nan=False).encode()
    except JsonError:
        return


def test_no_text_of_the_largest_size_holds_the_loop_for_long() -> None:
    rng = random.Random(1)
    names = b"{" + b",".join(b'"%d":0' % rng.randrange(10**6) for _ in range(3000)) + b',"x":1,"x":1}'
    most = b"[" + b"{}," * (MAX_TEXT // BYTES_PER_BRACKET - 1) + b"0]"
    assert len(parse(most)) == MAX_TEXT // BYTES_PER_BRACKET
    with pytest.raises(JsonError):
        parse(most[:-1] + b",[]]")
    worst = [most, b'"' + b"\\u0000" * 5_400 + b'"', names, b"[" * MAX_TEXT, b"9" * MAX_TEXT]
    for text in worst:
        began = time.process_time()
        with contextlib.suppress(JsonError):
            parse(text)
        assert time.process_time() - began < 0.1, text[:20]  # 14 ms on the machine of the bench; quadratic is a second
