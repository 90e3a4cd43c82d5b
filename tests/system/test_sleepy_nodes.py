"""Sleepy nodes of the real firmware, the gateway and its leaf server: readings once and in order, mail over sleeps."""

import asyncio
import secrets
from pathlib import Path

from tests.gateway.whole import World

from petiole_gateway.settings.config import Config
from petiole_tools.sim.nodes import NodeSpec, SimNode

APP = Path(__file__).resolve().parents[1] / "node" / "wake_app.py"
NODES = (("deep-uart", "uart", "deep", 1), ("deep-udp", "udp", "deep", 2), ("light-udp", "udp", "light", 1))


async def test_sleepy_nodes_bring_every_reading_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    port = tmp_path / "tty-deep-uart"
    world.config = Config.model_validate(
        {**world.config.model_dump(), "serial": [{"port": str(port)}]}, context={"base": tmp_path}
    )
    await world.start()
    nodes: dict[str, SimNode] = {}
    try:
        for name, kind, sleep, period_s in NODES:
            key = secrets.token_bytes(16)
            await world.ask("device.add", {"name": name, "key": key.hex()})
            spec = NodeSpec(
                name, key, kind, ("127.0.0.1", world.udp_port), app=APP, runtime="micropython",
                settings={"period_s": period_s, "sleep": sleep, "awake_ms": 4000},
            )  # fmt: skip
            nodes[name] = SimNode(spec, tmp_path / "nodes" / name, port)
            await nodes[name].start()
        await brought(world, 4)
        joins = {name: world.gateway.hub.device(name).boot_count for name in nodes}
        await brought(world, 4)
        assert {name: world.gateway.hub.device(name).boot_count for name in nodes} == joins
        await nodes["deep-uart"].restart()  # its power is cut, with what the chip retained
        await brought(world, 4)
    finally:
        for node in nodes.values():
            await node.stop()
        found = await world.stored()
        await world.end()
    for name, _, sleep, _ in NODES:
        values = [value for device, _, value in found if device == name]
        sequences = [sequence for device, sequence, _ in found if device == name]
        assert sequences == sorted(set(sequences))
        if sleep == "deep" and name != "deep-uart":
            assert values == list(range(1, len(values) + 1))
        assert values == sorted(set(values))


async def brought(world: World, number: int) -> None:
    """Every node has so many more readings in the leaf's stream."""
    before = await counts(world)
    async with asyncio.timeout(60):
        while any(count - before[name] < number for name, count in (await counts(world)).items()):  # noqa: ASYNC110
            await asyncio.sleep(0.3)  # a stream that is read does not say when it grows


async def counts(world: World) -> dict[str, int]:
    found = await world.stored()
    return {name: sum(device == name for device, _, _ in found) for name, _, _, _ in NODES}
