"""README.md promises that its node runs as it is printed there."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from petiole_tools.sim.runtime import find_micropython

README = Path(__file__).parents[2] / "README.md"
PETIOLE = [sys.executable, "-m", "petiole_tools"]
pytestmark = pytest.mark.timeout(90)


class Commands:
    """`petiole` with one settings file; what was started in the background ends with the test."""

    def __init__(self, folder: Path) -> None:
        config = folder / "petiole.toml"
        config.write_text('state_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n')
        self._command = [*PETIOLE, "--config", str(config)]
        self._environment = {name: text for name, text in os.environ.items() if not name.startswith("PETIOLE_")}
        self._running: list[subprocess.Popen[str]] = []

    def start(self, *words: str, until: str) -> None:
        """Start one and wait for a line that it prints."""
        process = subprocess.Popen(
            [*self._command, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )
        self._running.append(process)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if until in line:
                return
        pytest.fail("".join(lines))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *words], capture_output=True, text=True, timeout=60, check=False, env=self._environment
        )

    def stop(self) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


@pytest.fixture
def petiole(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.stop()


@pytest.mark.skipif(find_micropython() is None, reason="no MicroPython for this platform")
def test_the_node_of_the_readme_runs_as_it_is_printed(petiole: Commands, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    app = tmp_path / "app.py"
    app.write_text(found[1])
    petiole.start("gateway", "run", until="gateway_started")
    petiole.start("sim", "--nodes", "1", "--app", str(app), "--json", until="sim-udp-1")
    done = petiole.run("watch", "sim-udp-1", "--json", "--count", "1")
    assert done.returncode == 0, done.stderr
    reading = json.loads(done.stdout)
    assert (reading["name"], reading["unit"]) == ("memory", "B")
    assert 0 < reading["value"] < 1_000_000
    done = petiole.run("request", "sim-udp-1", "led", "true")
    assert (done.returncode, done.stdout) == (0, "true\n")


def test_watching_a_device_that_is_unknown_says_so(petiole: Commands) -> None:
    petiole.start("gateway", "run", until="gateway_started")
    done = petiole.run("watch", "kitchn")
    assert done.returncode == 1
    assert done.stdout == ""
    problem, hint = done.stderr.splitlines()
    assert problem == "error: no device kitchn (404)"
    assert "petiole device list" in hint
