"""A short-lived connection to NATS for one command: connect, ask, listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.errors import Error as NatsClientError
from nats.errors import NoRespondersError

import nats
from petiole.manifest import is_token
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options, Target

CONNECT_TIMEOUT_S = 5
# A gateway answers from memory; a Pi that is flushing its SD card may hold it for seconds.
ANSWER_TIMEOUT_S = 10.0
# While a followed connection is down: often enough to be back at once, seldom enough to cost nothing.
RECONNECT_S = 1.0
ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"


def checked_name(what: str, name: str) -> str:
    """`name` if it may be part of a subject, else a CliError."""
    if not is_token(name):
        raise CliError(f"{what} {name!r} cannot be part of a NATS subject", "1 to 32 characters of A-Z a-z 0-9 _ -")
    return name


class Client:
    """Connected. `lost` is set when the connection has ended for good."""

    def __init__(self, connection: NatsClient, target: Target, lost: asyncio.Event) -> None:
        self.connection = connection
        self.target = target
        self.site = target.site
        self.lost = lost

    async def gateway(self, request: str, body: Any = None, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """The gateway's answer to `gw.<site>.<request>`. ServiceError if it refuses, CliError if none answers."""
        site = checked_name("site", self.site)
        return await self.ask(
            f"gw.{site}.{request}",
            {} if body is None else body,
            timeout_s,
            CliError(
                f"no gateway of site {site!r} answers at {self.target.url}",
                "`petiole gateway run` starts one; another site is named with --site",
            ),
        )

    async def devices(self) -> list[dict[str, Any]]:
        """All devices of the site, page after page."""
        devices: list[dict[str, Any]] = []
        after = ""
        while True:
            found = await self.gateway("device.list", {"after": after})
            devices += found["devices"]
            if not found["next"]:
                return devices
            after = found["next"]

    async def ask(
        self, subject: str, body: Any, timeout_s: float, nobody: CliError, headers: dict[str, str] | None = None
    ) -> Any:
        """JSON out, JSON in. `nobody` is raised when there is nobody to ask. None as body sends no payload."""
        payload = b"" if body is None else json.dumps(body).encode()
        try:
            reply = await self.connection.request(subject, payload, timeout=timeout_s, headers=headers)
        except NoRespondersError as error:
            raise nobody from error
        except TimeoutError as error:
            raise CliError(
                f"no answer within {timeout_s:g} s",
                "`petiole status` shows whether the gateway is well; --timeout waits longer",
            ) from error
        except NatsClientError as error:
            raise CliError(f"the connection to {self.target.url} failed: {error}", "try again") from error
        answered = reply.headers or {}
        if ERROR_CODE in answered:
            code = answered[ERROR_CODE]
            raise ServiceError(int(code) if code.isdigit() else 500, answered.get(ERROR_TEXT, "refused"))
        return parsed(reply)


def parsed(message: Msg) -> Any:
    """The JSON of a message; None for an empty one."""
    if not message.data:
        return None
    try:
        return json.loads(message.data)
    except ValueError as error:
        raise CliError(
            f"{message.subject}: an answer that is not JSON", "is it a petiole gateway that answers?"
        ) from error


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[Client]:
    """One connection for the block. CliError when there is none to be had."""
    client = await connect(options.target())
    try:
        yield client
    finally:
        with suppress(NatsClientError, OSError, TimeoutError):
            await client.connection.close()


async def connect(target: Target) -> Client:
    """Connect once; no try is repeated."""
    faults: list[Exception] = []
    lost = asyncio.Event()

    async def fault(error: Exception) -> None:
        faults.append(error)

    async def closed() -> None:
        lost.set()

    login: dict[str, Any] = {}
    if target.credentials is not None:
        login["user_credentials"] = str(target.credentials)
    elif target.user is not None:
        login |= {"user": target.user, "password": target.password or ""}
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S + 1):
            connection = await nats.connect(
                target.url,
                name="petiole",
                allow_reconnect=False,
                connect_timeout=CONNECT_TIMEOUT_S,
                error_cb=fault,
                closed_cb=closed,
                **login,
            )
    except (NatsClientError, OSError, TimeoutError, ValueError) as error:
        raise _refusal(target, [*faults, error]) from error
    return Client(connection, target, lost)


def _refusal(target: Target, faults: list[Exception]) -> CliError:
    words = " ".join(str(fault) for fault in faults).lower()
    if "authorization" in words or "authentication" in words:
        return not_let_in(target)
    if isinstance(faults[-1], ValueError):
        return CliError(f"{target.url!r} is not the address of a server: {faults[-1]}", "nats://HOST:PORT is meant")
    return no_server(target)


def not_let_in(target: Target) -> CliError:
    hint = "give credentials with --creds FILE, or --user NAME and PETIOLE_PASSWORD"
    return CliError(f"the server at {target.url} does not let us in", hint)


def no_server(target: Target) -> CliError:
    hint = "is the gateway running? `petiole gateway run` starts one"
    return CliError(f"no NATS server answers at {target.url}", hint)


class Standing:
    """A connection for as long as a command runs: made when needed, made again when it was lost."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._client: Client | None = None

    async def client(self) -> Client:
        """Connected now. The target is looked up anew: a leaf server may come back elsewhere."""
        if self._client is None or self._client.lost.is_set():
            self._client = await connect(self._options.target())
        return self._client

    async def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            with suppress(NatsClientError, OSError, TimeoutError):
                await self._client.connection.close()


async def follow(
    options: Options, listen: Callable[[Client], Awaitable[None]], on_lost: Callable[[CliError], None]
) -> None:
    """Connect and call `listen`, which subscribes; whenever the connection is lost, do both again. Never returns.

    The first connection must succeed. The target is looked up anew each time: a leaf server may come back elsewhere.
    """
    first = True
    while True:
        try:
            async with connected(options) as client:
                await listen(client)
                first = False
                await client.lost.wait()
                on_lost(CliError(f"the connection to {client.target.url} is lost", "connecting again"))
        except CliError:
            if first:
                raise
        await asyncio.sleep(RECONNECT_S)
