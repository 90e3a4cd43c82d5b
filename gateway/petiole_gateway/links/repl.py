"""The way back from the REPL: a board on which somebody has worked is brought back to its program. Sans-IO.

A running node ignores what is sent here: none of it is a frame. Only `is_forced` begins with Ctrl-C, which stops it,
and presses it again while the node goes on to speak.
"""

from __future__ import annotations

# What a board did, when all is over.
RUNNING = "running"  # its program ran all the time
RESTARTED = "restarted"  # it stood in the REPL; its program has spoken since
RESTARTING = "restarting"  # the same, and nothing was heard yet
REPL = "repl"  # it is in the REPL again: there is no program, or it ends at once
SILENT = "silent"  # neither a prompt nor a frame: it sleeps, runs what somebody left running, or is off

_STOP = b"\r\x03"  # Ctrl-C
# Ends a line, then Ctrl-B: leaves the raw REPL, and shows the prompt of the other one.
_ASK = b"\r\x02"
# Ctrl-D at the prompt: soft reset. In the raw REPL the program would not be started after it.
_RESTART = b"\x04"
_PROMPT = b">>> "
_TAIL = 64  # bytes; a banner and its prompt come in pieces
# A prompt is one when nothing follows: 9600 baud need 1 ms a byte, USB 1 ms a piece, a busy computer more.
QUIET_S = 0.15
# The REPL answers within ms; garbage collection and flash may take 100 ms.
ASK_AGAIN_S = 1.0
_ASKS = 3
# What a node says later than this after Ctrl-C it did not have on its way: 4 KB of buffers are 0.4 s at 115,200 baud.
_STOPPED_S = 0.5
# main.py waits 2 s for Ctrl-C, and a board of source files imports for 1 to 3 s.
START_S = 10.0
_RESTARTS = 2  # the first may have met the prompt of a line before it


class ReplExit:
    """`take` what comes from the board, send what `to_send` says, call it again at `deadline`; over with an `outcome`.

    Times in s, of any clock that never goes back.
    """

    def __init__(self, now: float, *, is_forced: bool = False) -> None:
        self.outcome = ""
        self._is_forced = is_forced
        self._asked = 0
        self._restarts = 0
        self._was_heard = False
        self._asked_at = now
        self._runs_on = False  # after the last question
        self._tail = b""
        self._next_at = now  # of the next question, or of giving up
        self._quiet_at: float | None = None  # when the prompt at the end has stood long enough

    def take(self, data: bytes, frames: int, now: float) -> None:
        """So much came, and so many frames were in it."""
        if self.outcome:
            return
        self._was_heard = self._was_heard or bool(frames)
        self._runs_on = self._runs_on or (bool(frames) and now > self._asked_at + _STOPPED_S)
        if frames and (self._restarts or not self._is_forced):
            self.outcome = RESTARTED if self._restarts else RUNNING
            return
        self._tail = (self._tail + data)[-_TAIL:]
        self._quiet_at = now + QUIET_S if self._tail.endswith(_PROMPT) else None

    def to_send(self, now: float) -> bytes:
        """What to send at this time."""
        if self.outcome:
            return b""
        if self._quiet_at is not None and now >= self._quiet_at:
            return self._restart(now)
        if now < self._next_at:
            return b""
        if self._restarts:
            self.outcome = RESTARTING
            return b""
        if self._asked == _ASKS:
            self.outcome = RUNNING if self._was_heard else SILENT
            return b""
        is_to_stop = self._is_forced and (not self._asked or self._runs_on)
        self._next_at = now + ASK_AGAIN_S
        self._asked += 1
        self._asked_at, self._runs_on = now, False
        return _STOP if is_to_stop else _ASK

    def _restart(self, now: float) -> bytes:
        self._tail, self._quiet_at = b"", None
        if self._restarts == _RESTARTS:
            self.outcome = REPL
            return b""
        self._restarts += 1
        self._next_at = now + START_S
        return _RESTART

    def deadline(self) -> float | None:
        """When `to_send` is to be asked again; None when it is over."""
        if self.outcome:
            return None
        return self._next_at if self._quiet_at is None else min(self._next_at, self._quiet_at)

    def lose(self) -> None:
        """The port is gone: a board that was told to restart may have taken its USB with it."""
        if not self.outcome:
            self.outcome = RESTARTING if self._restarts else SILENT
