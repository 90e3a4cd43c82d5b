"""Many nodes in one process that publish as fast as their gateway makes durable: `python -m tests.bench.load`.

Reads {"port", "keys": [hex], "readings", "batch"} from standard input. Prints "ready" when all have joined, waits for
a line, and prints the seconds from then until everything was durable.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time

from petiole import join, manifest, states
from petiole.endpoint import NodeEndpoint
from petiole.outbox import Outbox
from petiole_gateway.aead import AesCcm

# Bounds for hangs: joins are limited to 50 in a second, and the slowest load that was measured took a minute.
JOIN_S = 60.0
LOAD_S = 170.0  # below that of whoever waits for our line, so that the reason is said here

MANIFEST = manifest.encode("1.0", [[0, "value", "", "f", 1]], [], [0, 0])


def now() -> int:
    return time.monotonic_ns() // 1_000_000


class Publisher:
    """One node on its own socket. `batch`: readings kept in the outbox, so that frames carry many, or one."""

    def __init__(self, key: bytes, port: int, readings: int, batch: int) -> None:
        self.endpoint = NodeEndpoint(join.Joiner(AesCcm, key), os.urandom, MANIFEST, Outbox(batch, 1), 1, 1)
        self.left = 0
        self.readings = readings
        self.batch = batch
        self.is_done = asyncio.Event()
        self.is_online = asyncio.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.setblocking(False)
        self._socket.connect(("127.0.0.1", port))
        self._timer: asyncio.TimerHandle | None = None
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        self.endpoint.link_up(now(), True)
        self.pump()

    def start(self) -> None:
        self.left = self.readings
        self.pump()

    def _readable(self) -> None:
        while True:
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                break
            self.endpoint.receive(data, now())
        self.pump()

    def pump(self) -> None:
        at = now()
        endpoint = self.endpoint
        if endpoint.state == states.ONLINE:
            self.is_online.set()
        items = endpoint.outbox.items
        while self.left and len(items) < self.batch:
            self.left -= 1
            endpoint.publish(0, 21.5, at)
        while (frame := endpoint.next_frame(at)) is not None:
            self._socket.send(frame)
        if self.readings and not self.left and not items and self.is_online.is_set():
            self.is_done.set()
        if self._timer is not None:
            self._timer.cancel()
        deadline = endpoint.deadline(at)
        if deadline is not None:
            delay = max(0.001, (deadline - at) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay, self.pump)


async def all_of(events: list[asyncio.Event], what: str, timeout_s: float) -> None:
    """Return when all are set. SystemExit with what is missing if that takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            for event in events:
                await event.wait()
    except TimeoutError:
        missing = sum(not event.is_set() for event in events)
        sys.exit(f"error: {missing} of {len(events)} nodes are not {what} within {timeout_s:g} s")


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    keys = order["keys"]
    nodes = [
        Publisher(bytes.fromhex(key), order["port"], order["readings"] // len(keys), order["batch"]) for key in keys
    ]
    await all_of([node.is_online for node in nodes], "online", JOIN_S)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    started = time.monotonic()
    for node in nodes:
        node.is_done.clear()
        node.start()
    await all_of([node.is_done for node in nodes], "done", LOAD_S)
    print(time.monotonic() - started, flush=True)


asyncio.run(main())
