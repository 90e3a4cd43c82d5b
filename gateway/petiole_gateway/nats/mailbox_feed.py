"""Everything that is in a stream of mail and everything that comes, once there and at once.

Notices carry the items themselves, so an item is here as soon as the link has carried it. They are core NATS and may be
lost; every one tells the sequence before it, and whoever missed some reads the stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as ClientError

from .api import JetStreamApi, StoredMessage
from .connection import Connection
from .errors import ApiError, NotConnectedError

# One answer of the server: 256 items of 200 bytes are 50 kB, the server's own bound is a MB.
BATCH = 256


@dataclass(frozen=True, slots=True)
class Listing:
    """What a look at the stream has shown: all sequences from `start` on that were read, and what the leader said."""

    start: int
    read: frozenset[int]
    last: int
    messages: int


class MailFeed:
    """`on_message(message)` for each message of a stream, possibly more than once; `on_gap()` when some were missed:
    then `read` is due."""

    def __init__(
        self,
        connection: Connection,
        api: JetStreamApi,
        *,
        stream: str,
        subjects: str,
        notices: str,
        on_message: Callable[[StoredMessage], None],
        on_gap: Callable[[], None],
    ) -> None:
        self.api = api
        self.stream = stream
        self.cursor = 0  # everything up to here was seen
        self._connection = connection
        self._subjects = subjects
        self._notices = notices
        self._on_message = on_message
        self._on_gap = on_gap
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen to notices."""
        self._subscription = await self._connection.client.subscribe(f"{self._notices}.>", cb=self._noticed)

    async def stop(self) -> None:
        """Listen no more."""
        if self._subscription is not None and self._connection.is_connected:
            try:
                await self._subscription.unsubscribe()
            except (ClientError, OSError):
                self._subscription = None  # the connection ended meanwhile, and the subscription with it

    async def read(self, *, whole: bool = False) -> Listing:
        """Read what was not seen yet, or everything. ApiError 404 if there is no such stream, LinkError."""
        info = await self.api.stream_info(self.stream)
        if info is None:
            raise ApiError(self.stream, 404, 10059, "stream not found")
        last = int(info["state"]["last_seq"])
        # The numbers of a server that lost its disk may go back.
        start = 1 if whole or last < self.cursor else self.cursor + 1
        if last < self.cursor:
            self.cursor = 0
        read: set[int] = set()
        if start <= last:
            client = self._connection.client
            read = await read_stream(client, self.api, self.stream, self._subjects, start, self._on_message)
        self.cursor = max(self.cursor, last)
        return Listing(start, frozenset(read), last, int(info["state"]["messages"]))

    async def holds(self, sequence: int) -> bool:
        """Ask the stream's leader, who is never behind."""
        try:
            await self.api.request(f"STREAM.MSG.GET.{self.stream}", {"seq": sequence})
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def delete(self, sequence: int) -> None:
        """Take a message out of the stream; no error if it is not there. LinkError."""
        try:
            # Overwriting it on disk, the default, takes ten times as long.
            await self.api.request(f"STREAM.MSG.DELETE.{self.stream}", {"seq": sequence, "no_erase": True})
        except ApiError:
            # That it is not there has several codes, 500 among them.
            if await self.holds(sequence):
                raise

    async def _noticed(self, notice: Msg) -> None:
        message = _stored(notice)
        if message is None:
            return
        if message.stream_sequence == self.cursor + 1:
            self.cursor += 1
        elif message.stream_sequence > self.cursor:
            self._on_gap()
        self._on_message(message)


async def read_stream(
    client: Client, api: JetStreamApi, stream: str, subjects: str, start: int, take: Callable[[StoredMessage], None]
) -> set[int]:
    """`take` every message from `start` on whose subject matches; their sequences. Needs `allow_direct`. LinkError."""
    read: set[int] = set()
    inbox = client.new_inbox()
    call = f"{api.prefix}.DIRECT.GET.{stream}"
    try:
        subscription = await client.subscribe(inbox)
        try:
            is_more = True
            while is_more:
                body = {"seq": start, "batch": BATCH, "next_by_subj": subjects}
                await client.publish(call, json.dumps(body).encode(), reply=inbox)
                is_more = False
                while (status := (reply := await subscription.next_msg(api.timeout_s)).headers or {}).get(
                    "Status"
                ) is None:
                    message = _stored(reply)
                    if message is None:
                        raise ApiError(call, 500, 0, "an answer without a sequence")
                    is_more = status.get("Nats-Num-Pending") != "0"
                    start = message.stream_sequence + 1
                    read.add(message.stream_sequence)
                    take(message)
                if status["Status"] not in {"204", "404"}:
                    raise ApiError(call, int(status["Status"]), 0, status.get("Description", ""))
        finally:
            if client.is_connected:
                await subscription.unsubscribe()
    except (ClientError, OSError, TimeoutError) as error:
        raise NotConnectedError(f"{call} ({type(error).__name__})") from error
    return read


def _stored(message: Msg) -> StoredMessage | None:
    headers = dict(message.headers or {})
    try:
        return StoredMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, message.data)
    except (KeyError, ValueError):
        return None
