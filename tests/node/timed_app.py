"""What a node runs as its `app.py` to say when it took a reading: its value is that time, in ms since 1970."""

import asyncio
import time

from petiole_node import Node

node = Node("petiole.json", firmware="timed-1")
taken = node.channel("taken", type="i")


async def readings() -> None:
    while True:
        await taken.publish(time.time_ns() // 1000000, wait=False)
        await asyncio.sleep(0.05)


node.run(readings)
