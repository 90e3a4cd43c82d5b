"""Boards that were left in the REPL, running, busy or without a program: what is sent to each, and what comes of it."""

import random

import pytest

from petiole_gateway.links import repl
from petiole_gateway.links.repl import ASK_AGAIN_S, QUIET_S, START_S, ReplExit

BANNER = b'\r\nMicroPython v1.26.0 on 2025-08-09; Pico with RP2040\r\nType "help()" for more information.\r\n'
PROMPT = b">>> "
STEP_S = 0.01
BYTE_S = 0.001  # 9600 baud


class Board:
    """What a board answers: `mode` "friendly", "raw", "busy" (a program that only Ctrl-C ends) or "running".

    `delay_s` passes before the first byte of an answer, `chunk` bytes come at once, so many Ctrl-C are `missed`.
    """

    def __init__(
        self, mode: str, *, has_program: bool = True, delay_s: float = 0.0, chunk: int = 1000, missed: int = 0
    ) -> None:
        self.mode = mode
        self.heard = b""
        self.restarts = 0
        self._has_program = has_program
        self._missed = missed
        self._delay_s = delay_s
        self._chunk = chunk
        self._out: list[tuple[float, bytes, int]] = []

    def take(self, data: bytes, now: float) -> None:
        self.heard += data
        for byte in data:
            self._take(bytes([byte]), now + self._delay_s)

    def _take(self, byte: bytes, at: float) -> None:
        if self.mode == "friendly" and byte == b"\r":
            self._say(b"\r\n" + PROMPT, at)
        elif self.mode in ("friendly", "raw") and byte == b"\x02":
            self.mode = "friendly"
            self._say(BANNER + PROMPT, at)
        elif self.mode == "friendly" and byte == b"\x04":
            self._restart(at)
        elif self.mode in ("busy", "running") and byte == b"\x03" and self._missed:
            self._missed -= 1
        elif self.mode in ("busy", "running") and byte == b"\x03":
            self.mode = "friendly"
            self._say(b"\r\nTraceback (most recent call last):\r\nKeyboardInterrupt: \r\n" + PROMPT, at)

    def _restart(self, at: float) -> None:
        self.restarts += 1
        self._say(b"\r\nMPY: soft reboot\r\n", at)
        if self._has_program:
            self.mode = "running"
            self._out.append((at + 3.5, b"~frame\n", 1))  # the safe window, and imports
        else:
            self._say(BANNER + PROMPT, at + 0.1)

    def _say(self, data: bytes, at: float) -> None:
        for start in range(0, len(data), self._chunk):
            self._out.append((at, data[start : start + self._chunk], 0))
            at += BYTE_S * self._chunk

    def come(self, now: float) -> list[tuple[bytes, int]]:
        ready = sorted(entry for entry in self._out if entry[0] <= now)
        self._out = [entry for entry in self._out if entry[0] > now]
        return [(data, frames) for _, data, frames in ready]


def run(board: Board, leaving: ReplExit) -> float:
    """Until it is over; how long that took."""
    now = 0.0
    while leaving.deadline() is not None:
        deadline = leaving.deadline()
        assert deadline is not None
        if now >= deadline:
            board.take(leaving.to_send(now), now)
        for data, frames in board.come(now):
            leaving.take(data, frames, now)
        now += STEP_S
        assert now < 60
    assert leaving.to_send(now) == b""
    return now


@pytest.mark.parametrize("mode", ["friendly", "raw"])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("delay_s", [0.0, 0.4, 1.3])
def test_a_board_in_the_repl_is_restarted_once(mode: str, chunk: int, delay_s: float) -> None:
    board = Board(mode, chunk=chunk, delay_s=delay_s)
    leaving = ReplExit(0.0)
    took_s = run(board, leaving)
    assert (leaving.outcome, board.mode, board.restarts) == (repl.RESTARTED, "running", 1)
    assert took_s < 9
    assert b"\x03" not in board.heard


def test_a_running_node_is_left_alone() -> None:
    board = Board("running")
    leaving = ReplExit(0.0)
    board._out.append((0.3, b"~frame\n", 1))
    assert run(board, leaving) < ASK_AGAIN_S
    assert (leaving.outcome, board.restarts) == (repl.RUNNING, 0)
    assert not set(board.heard) - set(b"\r\x02"), "nothing that a running node would take for a frame or a Ctrl-C"


def test_a_running_node_that_prints_a_prompt_is_not_taken_for_the_repl() -> None:
    leaving = ReplExit(0.0)
    leaving.take(b"type >>> ", 0, 0.1)
    leaving.take(b"help\n~frame\n", 1, 0.1 + QUIET_S / 2)
    assert leaving.outcome == repl.RUNNING


