"""A fleet for a running gateway: many light nodes in this process, to see what the gateway bears."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from petiole_tools.client import Client, Standing
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import note, say, say_json
from petiole_tools.sim.fleet import Fleet, Statistics
from petiole_tools.simulate import free_name, gateway_address

# A socket each: above this a usual limit of open files (1024) is near, and one process has enough to do.
MAX_FLEET = 900
# The gateway stores a device in some ms; asking for several at once hides the way there and back.
ADDED_AT_ONCE = 16
REPORT_S = 2.0


async def simulate_fleet(options: Options, count: int, rate: float, seed: int, gateway: str | None) -> None:
    """Run `count` nodes with `rate` readings a second between them, until cancelled; tell how it goes."""
    if count > MAX_FLEET:
        raise CliError(f"--fleet {count}: more than {MAX_FLEET} sockets in a process", "start several simulations")
    async with AsyncExitStack() as stack:
        site = Standing(options)
        stack.push_async_callback(site.close)
        client = await site.client()
        address = await gateway_address(client, gateway)
        taken = {device["name"] for device in await client.devices()}
        names = [free_name("fleet", taken) for _ in range(count)]
        added: list[str] = []
        stack.push_async_callback(_remove, site, added)
        keys = await _add(client, names, added)
        fleet = Fleet(address, keys, rate=rate / count, seed=seed)
        stack.callback(fleet.stop)
        await fleet.start()
        if not options.as_json:
            note(f"{count} light nodes in this process on UDP, {rate:g} readings a second; Ctrl-C ends them")
        before = fleet.statistics()
        while True:
            await asyncio.sleep(REPORT_S)
            now = fleet.statistics()
            _report(options, before, now)
            before = now


async def _add(client: Client, names: list[str], added: list[str]) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    gate = asyncio.Semaphore(ADDED_AT_ONCE)

    async def add(name: str) -> None:
        async with gate:
            answer = await client.gateway("device.add", {"name": name})
            added.append(name)
            keys[name] = bytes.fromhex(answer["key"])

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(add(name))
    return keys


async def _remove(site: Standing, names: list[str]) -> None:
    gate = asyncio.Semaphore(ADDED_AT_ONCE)

    async def remove(name: str) -> bool:
        async with gate:
            try:
                await (await site.client()).gateway("device.remove", {"name": name})
            except CliError:
                return False
            return True

    removed = await asyncio.gather(*(remove(name) for name in names))
    if not all(removed):
        note(f"{removed.count(False)} devices named sim-fleet-... stay at the gateway")


def _report(options: Options, before: Statistics, now: Statistics) -> None:
    per_s = (now.durable - before.durable) / REPORT_S
    if options.as_json:
        document = {
            "nodes": now.nodes,
            "online": now.online,
            "published": now.published,
            "durable": now.durable,
            "durable_per_s": per_s,
            "refused": now.refused,
            "median_ms": now.latency_ms(0.5),
            "p99_ms": now.latency_ms(0.99),
            "dropped": now.dropped,
        }
        say_json(document, indent=None)
        return
    median, slow = now.latency_ms(0.5), now.latency_ms(0.99)
    latency = "" if median is None else f"; to durable {median} ms, 99 % within {slow} ms"
    refused = f", {now.refused} refused" if now.refused else ""
    say(f"{now.online}/{now.nodes} online, {now.durable} readings durable, {per_s:.0f} a second{refused}{latency}")
