"""PROTOCOL.md says what the code does: the numbers, the kinds of frames and records, the drop reasons, the vectors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from petiole import cbor, wire
from tests.protocol_text import ROOT, drop_reasons, numbers, section, table

WIRE = {name: value for name, value in vars(wire).items() if name.isupper()}
FRAME_TYPES = ("DATA", "ACK", "JOIN_REQUEST", "JOIN_ACCEPT", "REJECT")
READING_TIMES = ("TAKEN_NOW", "TAKEN_AGE", "TAKEN_AT", "TAKEN_AFTER")
STATUSES = {
    "OK": "done",
    "BAD_ARGUMENTS": "bad arguments",
    "NOT_PERMITTED": "not permitted",
    "NOT_FOUND": "not found",
    "TIMED_OUT": "timed out",
    "TOO_LARGE": "too large",
    "TOO_MANY": "too many",
    "HANDLER_FAILED": "handler failed",
    "NOT_NOW": "not now",
}
REJECTS = {
    "REJECT_SESSION": "the session is not known here",
    "REJECT_JOIN": "the join is refused",
    "REJECT_VERSION": "the version is not spoken",
    "REJECT_LATER": "not now",
}
# What a name of wire.py is called in the table of section 7, where it differs: ACK is a frame as well.
RECORD_NAMES = {"ACK": "ACKS"}

# Functions that hand a drop reason to their caller, by file.
RETURNING = {
    "firmware/petiole/frame.py": {"split"},
    "firmware/petiole/reassembly.py": {"add"},
    "firmware/petiole/session.py": {"open_data"},
    "firmware/petiole/endpoint.py": {"_receive", "_accept", "_reject"},
    "gateway/petiole_gateway/hub/uplinks.py": {"offer"},
}
COUNTING = {"_drop", "drop", "count_drop", "_count"}


def record_kinds() -> dict[str, int]:
    rows = table(section(7), "kind", "name")
    return {RECORD_NAMES.get(row[1], row[1]): int(row[0], 16) for row in rows}


def header_bit(layout: str, letter: str) -> int:
    """The value of the bit that the layout `001A L000` gives to a letter."""
    bits = layout.split("`")[1].replace(" ", "")
    assert len(bits) == 8, layout
    return 0x80 >> bits.index(letter)


def test_the_table_of_numbers_is_that_of_the_code() -> None:
    assert numbers() == {name: WIRE.get(name) for name in numbers()}


def test_the_types_of_frames_are_those_of_the_code() -> None:
    rows = {row[1]: row for row in table(section(3), "bits 7\N{EN DASH}5", "type") if row[1]}
    assert set(rows) == set(FRAME_TYPES)
    for name, (number, _, layout) in rows.items():
        assert WIRE[name] == int(number) << 5, name
        assert layout.startswith(f"`{int(number):03b}"), name
        if name in ("DATA", "ACK", "REJECT"):
            assert header_bit(layout, "A") == wire.ADDRESSED
    assert header_bit(rows["DATA"][2], "L") == wire.LONG_COUNTER
    assert header_bit(rows["JOIN_REQUEST"][2], "F") == header_bit(rows["JOIN_ACCEPT"][2], "F") == wire.FULL_SEQUENCE
    assert header_bit(rows["JOIN_ACCEPT"][2], "D") == wire.DOUBTFUL_CLOCK
    assert wire.TYPE_MASK == 0xE0


def test_the_kinds_of_records_are_those_of_the_code() -> None:
    assert record_kinds() == {name: WIRE.get(name) for name in record_kinds()}
    assert "80\N{EN DASH}FF  READING" in section(7)
    assert wire.READING == 0x80


@pytest.mark.parametrize(
    ("number", "header", "names"), [(6, ("rrrr", "meaning"), REJECTS), (10, ("status", "meaning"), STATUSES)]
)
def test_reasons_and_statuses_are_those_of_the_code(number: int, header: tuple[str], names: dict[str, str]) -> None:
    rows = {int(code): meaning for code, meaning in table(section(number), *header)}
    assert set(rows) == {WIRE[name] for name in names}
    for name, meaning in names.items():
        assert rows[WIRE[name]].startswith(meaning), name


def test_the_times_of_readings_are_those_of_the_code() -> None:
    assert [int(row[0]) for row in table(section(9), "TT", "time")] == [WIRE[name] for name in READING_TIMES]


def test_salts_labels_and_ids_are_those_of_the_code() -> None:
    salts = {row[0]: row[1] for row in table(section(5), "context", "Master Salt")}
    assert salts == {"join": f"`{wire.JOIN_SALT.decode()}`", "session": f"`{wire.SESSION_SALT.decode()}`"}
    assert f'"{wire.DEVICE_ID_LABEL.decode()}"' in section(5)
    ids = f"The node's id is the one byte `{wire.NODE_ID.hex()}`, the gateway's the one byte `{wire.GATEWAY_ID.hex()}`."
    assert ids in section(5)


def test_the_limits_of_cbor_are_those_of_the_code() -> None:
    assert f"at most {cbor.MAX_DEPTH} arrays and maps inside each other, at most {cbor.MAX_ITEMS} items" in section(1)


def test_every_number_of_the_code_is_in_a_table() -> None:
    bits = {"TYPE_MASK", "ADDRESSED", "LONG_COUNTER", "FULL_SEQUENCE", "DOUBTFUL_CLOCK", "READING"}
    strings = {"NODE_ID", "GATEWAY_ID", "JOIN_SALT", "SESSION_SALT", "DEVICE_ID_LABEL"}
    told = {*numbers(), *record_kinds(), *FRAME_TYPES, *STATUSES, *REJECTS, *READING_TIMES, *bits, *strings}
    assert set(WIRE) - told == set()


def test_numbers_in_the_text_are_those_of_the_table() -> None:
    """The sentences that a number stands in, so that a change of the one is not forgotten in the other."""
    sentences = {
        2: f"at most **{wire.MAX_FRAME} bytes**",
        4: f"a window of {wire.REPLAY_WINDOW} counters: that one and the {wire.REPLAY_WINDOW - 1} below it",
        8: f"at most {wire.WINDOW_UPLINK} frames in flight, of those that ask for an ack, on an uplink and "
        f"{wire.WINDOW_DOWNLINK} on a downlink",
        9: f"at most {wire.MAX_SEQUENCES_AHEAD} confirmed readings unacknowledged",
        10: f"remembers the last {wire.REMEMBERED_REQUESTS}",
        11: f"at most **{wire.MAX_MESSAGE} bytes**",
        13: f"at most {wire.MAX_CHANNELS} channels and {wire.MAX_COMMANDS} commands",
    }
    for number, sentence in sentences.items():
        assert sentence in section(number), sentence


# Drop reasons ----------------------------------------------------------------------------------------------


def sources() -> list[Path]:
    folders = ("firmware/petiole", "gateway/petiole_gateway/hub", "gateway/petiole_gateway/links")
    return sorted(path for folder in folders for path in (ROOT / folder).glob("*.py"))


def texts(node: ast.AST) -> Iterator[str]:
    """The texts that an expression can be: both of `"a" if x else "b"`, neither of `f("a")`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def reasons_in(path: Path) -> set[str]:
    """Drop reasons in a file: counted, returned to who counts them, or the keys of a framer's counters."""
    returning = RETURNING.get(path.relative_to(ROOT).as_posix(), set())
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in COUNTING:
            found.update(text for argument in node.args for text in texts(argument))
        elif isinstance(node, ast.FunctionDef) and node.name in returning:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    found.update(texts(inner.value))
        elif isinstance(node, ast.ClassDef) and node.name == "MalformedRecord":
            for inner in ast.walk(node):
                if isinstance(inner, ast.arguments):
                    found.update(text for default in inner.defaults for text in texts(default))
        elif is_counters(node) and isinstance(node.value, ast.Dict):
            found.update(text for key in node.value.keys if key is not None for text in texts(key))
    return found - {""}


