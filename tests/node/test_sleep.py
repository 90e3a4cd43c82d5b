"""Boards that sleep, on MicroPython over models of the chips: how long, what time it is then, the watchdog."""

import ast
from pathlib import Path

import pytest

import petiole_node

from .board import Board

FIXED = "a1" * 26
COUNTERS = "c7" * 18
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.fixture(params=["esp32", "rp2"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(request.param, tmp_path)


@pytest.fixture
def esp32(tmp_path: Path) -> Board:
    return Board("esp32", tmp_path)


@pytest.fixture
def rp2(tmp_path: Path) -> Board:
    return Board("rp2", tmp_path)


# Light sleep -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [0, 1, 900, 10 * MINUTE, 5 * HOUR, 20 * DAY])
def test_a_board_sleeps_as_long_as_it_is_told(board: Board, ms: int) -> None:
    """An RP2 for longer than the 71 minutes of its timer, both for longer than ticks last."""
    (woken,) = board.run(["sleep", ms])
    assert woken == {"woke": 1, "now": ms}


def test_a_sleep_that_ends_early_is_slept_again(rp2: Board) -> None:
    """Some releases return at once. Then time passes in another way, but not by spinning."""
    rp2.state["sleepless"] = True
    (woken,) = rp2.run(["sleep", 10 * MINUTE])
    assert woken == {"woke": 1, "now": 10 * MINUTE}
    assert rp2.state["sleeps"] < 10


def test_the_radio_is_off_in_sleep(board: Board) -> None:
    """A Pico W would wake at once; an ESP32 would lose what it is connected to."""
    (woken, _) = board.run(["wifi"], ["sleep", HOUR], ["show"])
    assert not board.state.get("slept_with_radio")
    assert not board.state["radio"]
    assert HOUR <= woken["now"] <= HOUR + 100


@pytest.mark.parametrize("how", [["sleep", 1000], ["deep", 1000, COUNTERS]])
def test_the_last_frame_leaves_the_board_before_it_sleeps(board: Board, how: list[object]) -> None:
    board.run(["fixed", FIXED], ["uart"], how)
    assert board.state["cut_off"] == 0


def test_a_pin_ends_a_sleep(board: Board) -> None:
    (woken, later) = board.run(["press", 5000], ["sleep", HOUR], ["sleep", 1000])
    assert woken == {"woke": 2, "now": 5000}
    assert later["woke"] == (2 if board.kind == "esp32" else 1)


# Deep sleep ------------------------------------------------------------------------------------------------


def test_the_clock_goes_on_over_deep_sleeps(board: Board) -> None:
    now = 0
    board.run(["fixed", FIXED], ["deep", 5 * HOUR, COUNTERS])
    for _ in range(3):
        (life,) = board.run(["show"], ["wait", 700], ["deep", 5 * HOUR, COUNTERS])
        assert life["is_continued"]
        assert now + 5 * HOUR + 120 <= life["now"] <= now + 5 * HOUR + 1400  # booting takes time, too
        now = life["now"]


def test_a_pin_ends_a_deep_sleep(board: Board) -> None:
    if board.kind == "rp2":
        board.run(["fixed", FIXED], ["press", 5000], ["deep", HOUR, COUNTERS])
    else:
        board.run(["fixed", FIXED], ["deep", HOUR, COUNTERS], pin_after_ms=5000)
    (life,) = board.run(["show"])
    assert (life["woke"], life["reset"], life["is_continued"]) == (2, 4, True)
    assert 5000 <= life["now"] <= 5500


def test_more_than_a_board_can_sleep_is_cut(board: Board) -> None:
    board.run(["fixed", FIXED], ["deep", 40 * DAY, COUNTERS])
    (life,) = board.run(["show"])
    assert life["session"] == [FIXED, COUNTERS]
    assert (1 << 30) - 1 <= life["now"] <= (1 << 30) + 500


def test_a_deep_sleep_of_no_time_is_one(board: Board) -> None:
    board.run(["fixed", FIXED], ["deep", -5, COUNTERS])
    (life,) = board.run(["show"])
    assert (life["session"], life["woke"]) == ([FIXED, COUNTERS], 1)


def test_a_reset_in_the_middle_of_a_sleep_is_no_waking(rp2: Board) -> None:
    """The session is as it was; what time it is nobody knows, so this is a boot."""
    (first,) = rp2.run(["show"], ["fixed", FIXED], ["die", 5000], ["deep", HOUR, COUNTERS])
    (life,) = rp2.run(["show"])
    assert (life["session"], life["woke"], life["is_continued"]) == ([FIXED, COUNTERS], 0, False)
    assert (life["reset"], life["boots"]) == (3, first["boots"] + 1)
    assert life["now"] == 0


# Reasons ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "end", "reason"),
    [
        ("esp32", "power", 1), ("esp32", "reset", 2), ("esp32", "watchdog", 3), ("esp32", "soft", 2),
        ("rp2", "power", 1), ("rp2", "reset", 3), ("rp2", "watchdog", 3),
    ],
)  # fmt: skip
def test_a_reset_is_told_from_a_waking(tmp_path: Path, kind: str, end: str, reason: int) -> None:
    """A software reset of an RP2 uses the watchdog: only what stands in scratch tells a sleep."""
    board = Board(kind, tmp_path)
    board.run(["fixed", FIXED], ["deep", 1000, COUNTERS])
    (woken,) = board.run(["show"], ["end", end])
    (life,) = board.run(["show"])
    assert (woken["reset"], life["reset"]) == (4, reason)


def test_a_crash_is_told_even_after_a_sleep(board: Board) -> None:
    board.run(["fixed", FIXED], ["crash"], ["deep", 1000, COUNTERS])
    (life,) = board.run(["show"])
    assert (life["reset"], life["woke"]) == (6, 1)


# Time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [-0.05, -0.01, 0, 0.03, 0.05])
def test_an_esp32_measures_its_sleep(esp32: Board, drift: float) -> None:
    """Its clock is all it knows; what it may be wrong by covers what it is wrong by."""
    esp32.run(["fixed", FIXED], ["deep", HOUR, COUNTERS], drift=drift)
    (life,) = esp32.run(["show"])
    assert life["now"] == round(HOUR * (1 + drift)) + 300
    assert abs(life["now"] - HOUR - 300) <= life["error_ms"] <= HOUR // 15


@pytest.mark.parametrize("jump", [-DAY, DAY, -2 * HOUR, 3 * HOUR, -40 * 365 * DAY, 40 * 365 * DAY])
def test_a_clock_that_jumps_is_not_believed(esp32: Board, jump: int) -> None:
    """Set by a program, another epoch, garbage: only its difference counts, and only one that can be."""
    esp32.run(["fixed", FIXED], ["wait", 5000], ["deep", HOUR, COUNTERS])
    esp32.state["wall_ms"] += jump
    (life,) = esp32.run(["show"])
    assert (life["now"], life["is_continued"]) == (5000 + HOUR, True)
    assert life["error_ms"] >= 1000


@pytest.mark.parametrize("epoch", [-DAY, 0, 800_000_000_000, 1_800_000_000_000, 1 << 47, (1 << 48) - 5000])
def test_any_epoch_will_do(esp32: Board, epoch: int) -> None:
    esp32.state["wall_ms"] = epoch
    esp32.run(["fixed", FIXED], ["deep", HOUR, COUNTERS])
    (life,) = esp32.run(["show"])
    assert life["now"] == HOUR + 300


def test_a_pin_and_a_clock_that_jumped_is_a_boot(esp32: Board) -> None:
    """How long it slept nobody knows: readings of before must not get a time from it."""
    (first,) = esp32.run(["show"], ["fixed", FIXED], ["deep", HOUR, COUNTERS], pin_after_ms=5000)
    esp32.state["wall_ms"] -= DAY
    (life,) = esp32.run(["show"])
    assert (life["woke"], life["is_continued"], life["now"]) == (2, False, 0)
    assert life["session"] == [FIXED, COUNTERS]
    assert life["boots"] == first["boots"] + 1


def test_the_year_2021_is_in_no_time_of_an_rp2(rp2: Board) -> None:
    rp2.run(["fixed", FIXED], ["wait", 5000], ["deep", HOUR, COUNTERS])
    for jump in (0, DAY, -DAY):
        rp2.state["wall_ms"] += jump
        (life,) = rp2.run(["show"], ["deep", 1, COUNTERS])
        assert 5000 + HOUR <= life["now"] <= 5000 + HOUR + 1000


def test_ticks_that_go_back_do_not_take_the_clock_along(board: Board) -> None:
    board.run(["wait", 3000], ["back", 500])
    (first, second, third) = board.run(["wait", 3000], ["show"], ["back", 500], ["show"], ["wait", 100], ["show"])
    assert (first["now"], second["now"], third["now"]) == (3000, 3000, 3100)


def test_the_clock_of_the_board_is_read_for_sleep_only() -> None:
    """Nothing else in the firmware can ask what day it is, so no date of a board gets into data."""
    folder = Path(petiole_node.__file__).parents[1]
    readers = set()
    for path in folder.rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if names & {"time_ns", "localtime", "gmtime", "datetime", "mktime"}:
            readers.add(path.name)
    assert readers == {"sleeper_esp32.py", "sleeper_files.py"}


# The watchdog ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sleep", "deep"])
def test_a_watchdog_lets_a_board_sleep(board: Board, how: str) -> None:
    """That of an RP2040 counts on in sleep, and has 8.4 s at most."""
    lives = board.run(["fixed", FIXED], ["watchdog", 60], *([["sleep", HOUR]] if how == "sleep" else []), ["show"])
    assert board.end == "soft"
    assert lives[-1]["now"] == (HOUR if how == "sleep" else 0)
    board.run(["watchdog", 60], ["deep", HOUR, COUNTERS])
    (life,) = board.run(["show"])
    assert (life["woke"], life["reset"]) == (1, 4)


def test_a_board_that_hangs_is_reset(board: Board) -> None:
    board.run(["fixed", FIXED], ["deep", 1000, COUNTERS])
    board.run(["watchdog", 60], ["wait", 120_000])
    assert board.end == "watchdog"
    (life,) = board.run(["show"])
    assert (life["reset"], life["session"]) == (3, None)


def test_a_loop_that_turns_without_work_is_reset(board: Board) -> None:
    board.run(["watchdog", 8], ["work", 5])
    assert board.end == "watchdog"
    # 20 s of work were let through, and then 5 s of patience and 8 s of the watchdog at most.
    assert 20_000 < board.state["lasted_ms"] <= 33_500


def test_flash_deafens_an_rp2_only(board: Board) -> None:
    (life,) = board.run(["show"])
    assert life["deafens"] == (board.kind == "rp2")
