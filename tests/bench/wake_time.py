"""How long a board is awake in a wake: from the start of its program to the sleep, on the MicroPython VM."""

from __future__ import annotations

import asyncio
import itertools
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from petiole_tools.sim.nodes import NodeSpec, SimNode, find_micropython
from tests.node.peer import Peer

from .report import Result

APP = Path(__file__).resolve().parents[1] / "node" / "wake_app.py"
KEY = bytes(range(16))
WAKES = 100
_COMMIT_S = 0.001  # the gateway is not what is measured

# What anything costs that is started, says one thing over UDP and ends: the machine, the VM and its asyncio.
_REFERENCE = """
import asyncio, socket
address = socket.getaddrinfo("127.0.0.1", {port})[0][-1]
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.sendto(b"reading", address)
link.recv(100)
"""


class TimedNode(SimNode):
    """`awake_ms`: of each wake that has ended in a sleep."""

    def __init__(self, spec: NodeSpec, folder: Path) -> None:
        super().__init__(spec, folder)
        self.awake_ms: list[float] = []
        self._started = 0.0

    async def _spawn(self) -> None:
        self._started = time.perf_counter()
        await super()._spawn()

    async def _watch(self) -> None:
        assert self._process is not None
        await self._process.wait()
        self.awake_ms.append(1000 * (time.perf_counter() - self._started))
        await super()._watch()


async def measure() -> list[Result]:
    binary = find_micropython()
    if binary is None:
        print("no MicroPython VM: the time of a wake is not measured")
        return []
    group = "Awake time of a wake: one reading, its durable ack, deep sleep; on the MicroPython VM"
    results = [*_figures(group, "reference: a bare script, one datagram and its echo", _reference(binary))]
    for kind, name in (("uart", "serial"), ("udp", "UDP")):
        results += _figures(group, name, await _wakes(kind))
    return results


def _figures(group: str, name: str, times: list[float]) -> list[Result]:
    cuts = statistics.quantiles(times, n=100)
    return [Result(group, f"{name}, p50", cuts[49], "ms"), Result(group, f"{name}, p99", cuts[98], "ms")]


async def _wakes(kind: str) -> list[float]:
    peer = Peer(KEY, commit_s=_COMMIT_S)
    with tempfile.TemporaryDirectory() as name:
        spec = NodeSpec(
            "leaf", KEY, kind, peer.udp().address, app=APP, options={"next_s": 0.1},
            settings={"period_s": 60, "sleep": "deep"},
        )  # fmt: skip
        try:
            async with TimedNode(spec, Path(name) / "node") as node:
                if kind == "uart":
                    assert node.path is not None
                    peer.serial(node.path, "uart")
                await peer.more_readings(WAKES + 2, 300)
                times = node.awake_ms[1 : WAKES + 1]  # the first one joins
        finally:
            peer.close()
    if len(peer.joins) != 1:
        raise RuntimeError(f"{len(peer.joins)} joins: these were not the wakes that are measured")
    return times


def _reference(binary: str) -> list[float]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))
        script = _REFERENCE.format(port=echo.getsockname()[1])

        def answer() -> None:
            for _ in range(WAKES):
                data, source = echo.recvfrom(100)
                echo.sendto(data, source)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        times = []
        for _ in itertools.repeat(None, WAKES):
            started = time.perf_counter()
            subprocess.run([binary, "-c", script], check=True, timeout=30)
            times.append(1000 * (time.perf_counter() - started))
        thread.join(30)
    return times


if __name__ == "__main__":
    for result in asyncio.run(measure()):
        print(result.name, round(result.value, 1), result.unit)
