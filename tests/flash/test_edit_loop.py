"""The loop of editing and running, and what nodes say through their gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Run
from .rig import BoardVm

APP = """
from petiole_node import Node
node = Node("petiole.json")
@node.every(0.2)
def speak():
    node.log("this is {text}")
node.run()
"""


class Reader:
    """Lines of a process, as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []

    def wait_for(self, text: str, timeout_s: float = 40) -> str:
        """The next line with this in it."""
        end = time.monotonic() + timeout_s
        assert self._process.stdout is not None
        while time.monotonic() < end:
            line = self._process.stdout.readline()
            print(f"{time.monotonic():.1f} {line}", end="")
            assert line, self.lines
            self.lines.append(line)
            if text in line:
                return line
        pytest.fail(f"no {text!r} in {self.lines[-20:]}")


def test_a_saved_application_runs_and_its_log_follows(
    petiole: Run, plugged: str, site: Path, board: BoardVm, tmp_path: Path
) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.format(text="one"))
    command = [sys.executable, "-m", "petiole_tools", "run", str(app), "--board", "unix", "--name", "edited"]
    process = subprocess.Popen(
        [*command, "--port", plugged], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        reader = Reader(process)
        reader.wait_for("joined")
        reader.wait_for("  this is one")
        # A mistake is shown, and the loop goes on.
        app.write_text("def (:\n")
        reader.wait_for("error:")
        app.write_text(APP.format(text="two"))
        reader.wait_for("joined")
        reader.wait_for("  this is two")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        process.stdout.read()
        code = process.wait(30)
        process.stdout.close()
    assert code == 130

    # Asked later, the gateway still knows what was said.
    code, out, err = petiole("logs", "edited", "--json")
    assert code == 0, err
    texts = [json.loads(line)["text"] for line in out.splitlines()]
    assert "this is one" in texts
    assert texts.index("this is one") < texts.index("this is two")
    code, out, _ = petiole("logs", "edited", "--count", "2")
    assert code == 0
    assert len(out.splitlines()) == 2
    code, _, err = petiole("logs", "nobody")
    assert code == 1
    assert petiole("logs", "a.b")[0] == 1
    assert petiole("device", "remove", "edited")[0] == 0
