"""A serial port of this machine for one program: free as it is, or lent by the gateway that has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from petiole_tools import ports
from petiole_tools.client import Client


@asynccontextmanager
async def borrowed(
    client: Client | None, path: str, serial: str = "", *, beside: ports.Document | None = None
) -> AsyncIterator[ports.Document | None]:
    """No gateway of this machine has the port at `path` open for the block; what was lent, None if nothing was.

    `serial`: the USB serial number of what is on it. Without a path there is nothing to lend, nor when it is the port
    `beside`, which is lent already.
    """
    found = None if client is None or not path else await ports.held_here(client, path, serial)
    if client is None or found is None or (beside is not None and found["name"] == beside["name"]):
        yield None
        return
    async with ports.lent(client, found):
        yield found
