"""Everything that is in a stream of mail and everything that comes, once there and at once.

Notices carry the items themselves, so an item is here as soon as the link has carried it. They are core NATS and may be
lost; every one tells the sequence before it, and whoever missed some reads the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as ClientError

from .api import JetStreamApi, StoredMessage, stored
from .connection import Connection
from .errors import ApiError
from .listing import read_stream


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
        message = stored(notice)
        if message is None:
            return
        if message.stream_sequence == self.cursor + 1:
            self.cursor += 1
        elif message.stream_sequence > self.cursor:
            self._on_gap()
        self._on_message(message)
