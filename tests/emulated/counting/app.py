"""Counts: a reading is `[boot, number, ""]`. A line of `accepted.txt`, "boot number", once `publish` has returned."""

import asyncio

from petiole_node import Node

node = Node("petiole.json", firmware="count-1")
counter = node.channel("counter", type="a")


@node.command("add", "a:i b:i")
def add(a: int, b: int) -> int:
    return a + b


def next_boot() -> int:
    try:
        with open("boots.txt") as file:
            boot = len(file.read()) + 1
    except OSError:
        boot = 1
    with open("boots.txt", "a") as file:
        file.write(".")
    return boot


async def count() -> None:
    boot = next_boot()
    number = 0
    while True:
        number += 1
        await counter.publish([boot, number, ""])
        with open("accepted.txt", "a") as accepted:  # noqa: ASYNC230 - a node has no other way
            accepted.write(f"{boot} {number}\n")
        await asyncio.sleep(1)


node.run(count)
