"""Several gateways on one leaf: commands reach the one that has the device, news reaches all.

    local.dev.<site>.<gateway>.<device>.<command>    a command, handed on by another gateway
    local.gateways.<site>                            news: {"gateway", "kind", "device"}
Both stay on the leaf: `local.>` never crosses its link.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as ClientError
from nats.errors import NoRespondersError

from ..foreign_json import JsonError, parse, parse_object
from ..hub.ports import CommandError
from .api import MAX_ANSWER
from .connection import Connection
from .private_file import create_private
from .requester import service_code
from .subjects import checked_token, is_token

NAME_FILE = "gateway.name"
# Over the caller's patience, which the other gateway keeps: its own word is better than ours.
FORWARD_GRACE_S = 0.5
# A gateway answers from memory; one that has just ended is known to be away at once.
ASK_TIMEOUT_S = 3.0
ERROR_CODE, ERROR_TEXT = "Nats-Service-Error-Code", "Nats-Service-Error"
# News on their way into a full socket; the newest are lost: one for each device of a large site whose nodes all join.
MAX_TELLING = 1024


def gateway_name(state_dir: Path) -> str:
    """This gateway's name among those of its site, the same in every run: drawn once, kept in the state directory."""
    path = state_dir / NAME_FILE
    create_private(path, secrets.token_hex(8).encode())
    return checked_token("gateway", path.read_text().strip())


class SiteGateways:
    """`hear(kind, device)` is called with news of others, `command(message)` with commands that they hand on."""

    def __init__(self, connection: Connection, *, site: str, own: str) -> None:
        self._client = connection.client
        self._supervisor = connection.supervisor
        self._site = checked_token("site", site)
        self._own = own
        self._served: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.untold_total = 0  # news of ours that was lost
        self.unreadable_total = 0  # news of others

    async def listen(self, hear: Callable[[str, str], Awaitable[None]]) -> None:
        """Take news from now on."""

        async def take(message: Msg) -> None:
            try:
                news = parse_object(message.data)
                gateway, kind, device = news["gateway"], news["kind"], news["device"]
            except (JsonError, KeyError):
                self.unreadable_total += 1
                return
            if not isinstance(kind, str) or not isinstance(device, str) or not is_token(device):
                self.unreadable_total += 1
            elif gateway != self._own:
                await hear(kind, device)

        await self._client.subscribe(f"local.gateways.{self._site}", cb=take)

    async def serve(self, command: Callable[[Msg], Awaitable[None]]) -> None:
        """Take commands that others hand on."""
        self._served = await self._client.subscribe(f"local.dev.{self._site}.{self._own}.*.*", cb=command)

    async def withdraw(self) -> None:
        """Take no more commands; others who hand one on are told at once that nobody is here."""
        if self._served is not None:
            with suppress(ClientError, OSError):
                await self._served.unsubscribe()

    def tell(self, kind: str, device: str) -> None:
        """Tell the others. Lost while there is no connection or too much waits for it: the documents say it, too."""
        if len(self._tasks) >= MAX_TELLING:
            self.untold_total += 1
            return
        news = {"gateway": self._own, "kind": kind, "device": device}
        task = self._supervisor.once("news", self._publish(json.dumps(news).encode()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, data: bytes) -> None:
        try:
            await self._client.publish(f"local.gateways.{self._site}", data)
        except (ClientError, OSError):
            self.untold_total += 1

    async def ask(self, gateway: str, method: str, arguments: dict[str, Any]) -> tuple[bool, Any]:
        """Have another gateway answer one of its methods: whether it is there, and what it said. CommandError."""
        subject = f"gw.{self._site}.{gateway}.{method}"
        try:
            reply = await self._client.request(subject, json.dumps(arguments).encode(), timeout=ASK_TIMEOUT_S)
        except (ClientError, OSError, TimeoutError):
            return False, None
        headers = reply.headers or {}
        if ERROR_CODE in headers:
            raise CommandError(service_code(headers[ERROR_CODE]), headers.get(ERROR_TEXT, "refused"))
        try:
            return True, parse(reply.data, most=MAX_ANSWER)
        except JsonError as error:
            raise CommandError(502, f"gateway {gateway} answers what cannot be read: {error}") from error

    async def forward(self, gateway: str, message: Msg, timeout_s: float) -> Msg | None:
        """Hand a command on; the answer, or None if that gateway is not there."""
        _, _, device, command = message.subject.split(".")
        subject = f"local.dev.{self._site}.{gateway}.{device}.{command}"
        try:
            return await self._client.request(
                subject, message.data, timeout=timeout_s + FORWARD_GRACE_S, headers=message.headers
            )
        except NoRespondersError:
            return None
        except (ClientError, OSError, TimeoutError):
            return None
