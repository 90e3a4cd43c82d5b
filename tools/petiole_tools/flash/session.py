"""The raw REPL of a board, through mpremote's transport: files and facts, with errors that a person understands."""

from __future__ import annotations

import ast
import base64
import errno
import re
import struct
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from petiole_gateway.links.port import permission_hint
from petiole_tools.doctor.serial_ports import holders_of
from petiole_tools.flash import find
from petiole_tools.flash.errors import BoardFull, BoardLost, FlashError, NoBoard, NoMicroPython, PortBusy, PortForbidden

AGENT = Path(__file__).parent / "agent.py"
IMAGE = ".frozen"  # where MicroPython looks for modules that are in its image
CHUNK = 768  # bytes of a file in one step: 1 KB as base64, which a board of 100 KB heap holds a few times
ANSWER_S = 12.0  # the longest step is hashing 100 KB, or erasing as much: seconds
# How long a port may be somebody's who is just letting it go. A process that is being started has the files of the one
# that starts it for some milliseconds, also ports that this one closes meanwhile.
LET_GO_S = 1.0
_POLL_S = 0.1
PROMPT_S = 3.0  # a node yields to Ctrl-C within milliseconds, but for a flash write
_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_LAST = b"petiole is here"
_MAX_HOLDERS = 3  # named of those that have a port open
_GONE = (OSError, termios.error, struct.error, TransportError)


class BoardFileError(FlashError):
    """A file operation on the board failed."""


