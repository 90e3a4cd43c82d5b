"""Watches the leaf's link to the hub, and says when only a restart of the leaf server can bring it back.

After some outages of flaky mobile links the server stops trying to reconnect (nats-server #7615, open).
The sign: the link is down although a TCP connection to the hub is possible.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from .leaf_config import checked_hub_url
from .monitor import fetch_json

# Also the delay with which `link_up` follows the truth; one loopback request of about 1 ms each time.
POLL_S = 1.0
# One attempt of the server costs at most reconnect (2 s) + dial timeout (10 s) + first line (10 s) = 22 s per URL.
# 90 s leave it four attempts, or a hub of three servers one complete round and a part of the next.
PATIENCE_S = 90.0
# A hub that refuses our credentials looks the same from here, and a restart does not help then: so each restart in
# vain doubles the patience, up to this.
MAX_PATIENCE_S = 3600.0
DIAL_TIMEOUT_S = 5.0


class LinkWatchdog:
    """`link_up` and its changes; calls `restart` when the server no longer tries."""

    def __init__(
        self,
        monitor_port: int,
        hub_urls: Sequence[str],
        *,
        restart: Callable[[], Awaitable[None]],
        on_change: Callable[[bool], None],
        patience_s: float = PATIENCE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self.link_up = False
        self.hub_server = ""  # name of the hub server at the other end, "" while there is none
        self.changed_at: float | None = None  # time, s; of the last change of `link_up`
        self.restarts_total = 0
        self._monitor_port = monitor_port
        self._hubs = [checked_hub_url(url)[1:] for url in hub_urls]
        self._restart = restart
        self._on_change = on_change
        self._patience_s = self._first_patience_s = patience_s
        self._poll_s = poll_s

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        down_since = loop.time()
        while True:
            up = await self._is_linked()
            if up != self.link_up:
                self.link_up = up
                self.changed_at = time.time()
                down_since = loop.time()
                self._on_change(up)
            if up:
                self._patience_s = self._first_patience_s
            elif loop.time() - down_since > self._patience_s and await self._hub_accepts():
                self.restarts_total += 1
                self._patience_s = min(self._patience_s * 2, MAX_PATIENCE_S)
                await self._restart()
                down_since = loop.time()
            await asyncio.sleep(self._poll_s)

    async def _is_linked(self) -> bool:
        try:
            page = await fetch_json("127.0.0.1", self._monitor_port, "/leafz")
        except (OSError, TimeoutError, ValueError):
            self.hub_server = ""
            return False
        leafs = page.get("leafs") or []
        self.hub_server = str(leafs[0].get("name", "")) if leafs else ""
        return bool(leafs)

    async def _hub_accepts(self) -> bool:
        """Some hub server accepts TCP and sends its first line, so the network is not what is missing."""
        for host, port in self._hubs:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(host, port)
                    try:
                        if (await reader.read(4)) == b"INFO":
                            return True
                    finally:
                        writer.close()
            except (OSError, TimeoutError):
                continue
        return False
