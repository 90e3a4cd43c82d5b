"""Round trip of a command to a MicroPython node, from a NATS client on the leaf."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from petiole_tools.sim.nodes import NodeSpec, SimNode

from .report import Result
from .system import System, running

REQUESTS = 300
WARM_UP = 20


async def measure() -> list[Result]:
    """A perfect link each: what is measured is the two ends and the gateway between."""
    group = "Command round trip, NATS client to MicroPython node and back"
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="petiole-nodes-") as name:
        folder = Path(name)
        async with running(serial=(f"{folder}/ttySIM*",)) as system:
            for kind in ("uart", "udp"):
                key = await system.add(f"node-{kind}")
                spec = NodeSpec(f"node-{kind}", key, kind, gateway=("127.0.0.1", system.udp_port))
                async with SimNode(spec, folder):
                    times = await _round_trips(system, spec.name)
                shown = {"uart": "serial", "udp": "UDP"}[kind]
                results.append(Result(group, f"{shown}, p50", times[len(times) // 2], "ms"))
                results.append(Result(group, f"{shown}, p99", times[len(times) * 99 // 100], "ms"))
    return results


async def _round_trips(system: System, device: str) -> list[float]:
    subject = f"dev.home.{device}.ping"
    answered = 0
    deadline = time.monotonic() + 60
    while answered < WARM_UP:
        reply = await system.client.request(subject, b"", timeout=5)
        answered += 0 if reply.headers else 1
        if time.monotonic() > deadline:
            raise RuntimeError(f"{device} does not answer: {reply.headers}")
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        reply = await system.client.request(subject, b"", timeout=5)
        if reply.headers:
            raise RuntimeError(str(reply.headers))
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)
