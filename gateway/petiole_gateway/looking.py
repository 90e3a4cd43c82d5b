"""Documents for whoever looks on, for as long as somebody asks: frames, and what nodes say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nats.errors import Error as ClientError

if TYPE_CHECKING:
    from .app import Gateway

# Documents that wait to be published; more are skipped, the links must not wait for a spectator.
MAX_WAITING = 1000

Offer = Callable[[dict[str, Any]], None]


class Looking:
    """One subject. `attach` gets who is to be given documents while somebody looks, and None when nobody does."""

    def __init__(self, gateway: Gateway, subject: str, attach: Callable[[Offer | None], None]) -> None:
        self.subject = subject
        self._gateway = gateway
        self._attach = attach
        self._until = 0.0
        self._skipped = 0
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def ask(self, for_s: float) -> dict[str, Any]:
        """Somebody looks, for so long from now on."""
        loop = asyncio.get_running_loop()
        self._until = max(self._until, loop.time() + for_s)
        if self._task is None or self._task.done():
            self._waiting = asyncio.Queue(MAX_WAITING)
            self._skipped = 0
            self._attach(self._offer)
            self._task = self._gateway.supervisor.once(f"who looks at {self.subject}", self._publish_all())
        return {"subject": self.subject, "for_s": for_s}

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _offer(self, document: dict[str, Any]) -> None:
        try:
            self._waiting.put_nowait(document)
        except asyncio.QueueFull:
            self._skipped += 1

    async def _publish_all(self) -> None:
        try:
            while (left_s := self._until - asyncio.get_running_loop().time()) > 0:
                try:
                    document = await asyncio.wait_for(self._waiting.get(), left_s)
                except TimeoutError:
                    continue
                skipped, self._skipped = self._skipped, 0
                await self._publish(json.dumps({**document, "skipped": skipped}, separators=(",", ":")).encode())
        finally:
            self._attach(None)

    async def _publish(self, data: bytes) -> None:
        connection = self._gateway.connection
        if not connection.is_connected:
            self._skipped += 1
            return
        try:
            await connection.client.publish(self.subject, data)
        except (ClientError, OSError) as error:
            self._skipped += 1
            self._gateway.logger.debug("not_shown", subject=self.subject, error=str(error))
