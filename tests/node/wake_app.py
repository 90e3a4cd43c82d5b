"""A sleepy node. `value.txt` counts its readings, `taken.txt` has those that `publish` has returned for, and whether
they were stored, and when they were taken; `executed.txt` what its commands were called with.

sim.json: "count" readings per wake, "waits" for each, "hangs" afterwards, "dies" in a command, "next_s" until the next
wake.
"""

import json
import os

from utime import time_ns  # of the machine: boards of our tests have a `time` of their own

from petiole_node import Node

with open("sim.json") as file:
    options = json.load(file)
node = Node("petiole.json")
number = node.channel("n", type="i")


def remembered(name):
    try:
        with open(name) as stream:
            return int(stream.read() or 0)
    except OSError:
        return 0


def remember(name, value):
    with open(name, "w") as stream:
        stream.write(str(value))


def note(name, text):
    with open(name, "a") as stream:
        stream.write(text + "\n")


@node.command("count", "by:i")
def count(by):
    note("executed.txt", f"{by} {node.is_redelivered()}")
    if options.get("dies"):
        options["dies"] = False
        if not node.is_redelivered():
            os._exit(10) if hasattr(os, "_exit") else node.port.reset()
    return by


@node.command("hang", "")
def hang():
    note("executed.txt", f"hang {node.is_redelivered()}")
    while not node.is_redelivered():
        pass
    return "done"


@node.command("slow", "ms:i")
async def slow(ms):
    import asyncio

    note("executed.txt", f"slow {node.is_redelivered()}")
    if not node.is_redelivered():
        await asyncio.sleep(ms / 1000)
    return "done"


async def main():
    for _ in range(options.get("count", 1)):
        value = remembered("value.txt") + 1
        remember("value.txt", value)
        taken_at = time_ns() // 1000000
        pending = await number.publish(value, wait=options.get("waits", False))
        note("taken.txt", f"{value} {int(pending.is_stored)} {taken_at}")
    if options.get("hangs"):
        import asyncio

        await asyncio.sleep(3600)
    return options.get("next_s")


node.run(main, period_s=node.settings["period_s"])