class Session:
    """A board's raw REPL. Opening interrupts what runs there; `reset` starts it again.

    Raises FlashError only. `log` gets each piece of code before the board does; `stop` ends it before its next step.
    """

    def __init__(
        self,
        path: str,
        *,
        patience_s: float = 0.0,
        log: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.path = path
        self.is_lost = False
        self._is_left = False  # it was told to start anew
        self._log = log
        self._stop = stop or threading.Event()
        self._transport = _open(path)
        # On a pty mpremote reads without looking whether there is anything, so that no shorter timeout holds.
        self._transport.is_pty = False
        try:
            self._interrupt(patience_s)
            self._run(AGENT.read_text(encoding="utf-8"))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self._transport.close()
        except (OSError, termios.error):
            self.is_lost = True

    # What is there -----------------------------------------------------------------------------------------

    def facts(self) -> tuple[str, tuple[int, ...], str, int, str]:
        """(runtime, version, machine, _mpy, build) of the interpreter."""
        found: tuple[str, tuple[int, ...], str, int, str] = ast.literal_eval(self.call("p_facts"))
        return found

    def has_firmware_in_image(self) -> bool:
        """Whether petiole is frozen into the MicroPython that runs there."""
        return self.call("p_has_firmware", IMAGE) == "1"

    def tree(self, path: str) -> dict[str, tuple[int, str]]:
        """(size, SHA-256 in hexadecimal) of each file at or below a path; (-1, "-") of a folder."""
        found = {}
        for line in self.call("p_tree", path).splitlines():
            size, digest, name = line.split(" ", 2)
            found[name] = (int(size), digest)
        return found

    def room(self, root: str) -> tuple[int, int]:
        """Free bytes, and bytes of a block, of which every file takes whole ones."""
        free, block = self.call("p_room", root).split()
        return int(free), int(block)

    def read(self, path: str, most: int = 4096) -> bytes | None:
        """The beginning of a file, or None if there is none."""
        text = self.call("p_read", path, most)
        return base64.b64decode(text) if text else None

    # Changing it -------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes, told: Callable[[int], None] | None = None) -> None:
        """A file of its own; where a cut of power must not leave half of it, see `replace`."""
        self.call("p_open", path)
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            self.call("p_write", base64.b64encode(piece))
            if told is not None:
                told(len(piece))
        self.call("p_close")

    def replace(self, path: str, data: bytes) -> None:
        """One atomic change: under another name, then renamed."""
        self.write(path + ".new", data)
        self.call("p_rename", path + ".new", path)

    def copy(self, source: str, target: str) -> None:
        self.call("p_copy", source, target)

    def make(self, path: str) -> None:
        self.call("p_make", path)

    def rename(self, source: str, target: str) -> None:
        self.call("p_rename", source, target)

    def remove(self, path: str) -> None:
        """A file or an empty folder, if it is there."""
        self.call("p_remove", path)

    def reset(self) -> None:
        """Start the board anew. The port may be gone afterwards."""
        self._is_left = True
        try:
            self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
        except _GONE as error:
            raise self._lost(error) from error

    def recover(self) -> None:
        """Start the board after a failure, if it can be reached and has not been started."""
        if not self.is_lost and not self._is_left:
            self._stop.clear()
            self.reset()

    def start_loader(self) -> None:
        """Into the chip's own loader, where it has one that a program can ask for."""
        try:
            self._transport.exec_raw_no_follow("import machine\nmachine.bootloader()")
        except _GONE as error:
            raise self._lost(error) from error

    # Below -------------------------------------------------------------------------------------------------

    def call(self, name: str, *arguments: Any) -> str:
        """Run a function of the agent; what it has printed."""
        return self._run(f"{name}({', '.join(map(repr, arguments))})")

    def _run(self, code: str) -> str:
        if self._stop.is_set():
            raise FlashError("interrupted", "run the same command again: what was copied stays")
        if self._log is not None:
            self._log(code)
        try:
            out, err = self._transport.exec_raw(code, timeout=ANSWER_S)
        except TransportExecError as error:
            raise self._failed(error.error_output) from error
        except _GONE as error:
            raise self._lost(error) from error
        if err:
            raise self._failed(err.decode(errors="replace"))
        return bytes(out).decode(errors="replace").strip()

    def _interrupt(self, patience_s: float) -> None:
        """Have the raw REPL's prompt. Ctrl-C is repeated: the first may meet a board that has just been reset."""
        serial = self._transport.serial
        end = time.monotonic() + max(patience_s, PROMPT_S)
        try:
            while True:
                serial.write(b"\r\x03\x03")
                time.sleep(0.05)
                serial.reset_input_buffer()
                serial.write(b"\r\x01")
                if self._reads(_BANNER, 0.7):
                    # It may be the answer to an earlier attempt, with others on their way: this one is the last.
                    serial.write(b"print('" + _LAST + b"', end='')\x04")
                    if self._reads(_LAST + b"\x04\x04", PROMPT_S):
                        self._transport.in_raw_repl = True
                        return
                if self._stop.is_set() or time.monotonic() > end:
                    raise NoMicroPython(
                        f"nothing on {self.path} answers as MicroPython does",
                        "press the board's reset button and run this again with --wait; or install it: --image FILE",
                    )
        except _GONE as error:
            raise self._lost(error) from error

    def _reads(self, ending: bytes, within_s: float) -> bool:
        """Whether this comes in time, whatever comes before it."""
        read: bytes = self._transport.read_until(1, ending, timeout_overall=within_s)
        return read.endswith(ending)

    def _lost(self, error: BaseException) -> BoardLost:
        self.is_lost = True
        words = " ".join(str(error).split()) or type(error).__name__
        return BoardLost(
            f"{self.path}: the board is gone, or silent: {words[:120]}",
            "check the cable and run the same command again: the board runs what it ran before",
        )

    def _failed(self, trace: str) -> FlashError:
        line = trace.strip().splitlines()[-1] if trace.strip() else "an error without a text"
        if re.search(r"ENOSPC|OSError: (\[Errno )?28\b", line):
            return BoardFull("the board's flash is full", "remove files: `petiole shell --port PORT ls`")
        return BoardFileError(f"{self.path}: the board says {line}", "--debug shows more; is its file system in order?")


def _open(path: str) -> SerialTransport:
    deadline = time.monotonic() + LET_GO_S
    while True:
        try:
            # With a timeout a board that hangs is an error and no end.
            return SerialTransport(path, timeout=ANSWER_S)
        except (TransportError, OSError, termios.error) as error:
            reason = error.__context__ if isinstance(error, TransportError) else error
            problem = _why_not(path, reason if isinstance(reason, OSError) else None)
            if not isinstance(problem, PortBusy) or time.monotonic() > deadline:
                raise problem from error
        time.sleep(_POLL_S)


def _why_not(path: str, error: OSError | None) -> FlashError:
    """mpremote forgets why a port did not open: look."""
    import fcntl  # noqa: PLC0415 - only here
    import os  # noqa: PLC0415

    shown = find.shown()
    is_port = True
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as reason:
        error = reason
    else:
        try:
            is_port = os.isatty(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            error = reason
        finally:
            os.close(fd)
    code = error.errno if error is not None else None
    if not is_port or code in (errno.EISDIR, errno.ENOTDIR):
        return NoBoard(f"{path} is no serial port", shown)
    if code in (errno.EACCES, errno.EPERM):
        return PortForbidden(f"{path}: permission denied", permission_hint(path, "log in anew"))
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return NoBoard(f"there is no port {path}", shown)
    if error is None:
        return PortBusy(f"{path}: it was in use, and is not any more", "try again")
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        holders = ", ".join(f"{who} (process {pid})" for pid, who in holders_of(path)[:_MAX_HOLDERS])
        problem = f"{path}: another program has it open" + (f": {holders}" if holders else "")
        return PortBusy(problem, "`petiole port release` if it is the gateway, else end it")
    return NoBoard(f"{path}: {(error.strerror or str(error)).lower()}", "pull the cable, put it in, and try again")
