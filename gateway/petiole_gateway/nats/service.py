"""What the gateway offers on NATS, as a NATS micro service: commands of devices, and its own administration.

    dev.<site>.<device>.<command>      a command of a device; arguments and result are JSON
    gw.<site>.<method>                 the gateway's own methods
Errors are micro service errors: headers `Nats-Service-Error-Code` and `Nats-Service-Error`.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import nats.micro
from nats.aio.msg import Msg
from nats.errors import Error as ClientError
from nats.micro.request import Request
from nats.micro.service import Service

from ..foreign_json import JsonError, parse
from ..hub.commands import Unreachable
from ..hub.ports import Busy, CommandError, Logger
from .connection import Connection
from .errors import NotConnectedError
from .subjects import checked_token

# The caller's own timeout is not on the wire of NATS; it may say one here, in seconds.
TIMEOUT_HEADER = "Petiole-Timeout"
DEFAULT_TIMEOUT_S = 5.0
MIN_TIMEOUT_S = 0.05
MAX_TIMEOUT_S = 300.0
# Beyond this a flood of requests would only grow memory: 32 busy devices with 8 commands each.
MAX_AT_ONCE = 256
# A server on the same machine answers within a millisecond; one that was restarted at this moment needs some seconds.
REGISTER_S = 10.0
_NAME = "petiole-gateway"
# At the end: an answer that is ready needs a turn of the loop, and the socket a moment.
FINISH_S = 1.0

# Have a command wait in the mailbox of a device that cannot be reached now, for so many seconds.
QUEUE_HEADER = "Petiole-Queue"
QUEUED_HEADER = "Petiole-Queued"  # in the answer: the item's id; its end comes to the same inbox

Command = Callable[[str, str, Any, float], Awaitable[Any]]
Queue = Callable[[str, str, Any, float, str], Awaitable[str]]
Elsewhere = Callable[[str, Msg, float], Awaitable[Msg | None]]
Method = Callable[[dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Queued:
    """The answer to a command that waits in a mailbox."""

    document: dict[str, Any]
    id: str


async def _no() -> bool:
    return False


class GatewayService:
    """`command(device, command, arguments, timeout_s)` and `methods` by name raise CommandError. `elsewhere(device,
    message, timeout_s)` is asked first: the answer of another gateway of the site that has the device, or None.
    `queue(device, command, arguments, expires_in_s, reply_to)` puts a command into a mailbox and returns its id."""

    def __init__(
        self,
        connection: Connection,
        *,
        site: str,
        version: str,
        command: Command,
        methods: dict[str, Method],
        logger: Logger,
        elsewhere: Elsewhere | None = None,
        queue: Queue | None = None,
    ) -> None:
        self._connection = connection
        self._site = checked_token("site", site)
        self._version = version
        self._command = command
        self._methods = methods
        self._logger = logger
        self._elsewhere = elsewhere
        self._queue = queue
        self._service: Service | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Register with the connected server; whoever asks after that is answered. NotConnectedError if the server
        does not take it in time."""
        service = await nats.micro.add_service(
            self._connection.client,
            name=_NAME,
            version=self._version,
            description="Devices of a petiole site",
            metadata={"site": self._site},
            queue_group=f"gateway-{self._site}",
        )
        self._service = service
        await service.add_endpoint(name="command", subject=f"dev.{self._site}.*.*", handler=self._device_request)
        for name in self._methods:
            endpoint = name.replace(".", "-")
            await service.add_endpoint(name=endpoint, subject=f"gw.{self._site}.{name}", handler=self._gateway_request)
        # The client gathers what it sends. The server knows all of the above when it has passed on what comes after it.
        try:
            await self._connection.client.request(f"$SRV.PING.{_NAME}.{service.id}", timeout=REGISTER_S)
        except (ClientError, OSError) as error:
            raise NotConnectedError(f"the service of {self._site} was not registered") from error

    async def withdraw(self) -> None:
        """Take no more requests."""
        if self._service is not None and self._connection.is_connected:
            try:
                await self._service.stop()
            except (ClientError, OSError) as error:
                self._logger.warning("service_not_withdrawn", error=str(error))

    async def finish(self) -> None:
        """Give the requests that are being answered a moment, then end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FINISH_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _device_request(self, request: Request) -> None:
        await self._spawn_command(request, self._elsewhere)

    async def take_forwarded(self, message: Msg) -> None:
        """Answer a command that another gateway hands on because the device is here."""
        await self._spawn_command(Request(message), None)

    async def _spawn_command(self, request: Request, elsewhere: Elsewhere | None) -> None:
        *_, device, command = request.subject.split(".")

        async def answer(arguments: Any) -> Any:
            try:
                return await self._command(device, command, arguments, _timeout(request))
            except Unreachable as error:
                expires_in_s = _seconds(request, QUEUE_HEADER)
                if self._queue is None or expires_in_s is None:
                    raise
                id = await self._queue(device, command, arguments, expires_in_s, request._msg.reply)
                return Queued({"queued": id, "availability": error.availability, "next_wake_s": error.next_wake_s}, id)

        async def hand_on() -> bool:
            if elsewhere is None:
                return False
            reply = await elsewhere(device, request._msg, _timeout(request))
            if reply is None:
                return False
            await self._respond(request, reply.data, dict(reply.headers) if reply.headers else None)
            return True

        await self._spawn(request, answer, hand_on)

    async def _gateway_request(self, request: Request) -> None:
        method = self._methods[request.subject.split(".", 2)[2]]

        async def answer(arguments: Any) -> Any:
            if arguments is None:
                arguments = {}
            if not isinstance(arguments, dict):
                raise CommandError(400, "the payload is a JSON object")
            return await method(arguments)

        await self._spawn(request, answer)

    async def _spawn(
        self, request: Request, answer: Callable[[Any], Awaitable[Any]], hand_on: Callable[[], Awaitable[bool]] = _no
    ) -> None:
        # The library calls handlers one after another: a slow device must not hold up the others.
        if len(self._tasks) >= MAX_AT_ONCE:
            await self._fail(request, 429, f"{MAX_AT_ONCE} requests are being answered")
            return
        task = self._connection.supervisor.once("a request", self._answer(request, answer, hand_on))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, request: Request, answer: Callable[[Any], Awaitable[Any]], hand_on: Callable[[], Awaitable[bool]]
    ) -> None:
        try:
            if await hand_on():
                return
            try:
                arguments = parse(request.data) if request.data.strip() else None
            except JsonError as error:
                raise CommandError(400, f"the payload is not JSON that is taken: {error}") from error
            result = await answer(arguments)
            headers = {QUEUED_HEADER: result.id} if isinstance(result, Queued) else None
            document = result.document if isinstance(result, Queued) else result
            text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
            await self._respond(request, text.encode(), headers)
        except CommandError as error:
            await self._fail(request, error.code, error.text)
        except Busy as busy:
            await self._fail(request, 503, busy.reason)
        except Exception as error:
            self._logger.error("request_failed", subject=request.subject, error=repr(error))
            self._connection.supervisor.failed("a request", error)
            await self._fail(request, 500, "the gateway failed; its log says more")

    async def _fail(self, request: Request, code: int, text: str) -> None:
        line = " ".join(text.split())[:300]  # a header is one line
        headers = {"Nats-Service-Error": line, "Nats-Service-Error-Code": str(code)}
        await self._respond(request, json.dumps({"code": code, "error": line}).encode(), headers)

    async def _respond(self, request: Request, data: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            await request.respond(data, headers)
        except ValueError:
            self._logger.debug("no_reply_wanted", subject=request.subject)
        except (ClientError, OSError) as error:
            # The caller's request times out; there is nobody else to tell.
            self._logger.warning("answer_not_sent", subject=request.subject, error=str(error))


def _timeout(request: Request) -> float:
    timeout_s = _seconds(request, TIMEOUT_HEADER)
    return DEFAULT_TIMEOUT_S if timeout_s is None else min(max(timeout_s, MIN_TIMEOUT_S), MAX_TIMEOUT_S)


def _seconds(request: Request, header: str) -> float | None:
    """What the caller says there; None if it says nothing that is a number."""
    try:
        seconds = float((request.headers or {}).get(header, ""))
    except ValueError:
        return None
    return None if math.isnan(seconds) else seconds
