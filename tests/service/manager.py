"""The service manager's end of a notify socket, and a gateway's process that speaks to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PATIENCE_S = 60.0


class Manager:
    """Collects what a service says."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))

    def close(self) -> None:
        self._socket.close()

    def hear(self, timeout_s: float) -> dict[str, str] | None:
        """The next datagram, None if there is none in time."""
        self._socket.settimeout(max(0.001, timeout_s))
        try:
            lines = self._socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return None
        self.said.append(dict(line.split("=", 1) for line in lines))
        return self.said[-1]

    def wait_for(self, what: str, is_it: Callable[[dict[str, str]], bool], timeout_s: float = PATIENCE_S) -> int:
        """Hear until a datagram is what is waited for; how many others there were."""
        end = time.monotonic() + timeout_s
        others = 0
        while time.monotonic() < end:
            values = self.hear(end - time.monotonic())
            if values is not None and is_it(values):
                return others
            others += 1
        pytest.fail(f"no {what} within {timeout_s:g} s, but {self.said[-5:]}")

    def drain(self) -> None:
        """Forget what has been said so far."""
        while self.hear(0) is not None:
            pass

    def start(self, config: Path, *, watchdog_s: float | None = None, log: Path) -> subprocess.Popen[bytes]:
        """`petiole gateway run` as a service."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
        environment["NOTIFY_SOCKET"] = str(self.path)
        if watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        with log.open("ab") as file:
            command = [sys.executable, "-m", "petiole_tools", "--config", str(config), "gateway", "run"]
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file)
