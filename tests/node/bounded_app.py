"""A program with explicit wakes whose body never ends by itself. `wakes.txt` has a line for each that was left."""

import asyncio

from petiole_node import Node

node = Node("petiole.json")
number = node.channel("n", type="i")


def note(name, text):
    with open(name, "a") as stream:
        stream.write(text + "\n")


async def program():
    value = 0
    while True:
        async with node.awake():
            value += 1
            await number.publish(value)
            await asyncio.sleep(3600)
        note("wakes.txt", "left")


node.run(program)
