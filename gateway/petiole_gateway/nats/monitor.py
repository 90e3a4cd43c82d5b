"""Read one JSON document from a nats-server's HTTP monitor on the loopback interface."""

from __future__ import annotations

import asyncio
import json
from typing import Any

# A monitor page of a leaf is a few kB; /leafz of a hub with hundreds of leafs stays far below this.
MAX_ANSWER = 4 * 1024 * 1024


async def fetch_json(host: str, port: int, path: str, *, timeout_s: float = 2.0) -> dict[str, Any]:
    """The document at `path`. OSError, TimeoutError or ValueError if there is none."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port, limit=MAX_ANSWER)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            await writer.drain()
            await reader.readuntil(b"\r\n\r\n")
            body = await reader.read(MAX_ANSWER)
            while chunk := await reader.read(MAX_ANSWER):
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError("answer of the monitor is too long")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the monitor closed the connection") from error
        finally:
            writer.close()
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("answer of the monitor is not an object")
    return document
