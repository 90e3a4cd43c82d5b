"""When a process is gone, as the kernel tells it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats_rig import until

from petiole_gateway.nats.child_process import boot_id, command_line, process_start
from petiole_gateway.nats.leaf_pidfile import PID_FILE, stale_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads of a process are told by Linux' /proc")

# Its first thread ends and another stays, as when a killed server waits for the disk: exit(2), not exit_group(2).
EXIT = {"x86_64": 60, "i686": 1, "armv7l": 1}.get(platform.machine(), 93)
HALF_GONE = f"""
import ctypes, os, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("runs", flush=True)
ctypes.CDLL(None).syscall({EXIT}, 0)
"""


@pytest.fixture
def half_gone() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_GONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_process_is_there_as_long_as_one_of_its_threads(
    half_gone: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert half_gone.stdin is not None
    assert half_gone.stdout is not None
    assert half_gone.stdout.readline() == "runs\n"
    pid = half_gone.pid
    start = process_start(pid)
    await until(lambda: state(pid) == "Z", "its first thread ends")
    noted = {"pid": pid, "start": start, "boot": boot_id(), "config": "leaf.conf"}
    (tmp_path / PID_FILE).write_text(json.dumps(noted))
    assert command_line(pid) == []
    assert process_start(pid) == start is not None
    assert stale_server(tmp_path) == pid, "two servers would be on one store"
    half_gone.stdin.close()
    await until(lambda: process_start(pid) is None, "its last thread ends")
    assert stale_server(tmp_path) is None
    assert half_gone.wait() == 0
