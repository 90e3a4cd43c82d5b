"""A node by wire on a board that has no modules for a network: `MICROPYPATH=radioless:shims:firmware micropython`."""

# mypy: ignore-errors
# MicroPython has no types here.

import asyncio

from petiole_node import Node, links
from petiole_node import port as ports

port = ports.choose("rp2")
Node({"name": "n", "key": "00112233445566778899aabbccddeeff", "folder": ".", "links": [{"kind": "console"}]})


async def by_wire():
    for settings in ({"kind": "uart", "id": 1, "tx": 4, "rx": 5, "baud": 9600, "fd": None}, {"kind": "console"}):
        link = links.create(settings, port)
        await link.open()
        link.close()


asyncio.run(by_wire())
print("passed")
