"""A node of the real firmware on MicroPython that sleeps is told how to wake, over a restart of its gateway."""

import secrets
from pathlib import Path

import pytest
from tests.gateway.real_time import until
from tests.gateway.whole import World

from petiole_tools.sim.nodes import NodeSpec, SimNode

APP = Path(__file__).resolve().parents[1] / "node" / "wake_app.py"


@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_a_sleeping_node_takes_another_period_and_stays_awake(tmp_path: Path, sleep: str) -> None:
    world = World(tmp_path)
    await world.start()
    key = secrets.token_bytes(16)
    await world.ask("device.add", {"name": "barn", "key": key.hex()})
    settings = {"period_s": 3, "sleep": sleep, "awake_ms": 4000}
    spec = NodeSpec(
        "barn", key, "udp", ("127.0.0.1", world.udp_port), app=APP, runtime="micropython", settings=settings
    )
    node = SimNode(spec, tmp_path / "node")
    try:
        await node.start()
        await until(lambda: world.gateway.hub.device("barn").is_sleepy)
        await until(lambda: world.gateway.hub.state(world.gateway.hub.device("barn")) == "asleep")
        asked = await world.ask("device.policy", {"name": "barn", "period_s": 1, "awake_s": 4})
        assert asked["wake_policy"]["heard_at"] is None
        await world.stop()
        await world.start()
        shown = await world.ask("device.show", {"name": "barn"})
        assert (shown["wake_policy"]["period_s"], shown["wake_policy"]["awake_s"]) == (1, 4)
        device = world.gateway.hub.device("barn")
        await until(lambda: device.wake_policy and device.wake_policy.heard_at)
        for _ in range(3):  # it is awake now, and answers at once
            assert await world.command("barn", "count", [7]) == (0, 7)
        await until(lambda: device.presence.asleep_since is not None, 20)
        shown = await world.ask("device.show", {"name": "barn"})
        assert (shown["period_s"], shown["wake_policy"]["awake_s"]) == (1, None)
        # Two periods of a second, and what a busy machine takes for the wakes; with the three seconds of before it
        # would be six.
        slept: list[int] = []

        def wakes_each_second() -> bool:
            since = device.presence.asleep_since
            if since is not None and since not in slept[-1:]:
                slept.append(since)
            return len(slept) > 2 and slept[-1] - slept[-3] < 5000

        await until(wakes_each_second)
        await until(lambda: world.gateway.hub.state(device) == "asleep")
    finally:
        await node.stop()
        await world.end()
