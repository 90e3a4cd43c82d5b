"""One gateway per data directory, and no leaf server left over from an earlier one."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from pathlib import Path

from .child_process import boot_id, command_line, is_ending, process_start
from .errors import DataDirBusyError
from .private_file import write_private

LOCK_FILE = "leaf.lock"
PID_FILE = "leaf.pid.json"
# A leaf closes its stores in well under a second; an SD card that is just being flushed may take some.
TERMINATE_TIMEOUT_S = 10.0
_POLL_S = 0.02


class DataDirLock:
    """Held for the life of a LeafServer. The kernel releases it when the process ends, by whatever cause, so
    holding it proves that a server found through the pid file has no living owner."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """DataDirBusyError if another process has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise DataDirBusyError(self._path.parent) from error
        self._descriptor = descriptor

    def outlive_exec(self) -> None:
        """The program that replaces this process holds it, too."""
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, True)

    def release(self) -> None:
        """Let another process have it; harmless when not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def remember_server(data_dir: Path, pid: int, config: Path) -> None:
    """Note the server that was just started."""
    document = {"pid": pid, "start": process_start(pid), "boot": boot_id(), "config": str(config)}
    write_private(data_dir / PID_FILE, json.dumps(document).encode())


def forget_server(data_dir: Path) -> None:
    """The noted server has ended."""
    (data_dir / PID_FILE).unlink(missing_ok=True)


def stale_server(data_dir: Path) -> int | None:
    """Pid of the noted server if it still runs and provably is the one that was noted, else None.

    A pid alone proves nothing, numbers are reused: the boot, the start time and, until it is ending, the configuration
    file among the arguments must be the noted ones. Two servers on one store would destroy it, so the caller must end
    it.
    """
    try:
        noted = json.loads((data_dir / PID_FILE).read_bytes())
        pid, start, boot, config = int(noted["pid"]), noted["start"], noted["boot"], noted["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if boot != boot_id() or start is None or process_start(pid) != start:
        return None
    return pid if config in command_line(pid) or is_ending(pid) else None


async def end_stale_server(data_dir: Path) -> int | None:
    """Terminate, then kill, the noted server if it still runs; its pid, or None if there was none."""
    pid = stale_server(data_dir)
    if pid is not None:
        for number, patience_s in ((signal.SIGTERM, TERMINATE_TIMEOUT_S), (signal.SIGKILL, 5.0)):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, number)
            if await _ended(data_dir, patience_s):
                break
    forget_server(data_dir)
    return pid


async def _ended(data_dir: Path, patience_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + patience_s
    while stale_server(data_dir) is not None:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True
