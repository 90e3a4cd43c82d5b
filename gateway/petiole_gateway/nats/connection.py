"""A client connection that never gives up and says when it is up and when it is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as ClientError

from ..hub.ports import Logger
from ..supervision import Supervisor
from .binary import check_connected_server
from .errors import NotConnectedError, SecurityError
from .task_end import end_tasks

# A frozen local server is noticed after PING_INTERVAL_S * (MAX_OUTSTANDING_PINGS + 1) = 9 s at most (library
# defaults: 6 minutes). Between processes of one host a ping costs nothing; a busy Pi may stall for seconds.
PING_INTERVAL_S = 3
MAX_OUTSTANDING_PINGS = 2
# A leaf server is back 0.3 s after a crash; trying four times a second wastes little and waits little.
RECONNECT_WAIT_S = 0.25


class Connection:
    """One nats-py client with `is_connected`, an `epoch` that grows with every (re)connect, and listeners.
    `supervisor` watches the tasks of whoever works over it."""

    def __init__(self, logger: Logger, supervisor: Supervisor | None = None) -> None:
        self.client = Client()
        self.supervisor = supervisor or Supervisor(logger)
        self.epoch = 0
        self._logger = logger
        self._up = asyncio.Event()
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def is_connected(self) -> bool:
        """Publishing now reaches the server. While False nothing may be published: the client would buffer
        it and send it later, long after its sender gave up."""
        return self._up.is_set() and self.client.is_connected

    @property
    def domain(self) -> str | None:
        """JetStream domain of the connected server: the hub's, or the name of the site whose leaf it is."""
        return self.client._server_info.get("domain")

    def listen(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Call `listener(True)` after every (re)connect and `listener(False)` after every loss; returns the
        function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def wait_up(self) -> None:
        """Return when connected."""
        await self._up.wait()

    async def close(self) -> None:
        """Close for good; never raises, waits for nothing that is in flight."""
        self._set_up(False)
        with contextlib.suppress(ClientError, OSError, asyncio.TimeoutError):
            await self.client.close()

    async def _reconnected(self) -> None:
        self.epoch += 1
        self._logger.info("nats_connected", epoch=self.epoch)
        self._set_up(True)

    async def _disconnected(self) -> None:
        if self._up.is_set():
            self._logger.warning("nats_disconnected", epoch=self.epoch)
        self._set_up(False)

    async def _failed(self, error: Exception) -> None:
        if not isinstance(error, (ClientError, OSError, asyncio.TimeoutError)):
            self.supervisor.failed("what is called with messages", error)
            return
        # Permission violations and slow consumers are reported here and nowhere else.
        self._logger.warning("nats_error", error=str(error) or type(error).__name__)

    def _set_up(self, up: bool) -> None:
        if up == self._up.is_set():
            return
        if up:
            self._up.set()
        else:
            self._up.clear()
        for listener in tuple(self._listeners):
            listener(up)


async def connect(
    urls: str | Sequence[str],
    *,
    logger: Logger,
    name: str = "petiole",
    user: str | None = None,
    password: str | None = None,
    credentials: Path | None = None,
    inbox_prefix: str = "_INBOX",
    timeout_s: float = 10.0,
    supervisor: Supervisor | None = None,
    ping_interval_s: int = PING_INTERVAL_S,
) -> Connection:
    """Connect, check the server's version, and stay connected for ever. On a leaf, `inbox_prefix` must be that of
    its site (`site_inbox`) for answers from the hub to arrive.

    NotConnectedError if the first connection is not there within `timeout_s`, SecurityError if the server
    refuses the credentials, VersionError if it is too old.
    """
    connection = Connection(logger, supervisor)
    options: dict[str, Any] = {
        "servers": [urls] if isinstance(urls, str) else list(urls),
        "name": name,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_S,
        "inbox_prefix": inbox_prefix,
        "ping_interval": ping_interval_s,
        "max_outstanding_pings": MAX_OUTSTANDING_PINGS,
        "connect_timeout": 2,
        "disconnected_cb": connection._disconnected,
        "reconnected_cb": connection._reconnected,
    }
    if user is not None:
        options |= {"user": user, "password": password}
    if credentials is not None:
        options["user_credentials"] = str(credentials)
    seen: list[Exception] = []
    refused = asyncio.Event()

    async def remember(error: Exception) -> None:
        seen.append(error)
        if "authorization" in str(error).lower():
            refused.set()
        await connection._failed(error)

    options["error_cb"] = remember
    connecting = asyncio.create_task(connection.client.connect(**options))
    refusal = asyncio.create_task(refused.wait())
    try:
        await asyncio.wait({connecting, refusal}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await end_tasks([connecting])
        await connection.close()
        raise
    finally:
        refusal.cancel()
    if not connecting.done() or connecting.exception() is not None:
        connecting.cancel()
        (outcome,) = await asyncio.gather(connecting, return_exceptions=True)
        await connection.close()
        # The client may raise the refusal, or report it and go on trying, depending on when it comes.
        if refused.is_set() or "authorization" in str(outcome).lower():
            raise SecurityError("the server refuses these credentials")
        last = seen[-1] if seen else outcome
        raise NotConnectedError(f"{urls} ({str(last) or type(last).__name__})")
    try:
        check_connected_server(connection.client)
    except Exception:
        await connection.close()
        raise
    connection.client._error_cb = connection._failed
    await connection._reconnected()
    return connection
