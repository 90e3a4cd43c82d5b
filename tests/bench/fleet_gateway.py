"""The gateway process of the fleet measurement: the real gateway, and beside it a probe of the event loop.

Orders come as lines of JSON on standard input, each is answered by a line: {"do": "add", "count", "seed"} registers
devices, {"do": "mark"} tells what was used since the last mark, {"do": "stop"} ends it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from petiole_gateway.app import Gateway
from petiole_gateway.log import configure
from petiole_gateway.settings.config import Config
from petiole_tools.sim.sleepy_fleet import FleetPlan

PROBE_S = 0.02
ADDED_AT_ONCE = 256


def rss_mb(pid: int | str = "self") -> float:
    """Resident memory of a process, in 10**6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Probe:
    """How late the loop is: the delay of a timer that wants to run every 20 ms."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE_S
            await asyncio.sleep(PROBE_S)
            self.late_ms.append(1000 * max(0.0, loop.time() - due))

    def take(self) -> dict[str, float]:
        late, self.late_ms = sorted(self.late_ms), []
        if not late:
            return {"p50": 0.0, "p99": 0.0, "max": 0.0}
        return {"p50": late[len(late) // 2], "p99": late[int(0.99 * len(late))], "max": late[-1]}


class Bench:
    """`mark` answers what happened since the mark before."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.probe = Probe()
        self._marked = (asyncio.get_running_loop().time(), cpu_s())

    async def add(self, count: int, seed: int) -> dict[str, Any]:
        plan = FleetPlan(nodes=count, seed=seed)
        nodes = [plan.node(number) for number in range(count)]
        for start in range(0, count, ADDED_AT_ONCE):
            batch = nodes[start : start + ADDED_AT_ONCE]
            await asyncio.gather(*(self.gateway.hub.add_device(node.name, node.key) for node in batch))
        return {"devices": len(self.gateway.hub.roster.devices)}

    async def mark(self) -> dict[str, Any]:
        hub, leaf = self.gateway.hub, self.gateway.leaf
        now, used = asyncio.get_running_loop().time(), cpu_s()
        seconds, cpu = now - self._marked[0], used - self._marked[1]
        late = self.probe.take()
        gc.collect()
        dropped = Counter(hub.traffic.dropped)
        for device in hub.roster.devices.values():
            dropped.update(device.dropped)
        answer = {
            "seconds": seconds,
            "cpu_s": cpu,
            "late_ms": late,
            "rss_mb": rss_mb(),
            "leaf_rss_mb": rss_mb(leaf.pid) if leaf and leaf.pid else 0.0,
            "objects": len(gc.get_objects()),
            "sessions": sum(device.current is not None for device in hub.roster.devices.values()),
            "durable": self.gateway.store.metrics.stored_total,
            "dropped": dropped,
        }
        await asyncio.sleep(2 * PROBE_S)
        self.probe.late_ms.clear()  # collecting all garbage at once was the measurement's
        self._marked = (asyncio.get_running_loop().time(), cpu_s())
        return answer


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    with tempfile.TemporaryDirectory(prefix="petiole-bench-") as folder:
        config = Config.model_validate(
            {"state_dir": f"{folder}/state", "udp": {"listen": "127.0.0.1:0"}}, context={"base": Path(folder)}
        )
        gateway = Gateway(config, configure("error", "json"))
        await gateway.start()
        try:
            bench = Bench(gateway)
            _say({"port": gateway.udp_port})
            while line := await lines.readline():
                order = json.loads(line)
                if order["do"] == "stop":
                    break
                _say(await bench.add(order["count"], order["seed"]) if order["do"] == "add" else await bench.mark())
        finally:
            await gateway.stop()


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
