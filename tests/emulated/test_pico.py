"""`petiole flash` from a blank chip to a node that has joined, with MicroPython's own image on an emulated RP2040."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from serial.tools import list_ports

from petiole_tools.cli import main
from petiole_tools.flash import session

from .conftest import EmulatedPico
from .places import USB

USB_OF_TESTS = Path(__file__).parents[1] / "flash" / "usb" / "sitecustomize.py"
# The emulator does a fifth to a thirtieth of a Pico's work in a second, as the machine has time for it.
SLOWNESS = 30


def _usb_of_tests() -> ModuleType:
    """The module by its path: Python may have one of this name of its own."""
    spec = importlib.util.spec_from_file_location("usb_of_tests", USB_OF_TESTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    comports = list_ports.comports
    spec.loader.exec_module(module)
    list_ports.comports = comports
    return module


@contextlib.contextmanager
def gateway(folder: Path, port: Path) -> Iterator[Path]:
    config = folder / "petiole.toml"
    config.write_text(
        f'site = "desk"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n'
        f'[[serial]]\nport = "{port}"\nframing = "console"\n'
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
    command = [sys.executable, "-m", "petiole_tools", "--config", str(config)]
    with (folder / "gateway.log").open("w") as log:
        process = subprocess.Popen([*command, "gateway", "run"], stdout=log, stderr=log, env=env)
        try:
            end = time.monotonic() + 60
            while subprocess.run([*command, "status"], capture_output=True, check=False, env=env).returncode:
                assert process.poll() is None, (folder / "gateway.log").read_text()
                assert time.monotonic() < end, (folder / "gateway.log").read_text()
            yield config
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.mark.timeout(1200)
def test_a_blank_chip_becomes_a_node_that_has_joined(
    board: EmulatedPico, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "ANSWER_S", session.ANSWER_S * SLOWNESS)
    monkeypatch.setattr(session, "PROMPT_S", session.PROMPT_S * SLOWNESS)
    monkeypatch.setenv("PETIOLE_TEST_USB", str(board.folder / USB))
    monkeypatch.setattr(list_ports, "comports", _usb_of_tests().comports)
    digest = hashlib.sha256(board.image.read_bytes()).hexdigest()
    words = ["flash", "--board", "RPI_PICO", "--name", "leaf", "--image", str(board.image), "--sha256", digest]
    with gateway(tmp_path, board.port) as config:
        monkeypatch.setenv("PETIOLE_CONFIG", str(config))
        code = main([*words, "--drive", str(board.drive), "--timeout", "300"])
        said = capsys.readouterr()
        assert code == 0, said.out + said.err
        steps = [line.split()[0] for line in said.out.splitlines()]
        assert steps == [
            "building",
            "image",
            "installed",
            "found",
            "compared",
            "written",
            "gateway",
            "started",
            "joined",
        ]
        assert main(["device", "show", "leaf", "--json"]) == 0
        device = json.loads(capsys.readouterr().out)
        assert (device["name"], device["state"]) == ("leaf", "online")
