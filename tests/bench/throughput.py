"""Durable readings per second of one gateway process, beside what nats-py alone publishes on the same server."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from .report import Result, at_least
from .system import System, running

NODES = 50
READINGS = 60_000
SINGLE_READINGS = 10_000
REFERENCE = 40_000
PENDING = 1024


async def measure() -> list[Result]:
    """The reference is `publish_async` of nats-py with a message id and 1024 in flight, without a barrier."""
    async with running() as system:
        keys = [await system.add(f"load-{i}") for i in range(2 * NODES)]
        before = await _reference(system)
        many = await _load(system, keys[:NODES], READINGS, 60)
        single = await _load(system, keys[NODES:], SINGLE_READINGS, 1)
        after = await _reference(system)
        status = await system.ask("status")
    reference = (before + after) / 2
    group = "Gateway uplinks"
    store = status["store"]
    return [
        Result(group, "nats-py pipelined publish alone", reference, "1/s", beside="the reference, same server and run"),
        Result(group, "durable readings, 50 nodes, full outboxes", many, "1/s"),
        at_least(group, "ratio to the reference", many / reference, "", 0.5),
        Result(group, "durable readings, 50 nodes, one at a time", single, "1/s"),
        Result(group, "readings per barrier", store["durable_total"] / max(1, store["barrier_total"]), ""),
    ]


async def _reference(system: System) -> float:
    jetstream = system.client.jetstream(publish_async_max_pending=PENDING)
    await jetstream.add_stream(name="BENCH", subjects=["bench.>"])
    payload = b"x" * 100
    started = time.monotonic()
    futures = []
    for i in range(REFERENCE):
        futures.append(
            await jetstream.publish_async(f"bench.{i % NODES}.value", payload, headers={"Nats-Msg-Id": f"m{i}"})
        )
    async with asyncio.timeout(120):
        await asyncio.gather(*futures)
    rate = REFERENCE / (time.monotonic() - started)
    await jetstream.delete_stream("BENCH")
    return rate


async def _load(system: System, keys: list[bytes], readings: int, batch: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    order = {"port": system.udp_port, "keys": [key.hex() for key in keys], "readings": readings, "batch": batch}
    process.stdin.write(json.dumps(order).encode() + b"\n")
    try:
        async with asyncio.timeout(180):
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError("the load did not start")
            process.stdin.write(b"go\n")
            seconds = float(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return readings / seconds
