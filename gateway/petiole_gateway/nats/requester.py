"""Requests of nodes to any subject, and readings that may be lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as ClientError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from petiole import wire

from ..foreign_json import MAX_TEXT, JsonError, parse
from ..hub.ports import CommandError
from .connection import Connection
from .subjects import checked_token

ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
# Live readings on their way into a full socket; the newest are dropped.
MAX_PUBLISHING = 256


class NatsRequester:
    """Implements `hub.ports.Requester` for one site."""

    def __init__(self, connection: Connection, site: str) -> None:
        self._connection = connection
        self._site = checked_token("site", site)
        self._tasks: set[asyncio.Task[None]] = set()
        self.live_dropped_total = 0

    async def request(self, subject: str, arguments: object, timeout_s: float) -> Any:
        """The answer: JSON where it is JSON, else text, else bytes. CommandError otherwise, and for an answer that no
        frame can hold."""
        if not self._connection.is_connected:
            raise CommandError(wire.NOT_NOW, "the gateway is not connected to NATS")
        payload = b"" if arguments is None else json.dumps(arguments, separators=(",", ":")).encode()
        try:
            answer = await self._connection.client.request(subject, payload, timeout=timeout_s)
        except NoRespondersError:
            raise CommandError(wire.NOT_FOUND, f"nobody answers on {subject}") from None
        except (NatsTimeoutError, TimeoutError):
            raise CommandError(wire.TIMED_OUT, f"no answer on {subject} within {timeout_s:g} s") from None
        except (ClientError, OSError) as error:
            raise CommandError(wire.NOT_NOW, str(error) or type(error).__name__) from error
        return _answer(answer)

    def publish_live(self, device: str, channel: str, payload: bytes) -> None:
        """Publish without an ack; dropped while not connected."""
        if not self._connection.is_connected:
            self.live_dropped_total += 1
            return
        # `publish` waits only while the socket's buffer is full.
        if len(self._tasks) >= MAX_PUBLISHING:
            self.live_dropped_total += 1
            return
        subject = f"live.{self._site}.{device}.{channel}"
        task = self._connection.supervisor.once("a live reading", self._publish(subject, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, subject: str, payload: bytes) -> None:
        try:
            await self._connection.client.publish(subject, payload)
        except (ClientError, OSError):
            self.live_dropped_total += 1


def _answer(message: Msg) -> Any:
    headers = message.headers or {}
    code = headers.get(ERROR_CODE_HEADER)
    if code is not None or ERROR_HEADER in headers:
        raise CommandError(service_code(code or ""), headers.get(ERROR_HEADER, "error"))
    if not message.data:
        return None
    if len(message.data) > MAX_TEXT:
        raise CommandError(wire.TOO_LARGE, f"the answer is longer than {wire.MAX_MESSAGE} bytes")
    try:
        return parse(message.data)
    except JsonError as error:
        if error.is_json:
            raise CommandError(wire.HANDLER_FAILED, f"the answer cannot be handed on: {error}") from error
        return _text(message.data)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def service_code(text: str) -> int:
    """A service's error code, which may be any text, as a code of PROTOCOL.md."""
    is_code = len(text) == 3 and text.isascii() and text.isdigit() and text[0] in "45"
    return int(text) if is_code else wire.HANDLER_FAILED
