"""Simulated nodes whose gateway has gone before them."""

import json
import signal
import subprocess
from pathlib import Path

from .cli_site import PETIOLE, clean, logged, wait_for

NODES = ["sim-udp-1", "sim-udp-2", "sim-udp-3"]


def test_devices_that_nobody_can_remove_are_named_at_once(tmp_path: Path) -> None:
    """Nobody answers for the first of them, so the others are not tried: each would be waited for."""
    config = tmp_path / "petiole.toml"
    config.write_text('site = "shed"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n')
    command = [*PETIOLE, "--config", str(config)]
    with (tmp_path / "gateway.log").open("w") as log:
        gateway = subprocess.Popen([*command, "gateway", "run"], stdout=log, stderr=log, env=clean())
        try:
            wait_for("gateway", lambda: logged(tmp_path, "gateway_started"))
            words = ["sim", "--udp", "3", "--json", "--dir", str(tmp_path / "sim")]
            sim = subprocess.Popen(
                [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean()
            )
            try:
                assert sim.stdout is not None
                assert [json.loads(sim.stdout.readline())["name"] for _ in NODES] == NODES
                gateway.send_signal(signal.SIGTERM)
                assert gateway.wait(30) == 0
                sim.send_signal(signal.SIGTERM)
                _, error = sim.communicate(timeout=60)
            finally:
                sim.kill()
                sim.wait()
        finally:
            gateway.kill()
            gateway.wait()
    lines = error.splitlines()
    assert sim.returncode == 143
    assert len(lines) == 1
    assert lines[0].startswith(f"{', '.join(NODES)}: still known to the gateway: no NATS server answers")
