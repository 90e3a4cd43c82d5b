"""10,000 sleepy devices on one gateway process: memory, CPU, how late its loop is, and a storm of joins.

The nodes live in another process and feed the gateway over UDP in real time, so what is measured of the gateway's
process is the gateway's alone, but for the probe of its loop, whose processor time is measured without nodes and taken
off. Ten minutes are not waited for: at even phases a part of them costs the same part. `FLEET_NODES` and
`FLEET_SECONDS` in the environment make it smaller.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .report import Result, at_most

NODES = int(os.environ.get("FLEET_NODES", "10000"))
SECONDS = float(os.environ.get("FLEET_SECONDS", "120"))
SEED = 1
PERIOD_S = 600
IDLE_S = 10.0
STORM_LIMIT_S = 800.0
MEMORY_MB = 300
GROUP = f"{NODES:,} sleepy devices, a wake each in 10 minutes"


class Worker:
    """A process that answers each line with a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the measurement ended")
        document: dict[str, Any] = json.loads(line)
        return document


@asynccontextmanager
async def worker(module: str) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()


async def measure() -> list[Result]:
    async with worker("tests.bench.fleet_gateway") as gateway, worker("tests.bench.fleet_nodes") as nodes:
        port = (await gateway.hear())["port"]
        await gateway.ask(do="mark")
        await asyncio.sleep(IDLE_S)
        empty = await gateway.ask(do="mark")
        await gateway.ask(do="add", count=NODES, seed=SEED)
        added = await gateway.ask(do="mark")
        await nodes.ask(port=port, count=NODES, seed=SEED)
        await gateway.ask(do="mark")  # making the nodes was not the gateway's time
        joining = await nodes.ask(do="storm", within_s=STORM_LIMIT_S)
        storm = await gateway.ask(do="mark")
        living = await nodes.ask(do="live", seconds=SECONDS)
        live = await gateway.ask(do="mark")
    print(json.dumps([empty, added, joining, storm, living, live]), file=sys.stderr)
    idle = empty["cpu_s"] / empty["seconds"]
    cpu_s = PERIOD_S * (live["cpu_s"] / live["seconds"] - idle)
    wake_us = 1e6 * (live["cpu_s"] - idle * live["seconds"]) / max(1, living["wakes"])
    per_device = (live["rss_mb"] - empty["rss_mb"]) * 1000 / NODES
    return [
        at_most(GROUP, "resident memory of the gateway", live["rss_mb"], "MB", MEMORY_MB),
        Result(GROUP, "the same without a device", empty["rss_mb"], "MB"),
        Result(GROUP, "the same with devices that never joined", added["rss_mb"], "MB"),
        Result(GROUP, "memory of a device with a session", per_device, "kB"),
        Result(GROUP, "resident memory of the leaf server", live["leaf_rss_mb"], "MB"),
        Result(
            GROUP, "processor time in 10 minutes", cpu_s, "s", beside=f"from {SECONDS:g} s, {living['wakes']} wakes"
        ),
        Result(GROUP, "processor time of a wake", wake_us, "µs"),
        Result(GROUP, "lateness of the event loop, 99 %", live["late_ms"]["p99"], "ms"),
        Result(GROUP, "lateness of the event loop, worst", live["late_ms"]["max"], "ms"),
        Result(GROUP, "awake, from the first frame until it may sleep, and 150 ms", living["awake_ms"], "ms"),
        Result(GROUP, "storm: half have joined, their reading durable", joining["half_s"], "s"),
        Result(GROUP, "storm: all have", joining["all_s"], "s", beside=f"{NODES} nodes"),
        Result(GROUP, "storm: processor time", storm["cpu_s"], "s"),
        Result(GROUP, "storm: lateness of the event loop, 99 %", storm["late_ms"]["p99"], "ms"),
        Result(GROUP, "storm: lateness of the event loop, worst", storm["late_ms"]["max"], "ms"),
    ]
