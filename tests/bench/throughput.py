"""Durable readings per second of one gateway process, beside what nats-py alone publishes on the same server."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import pairwise
from statistics import median

from petiole import wire

from .report import Result, at_least
from .system import System, running

NODES = 50
ROUNDS = 3
READINGS = 40_000  # of each round
FULL = wire.MAX_SEQUENCES_AHEAD  # what a node that has a backlog may have on its way
SINGLE_READINGS = 10_000
REFERENCE = 40_000
PENDING = 1024


async def measure() -> list[Result]:
    """The reference is `publish_async` of nats-py with a message id and 1024 in flight, without a barrier.

    Both take turns, and each load is compared with the references around it: what else a machine has to do changes
    within minutes by more than the ratio is from its budget.
    """
    async with running() as system:
        keys = [await system.add(f"load-{i}") for i in range((ROUNDS + 1) * NODES)]
        references, loads = [await _reference(system)], []
        for number in range(ROUNDS):
            loads.append(await _load(system, keys[number * NODES :][:NODES], READINGS, FULL))
            references.append(await _reference(system))
        single = await _load(system, keys[-NODES:], SINGLE_READINGS, 1)
        status = await system.ask("status")
    around = [(before + after) / 2 for before, after in pairwise(references)]
    ratios = [many / reference for many, reference in zip(loads, around, strict=True)]
    group = "Gateway uplinks"
    store = status["store"]
    beside = "the reference, same server and run"
    return [
        Result(group, "nats-py pipelined publish alone", median(references), "1/s", beside=beside),
        Result(group, "durable readings, 50 nodes, full outboxes", median(loads), "1/s"),
        at_least(group, "ratio to the reference", median(ratios), "", 0.5, beside=f"median of {ROUNDS} rounds"),
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
