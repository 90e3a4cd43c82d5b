"""What a node of the fault tests runs as its `app.py`, simulated or on an emulated board: it counts.

A reading is `[boot, number, filling]`. Once `publish` has returned, the line "boot number taken returned" (times in ms
since 1970 of the node's own clock) is in `accepted.txt`: whatever fails afterwards, that reading must be at the hub.

A simulated node has a `sim.json`, and counts as fast as confirmations allow: one to four of its readings fit a frame,
so that several frames are on the way, and some need fragments. Without that file it counts the seconds.
"""

import asyncio
import json
import time

from petiole_node import Node

try:
    with open("sim.json") as file:
        options = json.load(file)
except OSError:
    options = {"concurrency": 1, "pause_s": 1, "longest": 0}
node = Node("petiole.json", firmware="count-1")
counter = node.channel("counter", type="a")


@node.command("add", "a:i b:i")
def add(a: int, b: int) -> int:
    return a + b


def wall_ms() -> int:
    return int(time.time() * 1000)


def next_boot() -> int:
    """Counted here and not taken from the node: what is tested does not name its own readings."""
    try:
        with open("boots.txt") as file:
            boot = len(file.read()) + 1
    except OSError:
        boot = 1
    with open("boots.txt", "a") as file:
        file.write(".")
    return boot


def filling(number: int) -> int:
    return min(300 if number % 23 == 0 else number * 29 % 90, options.get("longest", 300))


async def count() -> None:
    boot = next_boot()
    number = 0
    with open("accepted.txt", "a") as accepted:  # noqa: ASYNC230 - a node has no other way

        async def work() -> None:
            nonlocal number
            while True:
                number += 1
                mine = number
                taken = wall_ms()
                await counter.publish([boot, mine, "." * filling(mine)])
                accepted.write(f"{boot} {mine} {taken} {wall_ms()}\n")
                accepted.flush()
                if options.get("pause_s"):
                    await asyncio.sleep(options["pause_s"])

        await asyncio.gather(*[work() for _ in range(options.get("concurrency", 8))])


node.run(count)