def test_a_line_that_begins_like_a_prompt_is_none() -> None:
    leaving = ReplExit(0.0)
    leaving.take(b">>> a log line\n", 0, 0.1)
    assert run_silent(leaving, 0.1, b"\r\x02") < 4
    assert leaving.outcome == repl.SILENT


def test_nobody_there_is_silence_and_ends() -> None:
    leaving = ReplExit(0.0)
    assert run(Board("absent"), leaving) < 4
    assert leaving.outcome == repl.SILENT


def test_a_busy_board_is_stopped_only_by_force() -> None:
    board = Board("busy")
    leaving = ReplExit(0.0)
    run(board, leaving)
    assert (leaving.outcome, board.restarts) == (repl.SILENT, 0)
    forced = ReplExit(0.0, is_forced=True)
    run(board, forced)
    assert (forced.outcome, board.restarts) == (repl.RESTARTED, 1)


def test_force_restarts_a_running_node_whose_last_frames_are_still_on_the_way() -> None:
    board = Board("running")
    board._out += [(at / 10, b"~frame\n", 1) for at in range(2)]
    forced = ReplExit(0.0, is_forced=True)
    run(board, forced)
    assert (forced.outcome, board.restarts) == (repl.RESTARTED, 1)


def test_a_node_that_misses_ctrl_c_is_stopped_by_the_next() -> None:
    board = Board("running", missed=1)
    board._out += [(at / 10, b"~frame\n", 1) for at in range(9)]
    forced = ReplExit(0.0, is_forced=True)
    run(board, forced)
    assert (forced.outcome, board.restarts) == (repl.RESTARTED, 1)
    assert board.heard.count(b"\x03") == 2


def test_a_node_that_cleans_up_is_not_stopped_in_that() -> None:
    board = Board("running", delay_s=1.2)
    board._out += [(at / 10, b"~frame\n", 1) for at in range(4)]
    forced = ReplExit(0.0, is_forced=True)
    run(board, forced)
    assert (forced.outcome, board.restarts) == (repl.RESTARTED, 1)
    assert board.heard.count(b"\x03") == 1


def test_a_node_that_force_does_not_stop_runs() -> None:
    board = Board("deaf")
    board._out += [(at / 10, b"~frame\n", 1) for at in range(40)]
    forced = ReplExit(0.0, is_forced=True)
    run(board, forced)
    assert forced.outcome == repl.RUNNING


def test_a_board_without_a_program_stays_in_the_repl_and_is_not_tried_for_ever() -> None:
    board = Board("friendly", has_program=False)
    leaving = ReplExit(0.0)
    run(board, leaving)
    assert (leaving.outcome, board.mode, board.restarts) == (repl.REPL, "friendly", 2)


def test_a_program_that_says_nothing_is_waited_for_so_long() -> None:
    board = Board("friendly")
    leaving = ReplExit(0.0)
    now = 0.0
    while not board.restarts:
        board.take(leaving.to_send(now), now)
        for data, frames in board.come(now):
            leaving.take(data, frames, now)
        now += STEP_S
    restarted_at = now
    board._out = []
    assert run_silent(leaving, now) - restarted_at == pytest.approx(START_S, abs=2 * STEP_S)
    assert leaving.outcome == repl.RESTARTING


def run_silent(leaving: ReplExit, now: float, *sends: bytes) -> float:
    """Nothing comes; when it is over. Nothing is sent but these."""
    while (deadline := leaving.deadline()) is not None:
        now = max(now, deadline)
        assert leaving.to_send(now) in (b"", *sends)
    return now


@pytest.mark.parametrize(("mode", "outcome"), [("absent", repl.SILENT), ("friendly", repl.RESTARTING)])
def test_a_port_that_goes_away_meanwhile_ends_it(mode: str, outcome: str) -> None:
    board = Board(mode)
    leaving = ReplExit(0.0)
    for step in range(50):
        board.take(leaving.to_send(step * STEP_S), step * STEP_S)
        for data, frames in board.come(step * STEP_S):
            leaving.take(data, frames, step * STEP_S)
    leaving.lose()
    assert (leaving.outcome, leaving.deadline()) == (outcome, None)
    leaving.take(b"~frame\n", 1, 1.0)
    assert leaving.outcome == outcome


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_at_any_time_end_it_in_bounded_memory(seed: int) -> None:
    luck = random.Random(seed)
    leaving = ReplExit(0.0, is_forced=luck.random() < 0.5)
    now = 0.0
    while not leaving.outcome:
        now += luck.random() / 2
        leaving.to_send(now)
        leaving.take(luck.choice([luck.randbytes(luck.randrange(300)), PROMPT, b"\n", b""]), 0, now)
        assert len(leaving._tail) <= 64
        assert now < 60
