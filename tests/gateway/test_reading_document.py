"""The JSON of a reading, which is put together by hand: it is what the JSON library would have made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from petiole_gateway.hub.readings import Channels, encode

AT_MS = 1_760_000_000_123
NAMES = Channels({"ch": [[0, "temp", "°C"], [1, 'a"b', "\\ \n\u2028"], [2, "plain", ""]]})
VALUES: list[Any] = [
    21.5, -0.0, 1e300, 5e-324, 0, -7, 2**64, True, False, None, "", 'say "hi"\n', "🌱", [1, [2.5, None]],
    {"a": 1, 'b"': [True]}, b"\x00\xff", float("nan"), float("-inf"),
]  # fmt: skip


def as_library(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("value", VALUES[:-3], ids=repr)
@pytest.mark.parametrize(("number", "name", "unit"), [(0, "temp", "°C"), (1, 'a"b', "\\ \n\u2028"), (9, "ch9", "")])
def test_a_reading_is_what_the_json_library_makes_of_it(value: Any, number: int, name: str, unit: str) -> None:
    head = {"device": "leaf-1", "name": name, "at": "2025-10-09T08:53:20.123Z", "value": value, "unit": unit}
    for _ in range(2):  # what is the same in all readings of a channel is kept after the first
        assert encode("leaf-1", NAMES, number, AT_MS, value, None) == as_library(head)
        assert encode("leaf-1", NAMES, number, AT_MS, value, 7, True) == as_library(
            {**head, "sequence": 7, "clock": "unsynchronised"}
        )


@pytest.mark.parametrize(("value", "text"), list(zip(VALUES[-3:], ['"AP8="', "null", "null"], strict=True)), ids=repr)
def test_what_json_cannot_hold_is_said_in_another_way(value: Any, text: str) -> None:
    assert f'"value":{text},' in encode("leaf-1", NAMES, 2, AT_MS, value, 1).decode()


def test_what_a_node_invents_is_not_kept() -> None:
    assert NAMES.around(0) is NAMES.around(0)
    assert NAMES.around(9) is not NAMES.around(9)
