"""Pipelined JetStream publishing with a window of our own.

One inbox subscription takes all PubAcks; the reply subject's last token is a counter. nats-py's own asynchronous
publishing leaves futures that never resolve when a server is killed, and awaiting every PubAck is ten times slower.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as ClientError

from .connection import Connection
from .errors import (
    ConnectionLostError,
    LinkError,
    NotConnectedError,
    PublishRefusedError,
    PublishTimeoutError,
)

# 1024 in flight reached the highest rate with nats-py (55k/s); 64 byte payloads then fill 200 kB of sockets.
WINDOW = 1024
# A full window of a Pi that flushes its SD card may take seconds; a leaf that was killed is noticed by the socket.
TIMEOUT_S = 10.0


class PubAck(NamedTuple):
    """The stream has the message."""

    stream: str
    stream_sequence: int
    duplicate: bool


# Of `json.loads` the part that reads: what it does around that takes as long again.
_decode = json.JSONDecoder().raw_decode

# Called once per message with its PubAck or its error.
Done = Callable[["PubAck | LinkError"], None]


@dataclass(slots=True)
class _InFlight:
    subject: str
    sent_at: float
    done: Done


class Publisher:
    """`send` returns at once; the outcome comes by callback, always, also when the connection or the server dies."""

    def __init__(self, connection: Connection, *, window: int = WINDOW, timeout_s: float = TIMEOUT_S) -> None:
        self.window = window
        self.timeout_s = timeout_s
        self._connection = connection
        self._time = asyncio.get_running_loop().time
        self._in_flight: dict[int, _InFlight] = {}
        self._counter = 0
        self._inbox = connection.client.new_inbox()
        self._subscription: Subscription | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None

    @property
    def in_flight(self) -> int:
        """Messages without an outcome yet."""
        return len(self._in_flight)

    @property
    def room(self) -> int:
        """Messages that `send` would accept now."""
        return self.window - len(self._in_flight) if self._connection.is_connected else 0

    async def start(self) -> None:
        """Subscribe the inbox. Needs a connection."""
        self._subscription = await self._connection.client.subscribe(f"{self._inbox}.*", cb=self._answered)
        self._unlisten = self._connection.listen(self._connection_changed)
        self._sweeper = self._connection.supervisor.keep("readings: answers", self._sweep, is_vital=True)

    async def stop(self) -> None:
        """Give up what is in flight (ConnectionLostError to each) and unsubscribe."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        self._abandon()
        if self._subscription is not None and self._connection.is_connected:
            try:
                await self._subscription.unsubscribe()
            except (ClientError, OSError):
                self._subscription = None  # the connection ended meanwhile, and the subscription with it

    async def send(self, subject: str, payload: bytes, headers: dict[str, str] | None, done: Done) -> None:
        """Publish one message; `done` is called later, from the event loop.

        NotConnectedError if there is no connection or no room (`done` is not called then). Suspends only while the
        socket's buffer is full.
        """
        if self.room < 1:
            raise NotConnectedError(f"publish to {subject}")
        self._counter += 1
        number = self._counter
        self._in_flight[number] = _InFlight(subject, self._time(), done)
        try:
            await self._connection.client.publish(subject, payload, reply=f"{self._inbox}.{number}", headers=headers)
        except (ClientError, OSError):
            # Part of it may have left already: the outcome is as unknown as after a lost connection.
            self._finish(number, ConnectionLostError(subject))

    async def _answered(self, message: Msg) -> None:
        try:
            number = int(message.subject.rpartition(".")[2])
        except ValueError:
            return  # not an answer to anything we sent
        pending = self._in_flight.get(number)
        if pending is None:
            return  # after its timeout
        self._finish(number, _parse(pending.subject, message))

    def _finish(self, number: int, outcome: PubAck | LinkError) -> None:
        pending = self._in_flight.pop(number, None)
        if pending is not None:
            pending.done(outcome)

    def _connection_changed(self, up: bool) -> None:
        if not up:
            self._abandon()

    def _abandon(self) -> None:
        for number in tuple(self._in_flight):
            self._finish(number, ConnectionLostError(self._in_flight[number].subject))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.timeout_s / 4)
            limit = self._time() - self.timeout_s
            for number, pending in tuple(self._in_flight.items()):
                if pending.sent_at > limit:
                    break  # in order of sending
                self._finish(number, PublishTimeoutError(pending.subject, self.timeout_s))


def _parse(subject: str, message: Msg) -> PubAck | LinkError:
    if message.headers and message.headers.get("Status") == "503":
        return PublishRefusedError(subject, 503, 0, "no stream takes this subject")
    try:
        # Of our own server, 20,000 a second: the only JSON of others that is not read by foreign_json.
        answer, _ = _decode(message.data.decode())
        if "error" in answer:
            problem = answer["error"]
            return PublishRefusedError(
                subject, problem.get("code", 0), problem.get("err_code", 0), problem.get("description", "")
            )
        return PubAck(answer["stream"], int(answer["seq"]), bool(answer.get("duplicate", False)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return PublishRefusedError(subject, 0, 0, "the answer is not a PubAck")
