"""A desk: a site with a real gateway, to which boards on ports of this computer are plugged in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

READY_S = 60.0


@contextlib.contextmanager
def gateway(folder: Path, port: str, more: str = "", **env: str) -> Iterator[Path]:
    """The settings file of a gateway that answers. `port`: as in its settings; `more`: at their end; `env`: variables
    of its own."""
    config, log = folder / "petiole.toml", folder / "gateway.log"
    config.write_text(
        f'site = "desk"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n'
        f'[[serial]]\nport = "{port}"\nframing = "console"\n{more}'
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")} | env
    command = [sys.executable, "-m", "petiole_tools", "--config", str(config)]
    with log.open("w") as output:
        process = subprocess.Popen([*command, "gateway", "run"], stdout=output, stderr=output, env=env)
        try:
            end = time.monotonic() + READY_S
            while subprocess.run([*command, "status"], capture_output=True, check=False, env=env).returncode:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
            yield config
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
