"""The nodes of the fleet measurement, in a process of their own and in real time: a UDP socket each.

Standard input: {"port", "count", "seed"}, then orders, each answered by a line: {"do": "storm", "within_s"} starts all
nodes at once and answers when all have joined; {"do": "live", "seconds"} lets them wake at even phases of their period.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from petiole_gateway.hub.ports import Place
from petiole_tools.sim.sleepy_fleet import FleetPlan
from petiole_tools.sim.sleepy_node import Air, SleepyNode

# Power is back everywhere, but boards do not boot in the same millisecond.
STORM_S = 1.0
# A storm of 10,000 takes longer than the wake of a node with a cell; who waits for it here has a supply.
AWAKE_MS = 900_000
_LOOK_S = 0.05


class UdpAir(Air):
    """Each node's frames leave from a socket of its own."""

    def __init__(self, port: int) -> None:
        super().__init__(self._send)
        self._port = port
        self._sockets: list[socket.socket] = []

    def add(self) -> None:
        """A socket for the node that comes next."""
        number = len(self._sockets)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(("127.0.0.1", self._port))
        self._sockets.append(sock)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read, number)

    def _send(self, place: Place, frame: bytes) -> None:
        assert isinstance(place.peer, int)
        try:
            self._sockets[place.peer].send(frame)
        except OSError:
            self.nodes[place.peer].counts["unsent"] += 1

    def _read(self, number: int) -> None:
        try:
            frame = self._sockets[number].recv(2048)
        except OSError:
            return
        self.nodes[number].downlink(frame)


async def storm(nodes: list[SleepyNode], within_s: float) -> dict[str, Any]:
    """How long it took until half of the nodes, and all of them, had joined and their reading was durable."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    for number, node in enumerate(nodes):
        node.start(STORM_S * number / len(nodes))
    half_s = 0.0

    def joined() -> int:
        return sum(node.has_session and not node.has_readings for node in nodes)

    async with asyncio.timeout(within_s):
        while (count := joined()) < len(nodes):
            if not half_s and count >= len(nodes) / 2:
                half_s = loop.time() - started_at
            await asyncio.sleep(max(_LOOK_S, 0.0001 * len(nodes)))
    for node in nodes:
        node.stop()
    return {"half_s": half_s, "all_s": loop.time() - started_at}


async def live(nodes: list[SleepyNode], seconds: float) -> dict[str, Any]:
    """What wakes cost in this time."""
    before = sum(len(node.wakes) for node in nodes)
    awake = sum(node.awake_ms_total for node in nodes)
    for number, node in enumerate(nodes):
        node.start(node.plan.period_s * number / len(nodes))
    await asyncio.sleep(seconds)
    for node in nodes:
        node.stop()
    wakes = sum(len(node.wakes) for node in nodes) - before
    return {
        "wakes": wakes,
        "awake_ms": (sum(node.awake_ms_total for node in nodes) - awake) / max(1, wakes),
        "gave_up": sum(node.counts["gave_up"] for node in nodes),
        "joins": sum(node.statistics()["joins"] for node in nodes),
    }


async def main() -> None:
    settings = json.loads(await _line())
    plan = FleetPlan(nodes=settings["count"], seed=settings["seed"], jitter=0.0)
    air = UdpAir(settings["port"])
    for number in range(plan.nodes):
        air.add()
        SleepyNode(replace(plan.node(number), delay_ms=(0, 0), awake_budget_ms=AWAKE_MS), air)
    print(json.dumps({"nodes": len(air.nodes)}), flush=True)
    orders: dict[str, Callable[[dict[str, Any]], Any]] = {
        "storm": lambda order: storm(air.nodes, order["within_s"]),
        "live": lambda order: live(air.nodes, order["seconds"]),
    }
    while line := await _line():
        order = json.loads(line)
        print(json.dumps(await orders[order["do"]](order)), flush=True)


async def _line() -> str:
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main())
