"""What may look at a gateway over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from ..nats.task_end import end_tasks
from .http_endpoint import Answer, HttpEndpoint
from .metrics import CONTENT_TYPE, Exposition

if TYPE_CHECKING:
    from ..app import Gateway
    from ..settings.config import MetricsConfig


class Monitoring:
    """`start` when the gateway has started, `stop` before it stops."""

    def __init__(self, gateway: Gateway, config: MetricsConfig) -> None:
        self._gateway = gateway
        self._config = config
        self._exposition = Exposition(
            gateway, per_device=config.per_device, refused=lambda: self.endpoint.refused_total
        )
        pages = {"/metrics": self._metrics, "/healthz": self._live, "/readyz": self._ready}
        self.endpoint = HttpEndpoint(pages, gateway.logger)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """EndpointError if the address cannot be bound."""
        await self.endpoint.open(self._config.host, self._config.port)
        self._task = self._gateway.supervisor.keep("the look at health", self._gateway.status.watch)

    async def stop(self) -> None:
        """Answer nobody more."""
        await self.endpoint.close()
        if self._task is not None:
            await end_tasks([self._task])

    async def _metrics(self) -> Answer:
        return Answer(await self._exposition.page(), CONTENT_TYPE)

    async def _live(self) -> Answer:
        return self._health(self._gateway.status.health().is_live)

    async def _ready(self) -> Answer:
        return self._health(self._gateway.status.health().is_ready)

    def _health(self, is_good: bool) -> Answer:
        body = json.dumps(self._gateway.status.health().document(), ensure_ascii=False).encode() + b"\n"
        status = HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(body, "application/json", status)
