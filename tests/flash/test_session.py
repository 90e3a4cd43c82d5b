"""The raw REPL of a board that is slow."""

from __future__ import annotations

import signal
import termios
import threading

from petiole_tools.flash.session import Session

from .rig import BoardVm

SILENT_S = 1.2  # while a board starts: two attempts to interrupt it are made in that time


def test_a_board_that_answers_all_attempts_at_once_is_understood(board: BoardVm) -> None:
    board.wait_for_start(1)
    process = board.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    # A terminal forgets what came before a Ctrl-C, and a board's USB does not.
    attributes = termios.tcgetattr(board._fd)
    attributes[3] |= termios.NOFLSH
    termios.tcsetattr(board._fd, termios.TCSANOW, attributes)
    waking = threading.Timer(SILENT_S, process.send_signal, [signal.SIGCONT])
    waking.start()
    try:
        with Session(board.path) as session:
            assert session.facts()[0] == "micropython"
            assert session.tree("/") == {"/": (-1, "-")}
    finally:
        waking.join()
