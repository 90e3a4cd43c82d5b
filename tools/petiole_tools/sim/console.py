"""The console of a node that is a process: what is typed there reaches it as it would reach a board. Sans-IO but for
the signal.

A board takes Ctrl-C out of the stream and stops between two bytecodes. MicroPython's unix port stops where the signal
meets it: inside a garbage collection the heap stays locked, nothing can be allocated any more, and the process ends.
When it enters the REPL it throws away what it has not read.
"""

import os
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_INTERRUPT = b"\x03"
_PROMPT = b">>> "
_PROMPT_S = 1.0  # a REPL that runs code in raw mode answers Ctrl-C without a prompt
_STEP_S = 0.002  # the kernel stops a process at its next turn: within a slice of the scheduler, 1 to 4 ms
_BUSY_S = 1.0  # a node waits many times in each second; what does not is somebody's loop without an end
_START_S = 5.0  # MicroPython starts within 0.1 s, on a machine that stands still for a moment within some seconds
MAX_HELD = 65_536  # bytes; more are lost, as on a UART that nobody reads


class Interruption:
    """One Ctrl-C for a process: SIGINT when it waits for something, from `late_at` on wherever it is. Times in s, any
    clock. `is_character`: it has entered the REPL meanwhile, where the key is typed, and the signal would end it.
    """

    def __init__(self, pid: int, takes_signals: Callable[[], bool], late_at: float) -> None:
        self.is_character = False
        self._pid = pid
        self._takes_signals = takes_signals
        self._late_at = late_at
        self._is_held = False

    def step(self, now: float) -> bool:
        """Whether it is over: it was sent, or the process is gone. To be called again after a moment if not."""
        try:
            return self._step(now >= self._late_at)
        except (FileNotFoundError, ProcessLookupError):
            return True

    def cancel(self) -> None:
        """Let a process that is held go on, without the signal."""
        if self._is_held:
            self._is_held = False
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)

    def _step(self, is_late: bool) -> bool:
        state = _state(self._pid)
        if self._is_held and state == "T" and not _is_in_a_call(self._pid) and not is_late:
            self.cancel()  # it woke before it was held
            return False
        is_over = is_late or state in ("", "Z", "X", "T")
        if is_over:
            self._press()
        elif state == "S" and not self._is_held:
            # It may wake before the signal comes. Held, it can be looked at.
            os.kill(self._pid, signal.SIGSTOP)
            self._is_held = True
        return is_over

    def _press(self) -> None:
        if self._takes_signals():
            os.kill(self._pid, signal.SIGINT)
        else:
            self.is_character = True
        self.cancel()


class Console:
    """`push` what is typed and `hear` what the node prints; write to its terminal what `pop` returns, and call that
    again at `next_at`. `fd`: either side of the terminal; `pid`: of the process on it, None when it has ended.
    """

    def __init__(self, fd: int, pid: Callable[[], int | None]) -> None:
        self.next_at: float | None = None
        self._fd = fd
        self._pid = pid
        self._waiting = b""
        self._interruption: Interruption | None = None
        self._held_until: float | None = None  # after Ctrl-C, until the prompt
        self._tail = b""
        self._begun: int | None = None  # the process that has printed something

    def push(self, data: bytes) -> None:
        self._waiting = (self._waiting + data)[:MAX_HELD]

    def hear(self, data: bytes) -> None:
        heard = self._tail + data
        if self._held_until is not None and _PROMPT in heard:
            self._held_until = 0
        self._tail = heard[1 - len(_PROMPT) :]
        self._begun = self._pid()

    def pop(self, now: float) -> bytes:
        """What the terminal gets now. Presses Ctrl-C when its turn has come."""
        self.next_at = None
        if self._interruption is not None:
            interruption = self._interruption
            if not interruption.step(now):
                self.next_at = now + _STEP_S
                return b""
            self._interruption = None
            if interruption.is_character:
                self._waiting = _INTERRUPT + self._waiting
            else:
                self._held_until, self._tail = now + _PROMPT_S, b""
        if self._held_until is not None:
            if now < self._held_until:
                self.next_at = self._held_until
                return b""
            self._held_until = None
        data, interrupt, rest = self._waiting.partition(_INTERRUPT)
        if interrupt and self._takes_signals():
            pid = self._pid()
            self._waiting = rest
            if pid is not None:
                # One that is only being started would be ended; a board does not hear the key then.
                late_at = now + (_BUSY_S if pid == self._begun else _START_S)
                self._interruption = Interruption(pid, self._takes_signals, late_at)
            self.next_at = now
            return data
        data, self._waiting = self._waiting, b""
        return data

    def close(self) -> None:
        """The terminal is not used any more; what was not typed yet is lost."""
        if self._interruption is not None:
            self._interruption.cancel()
        self._interruption, self._waiting, self.next_at = None, b"", None

    def _takes_signals(self) -> bool:
        """In the REPL, Ctrl-C is a character."""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ISIG)


def _state(pid: int) -> str:
    """As in proc(5), S for one that waits; empty where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return ""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _is_in_a_call(pid: int) -> bool:
    """Whether a process that is held is so inside a system call. True where that may not be known."""
    try:
        return not Path(f"/proc/{pid}/syscall").read_text().startswith("-1")
    except PermissionError:
        return True
