"""What happens, told to whoever listens: core NATS, no more than once."""

from __future__ import annotations

import asyncio

from nats.errors import Error as ClientError

from ..hub.ports import Logger
from .connection import Connection

# A wake of all devices of a large site; more than that while the leaf is away would be old news.
MAX_EVENTS = 4096


class EventPublisher:
    """`put` never waits. What cannot be sent is counted and dropped."""

    def __init__(self, connection: Connection, logger: Logger) -> None:
        self.dropped_total = 0
        self._connection = connection
        self._logger = logger
        self._events: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(MAX_EVENTS)

    def put(self, subject: str, payload: bytes) -> None:
        """Publish soon."""
        try:
            self._events.put_nowait((subject, payload))
        except asyncio.QueueFull:
            self.dropped_total += 1

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            subject, payload = await self._events.get()
            if not self._connection.is_connected:
                self.dropped_total += 1
                continue
            try:
                await self._connection.client.publish(subject, payload)
            except (ClientError, OSError) as error:
                self.dropped_total += 1
                self._logger.info("event_lost", subject=subject, error=str(error))
