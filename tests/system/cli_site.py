"""A gateway with nodes, each a process, and the command line to ask it with."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PETIOLE = [sys.executable, "-m", "petiole_tools"]
READY_S = 60.0


@dataclass
class Site:
    config: Path
    ports: Path
    gateway: "subprocess.Popen[str]"
    sim: "subprocess.Popen[str]"
    announced: list[dict[str, Any]]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return run(self.config, *words)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        command = [*PETIOLE, "--config", str(self.config), *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean(), start_new_session=True
        )


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}


def run(config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [*PETIOLE, "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=clean())


def wait_for(what: str, probe: Callable[[], Any], timeout_s: float = READY_S) -> Any:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"no {what} within {timeout_s:g} s")


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    """What the gateway has logged of this kind. To ask it by commands would keep a busy machine busier: a process of
    Python each."""
    lines = (folder / "gateway.log").read_text().split("\n")[:-1]
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]
