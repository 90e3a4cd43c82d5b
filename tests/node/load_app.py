"""What a node runs as its `app.py` to be short of memory: long readings from many tasks, and commands beside them."""

import asyncio
import json

from petiole_node import Node

with open("sim.json") as file:
    options = json.load(file)
node = Node("petiole.json", firmware="load-1")
counter = node.channel("counter", type="a")
live = node.channel("live", type="a")


@node.command("echo", "value:a")
async def echo(value: object) -> object:
    await asyncio.sleep(0.01)
    return value


async def load() -> None:
    number = 0

    async def work() -> None:
        nonlocal number
        while True:
            number += 1
            mine = number
            await counter.publish([mine, "." * 300])
            await live.publish(mine, confirmed=False)

    await asyncio.gather(*[work() for _ in range(options["concurrency"])])


node.run(load)
