"""The commands of docs/ that are marked to be run, as they stand there: one gateway, one simulation, every page."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.test_docs import PAGES, blocks

from petiole_tools.sim.nodes import find_micropython

BACKGROUND = ["petiole gateway run", "petiole sim --nodes 3"]
READY_S = 60.0
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(find_micropython() is None, reason="no MicroPython for this platform"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: apt install curl"),
]


class Shell:
    """Where the commands run: `petiole` is on the path, and the settings differ from the defaults only in places."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = folder / "petiole.toml"
        # The ports are any free ones; the pages name the usual ones.
        config.write_text(
            'state_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n[metrics]\nenabled = true\nlisten = "127.0.0.1:0"\n'
        )
        (folder / "password").write_text("a long sentence of nobody\n")
        bin_ = folder / "bin"
        bin_.mkdir()
        petiole = bin_ / "petiole"
        petiole.write_text(f'#!/bin/sh\nexec {sys.executable} -m petiole_tools "$@"\n')
        petiole.chmod(0o755)
        clean = {name: text for name, text in os.environ.items() if not name.startswith("PETIOLE_")}
        self.environment = {**clean, "PATH": f"{bin_}:{clean['PATH']}", "PETIOLE_CONFIG": str(config)}
        self._running: list[subprocess.Popen[str]] = []

    def start(self, line: str) -> None:
        log = (self.folder / f"{line.split()[1]}.log").open("w")
        self._running.append(
            subprocess.Popen(["sh", "-c", f"exec {line}"], stdout=log, stderr=log, env=self.environment, text=True)
        )
        log.close()

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", line.replace(":6364", f":{self.http_port}")],
            capture_output=True, text=True, timeout=60, check=False, env=self.environment, cwd=self.folder,
        )  # fmt: skip

    @property
    def http_port(self) -> int:
        for line in (self.folder / "gateway.log").read_text().splitlines():
            if '"http_opened"' in line:
                return int(json.loads(line)["port"])
        return 0

    def online(self) -> bool:
        done = self.run("petiole device list --json")
        devices = json.loads(done.stdout)["devices"] if done.returncode == 0 else []
        return sum(one["state"] == "online" and bool(one["firmware"]) for one in devices) == 3

    def stop(self) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("docs"))
    try:
        end = time.monotonic() + READY_S
        for line in BACKGROUND:
            shell.start(line)
            while not (shell.http_port if line == BACKGROUND[0] else shell.online()):
                assert time.monotonic() < end, (shell.folder / "gateway.log").read_text()
                time.sleep(0.2)
        yield shell
    finally:
        shell.stop()


def marked(kind: str) -> list[tuple[str, str]]:
    return [
        (page.name, line) for page in PAGES for info, lines in blocks(page) if info == f"sh {kind}" for line in lines
    ]


def test_what_the_pages_start_is_what_runs_here() -> None:
    assert [line for _, line in marked("background")] == BACKGROUND


@pytest.mark.parametrize("line", dict.fromkeys(line for _, line in marked("run")))
def test_the_command_does_what_the_page_says(shell: Shell, line: str) -> None:
    done = shell.run(line)
    assert done.returncode == 0, done.stderr
    assert done.stdout or "--pcapng" in line
