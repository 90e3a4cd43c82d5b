"""A server process that must not outlive us or that we become, and proof that a process found later is ours."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def ended_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn` after which the kernel sends the child SIGTERM when we die, by whatever cause; Linux only.

    The kernel watches the *thread* that started the child, so start servers from a thread that lives as long as
    the program. On other systems None: a server that outlives us is found by its pid file at the next start.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: nothing is loaded in the child
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # we died between the fork and the call
            os._exit(1)

    return bind


async def end_at_once_by_signals() -> None:
    """From now on SIGTERM and SIGINT end this process by themselves: before it becomes another program. One that came
    earlier is dealt with here, as the event loop was told to."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # One turn of the loop to read what has come, one to call the handler, one to raise what that has cancelled.
    for _ in range(3):
        await asyncio.sleep(0)


def process_start(pid: int) -> str | None:
    """Text that differs for two processes that had the same pid; None if there is no such process.

    One that was killed is there until all its threads are: one of them may be waiting for a slow disk, in a write.
    """
    if sys.platform != "linux":
        return _ps(pid, "lstart=")
    state, threads, start = _stat(pid)
    return None if state == "Z" and threads <= 1 else start


def is_ending(pid: int) -> bool:
    """Its first thread has ended, and with it all that could be asked about it but its start."""
    return sys.platform == "linux" and _stat(pid)[0] == "Z"


def _stat(pid: int) -> tuple[str, int, str | None]:
    """State, number of threads, and start in ticks after boot (proc(5), fields 3, 20 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0, None
    return fields[0], int(fields[17]), fields[19]


def command_line(pid: int) -> Sequence[str]:
    """Arguments of a process, empty if there is none."""
    if sys.platform == "linux":
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [part.decode(errors="replace") for part in raw.split(b"\0") if part]
    return (_ps(pid, "command=") or "").split()


def boot_id() -> str | None:
    """Name of the kernel's present boot, None where it has none. It changes with every power cycle."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _ps(pid: int, column: str) -> str | None:
    done = subprocess.run(["ps", "-o", column, "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or None