def is_counters(node: ast.AST) -> TypeGuard[ast.Assign]:
    """`self.dropped = ...`"""
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Attribute) and target.attr == "dropped" for target in node.targets
    )


def test_every_function_that_returns_a_reason_is_there() -> None:
    for name, functions in RETURNING.items():
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        assert functions <= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name


def test_every_drop_reason_is_explained_and_used() -> None:
    used = {reason: path.name for path in sources() for reason in reasons_in(path)}
    assert {reason: name for reason, name in used.items() if reason not in drop_reasons()} == {}
    assert drop_reasons() - set(used) == set()


# Vectors ---------------------------------------------------------------------------------------------------


def test_every_vector_file_is_named_and_there() -> None:
    named = set(re.findall(r"`([a-z0-9_]+\.json)`", section(20)))
    there = {path.name for path in (ROOT / "tests/vectors").glob("*.json")}
    assert named == there


def test_every_vector_file_names_its_source() -> None:
    for path in (ROOT / "tests/vectors").glob("*.json"):
        assert '"source": "' in path.read_text(encoding="utf-8"), path.name


def test_sections_name_only_vectors_that_are_there() -> None:
    for number in range(1, 20):
        for name in re.findall(r"`([a-z0-9_]+\.json)`", section(number)):
            assert (ROOT / "tests/vectors" / name).exists(), (number, name)
