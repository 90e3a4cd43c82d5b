"""docs/sleeping.md promises that its nodes run as they are printed there."""

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.real_time import until
from tests.gateway.whole import World

from petiole_tools.sim.nodes import NodeSpec, SimNode
from petiole_tools.sim.runtime import find_micropython

PAGE = Path(__file__).parents[2] / "docs" / "sleeping.md"
PROGRAMS = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE.read_text())
# Nobody waits for ten minutes here.
SECOND = ("period_s=600", "period_s=1"), ("next_s = 60", "next_s = 1")


@pytest.mark.skipif(find_micropython() is None, reason="no MicroPython for this platform")
@pytest.mark.parametrize(
    ("program", "settings"),
    list(zip(PROGRAMS, ({}, {"period_s": 1, "sleep": "light"}), strict=True)),
    ids=("run", "awake"),
)
async def test_a_node_of_the_page_sleeps_and_brings_its_readings(
    tmp_path: Path, program: str, settings: dict[str, Any]
) -> None:
    for printed, short in SECOND:
        program = program.replace(printed, short)
    app = tmp_path / "app.py"
    app.write_text(program)
    world = World(tmp_path)
    await world.start()
    key = secrets.token_bytes(16)
    await world.ask("device.add", {"name": "barn", "key": key.hex()})
    spec = NodeSpec(
        "barn", key, "udp", ("127.0.0.1", world.udp_port), app=app, runtime="micropython", settings=settings
    )
    node = SimNode(spec, tmp_path / "node")
    try:
        await node.start()
        device = world.gateway.hub.device("barn")
        await until(lambda: device.is_sleepy and world.gateway.hub.state(device) == "asleep")
        boots = device.boot_count
        before = device.uplinks.durable
        await until(lambda: device.uplinks.durable >= before + 3)
        assert device.boot_count == boots, "no join after a sleep"
    finally:
        await node.stop()
        found = await world.stored()
        await world.end()
    assert {value for _, _, value in found} == {140}
