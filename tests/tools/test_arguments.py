"""What people type, and what they get to read."""

import errno
import json
from datetime import UTC, datetime, timedelta

import pytest

from petiole_tools import mailbox, output, tap
from petiole_tools.arguments import command_arguments, seconds, share
from petiole_tools.demo_count import Census
from petiole_tools.failure import CliError, explain


def test_names_with_numbers_are_in_the_order_of_the_numbers() -> None:
    names = ["node-10", "node-2", "node-1", "2", "10", "a", "node", "node-2b", "2-\u00b2"]
    wanted = ["2", "2-\u00b2", "10", "a", "node", "node-1", "node-2", "node-2b", "node-10"]
    assert sorted(names, key=output.natural) == wanted


def test_a_wake_that_is_late_is_due() -> None:
    now = datetime.now(UTC)
    assert output.until((now + timedelta(seconds=9.9)).isoformat()) == "in 10 s"
    assert output.until((now - timedelta(seconds=3)).isoformat()) == "due 3 s ago"
    assert output.until(None) == "-"


def test_a_result_that_is_cut_says_so() -> None:
    whole, long = {"id": "a", "value": "x" * 70}, {"id": "b", "value": "x" * 71, "status": 500}
    assert mailbox.row(whole)[-1] == f'"{"x" * 70}"'
    assert mailbox.row(long)[-1] == f'500 "{"x" * 70}…'


@pytest.mark.parametrize(
    ("words", "payload"),
    [
        ([], None),
        (["3"], [3]),
        (["3", "true", '"on"', "null", "[1]"], [3, True, "on", None, [1]]),
        (["[1, 2]"], [1, 2]),
        (['{"level": 3}'], {"level": 3}),
        (["level=3", "name=shelf", 'text="3"'], {"level": 3, "name": "shelf", "text": "3"}),
        (["list=[1]", "empty="], {"list": [1], "empty": ""}),
        (["a=b=c"], {"a": "b=c"}),
    ],
)
def test_arguments_are_json_in_order_or_by_name(words: list[str], payload: object) -> None:
    assert command_arguments(words) == payload


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("5s", 5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1.5 s", 1.5), ("7d", 604800)]
)
def test_durations_carry_units(text: str, value: float) -> None:
    assert seconds("--timeout", text) == value


@pytest.mark.parametrize("text", ["", "s", "-1", "5 parsecs", "1e9", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="not a duration"):
        seconds("--timeout", text)


def test_shares_are_percent_or_fractions() -> None:
    assert (share("--loss", "5%"), share("--loss", "0.05"), share("--loss", "0")) == (0.05, 0.05, 0)
    for text in ("", "%", "101%", "-1", "nan", "5"):
        with pytest.raises(CliError, match="not a share"):
            share("--loss", text)


def test_what_a_device_says_cannot_drive_the_terminal() -> None:
    frame = {
        "at": "2026-01-01T00:00:00.000Z",
        "link": "/dev/\x1b[2J",
        "direction": "up",
        "device": "kit\x1bchen",
        "type": "DATA",
        "frame": "20",
        "records": [
            {"kind": "LOG", "value": [20, "\x1b]0;owned\x07"]},
            {"kind": "READING", "channel": "text", "value": "\x1b[31mred", "unit": "\n"},
        ],
        "dropped": None,
    }
    line = tap.line(frame)
    assert all(char.isprintable() for char in line)
    assert "text" in line
    assert output.value_text("a\nb\x9b") == "a\ufffdb\ufffd"


def test_a_tapped_frame_reads_as_one_line() -> None:
    frame = {
        "at": "2026-01-01T00:00:00.000Z",
        "link": "/dev/serial/by-id/usb-Pico",
        "direction": "up",
        "device": "kitchen",
        "frame": "2012" + "00" * 18,
        "type": "DATA",
        "counter": 18,
        "records": [
            {"kind": "READING", "channel": "temperature", "value": 21.5, "unit": "Cel", "sequence": 12, "age_ms": 40},
            {"kind": "READING", "channel": "door", "value": True, "unit": "", "age_ms": 0},
            {"kind": "FLOOR", "sequence": 7, "dropped": 2},
        ],
        "dropped": None,
    }
    line = tap.line(frame)
    for part in (
        "▲ kitchen",
        "DATA 18",
        "20 B",
        " usb-Pico ",
        "temperature 21.5 Cel (#12, 40 ms ago)",
        "door true (live)",
        "FLOOR dropped 2 sequence 7",
    ):
        assert part in line
    dropped = tap.line({"direction": "up", "frame": "ff", "dropped": "tag", "records": []})
    assert "▲ ?" in dropped
    assert dropped.endswith("dropped: tag")


def test_every_error_becomes_one_problem_and_one_hint() -> None:
    nested = ExceptionGroup("g", [ExceptionGroup("h", [PermissionError(13, "Permission denied", "/dev/ttyUSB0")])])
    found = explain(nested)
    assert (found.problem, "dialout" in found.hint) == ("/dev/ttyUSB0: permission denied", True)
    assert explain(KeyError("x\ny")).problem == "unexpected KeyError: 'x\\ny'"
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/var/lib/petiole/x"))
    assert (full.problem, "make room" in full.hint) == ("/var/lib/petiole/x: no space left on device", True)
    assert explain(ValueError("a\nb")).problem == "unexpected ValueError: a b"


def test_loss_duplicates_and_disorder_are_counted() -> None:
    census = Census({"a": [1, 2, 2, 5, 4], "b": [1, 2, 3]})
    assert (census.total, census.duplicates, census.out_of_order) == (8, 1, 1)
    assert census.highest == {"a": 5, "b": 3}
    assert census.missing({"a": 6, "b": 3, "c": 2}) == 2 + 0 + 2
    assert census.beyond(Census({"a": [1, 2]})) == 2 + 3
    assert Census().missing({}) == 0


def test_json_is_one_line_in_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_json({"a": [1, {"b": "ü"}]}, indent=None)
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert json.loads(text) == {"a": [1, {"b": "ü"}]}


@pytest.mark.parametrize(
    ("error", "problem", "hint"),
    [
        (FileNotFoundError(2, "No such file or directory", "/proc"), "/proc: no such file or directory", "that path"),
        (PermissionError(13, "Permission denied", "/etc/p"), "/etc/p: permission denied", "another place"),
        (PermissionError(13, "Permission denied", "/dev/ttyACM0"), "/dev/ttyACM0: permission denied", "dialout"),
    ],
)
def test_an_error_of_the_system_says_what_helps(error: OSError, problem: str, hint: str) -> None:
    told = explain(error)
    assert told.problem == problem
    assert hint in told.hint
