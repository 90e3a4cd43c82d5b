"""Documents on their way into a bucket: the newest of each name, until it is stored.

The leaf's bucket is what a gateway goes on with after a restart; the hub's is what people ask. The way to the hub is a
request with an answer and not a source: a source counts what it takes, and skips as much as a new SD card has lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nats.errors import Error as ClientError

from .api import JetStreamApi
from .connection import Connection
from .errors import ApiError, LinkError, NotConnectedError
from .mailbox_items import TTL_HEADER
from .subjects import bucket_stream, bucket_subject

# At 100 ms round trip 640 a second over the link, and 64 kB in flight.
AT_ONCE = 64
RETRY_S = 0.5
EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence"
# Errors of the server: there is another message; another is being stored at this moment.
WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
# As KV clients delete a key: whoever watches the bucket sees it.
DELETED = {"KV-Operation": "DEL"}


@dataclass(slots=True)
class _Entry:
    payload: bytes
    headers: dict[str, str] | None
    waiting: list[asyncio.Future[bool]] = field(default_factory=list)


class DocumentWriter:
    """`put` returns at once; of a document that is put again the newest is stored. `stored` is for whoever waits.

    Nothing is written while `is_open` is not set; `on_failed` is called when a write was not acknowledged.
    """

    def __init__(
        self,
        connection: Connection,
        api: JetStreamApi,
        *,
        site: str,
        is_remote: bool,
        bucket: str = "mailbox",
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_open = asyncio.Event()
        self.written_total = 0
        self.refused_total = 0  # the server will never take these
        self._connection = connection
        self._api = api
        self._site = site
        self._bucket = bucket
        # Buckets of another domain are reached through its API's prefix.
        self._prefix = f"{api.prefix}." if is_remote else ""
        self._on_failed = on_failed
        self._entries: dict[str, _Entry] = {}
        self._wanted = asyncio.Event()

    @property
    def pending(self) -> int:
        """Documents that are not stored yet."""
        return len(self._entries)

    def put(self, name: str, payload: bytes, ttl_s: int = 0, *, is_first: bool = False) -> None:
        """Store a document as `<device>.<id>`; with `ttl_s` it goes away by itself. `is_first`: unless there is one
        already; of two gateways of a site the slower must not write over what the other has told since."""
        headers = {TTL_HEADER: str(ttl_s)} if ttl_s else {}
        if is_first:
            headers[EXPECTED_HEADER] = "0"
        self._put(name, payload, headers or None)

    def stored(self, name: str, payload: bytes, ttl_s: int = 0, *, is_first: bool = False) -> asyncio.Future[bool]:
        """The same; done when this document, or a newer one, is stored: true, or false if it was to be the first and
        there is one. Whoever does not wait any more cancels it."""
        self.put(name, payload, ttl_s, is_first=is_first)
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._entries[name].waiting.append(stored)
        return stored

    def delete(self, name: str, ttl_s: int) -> None:
        """Store instead of a document that there is none; that, too, goes away by itself."""
        self._put(name, b"", {**DELETED, TTL_HEADER: str(ttl_s)})

    def withdraw(self, name: str) -> None:
        """Do not store what waits under this name, unless somebody waits for that."""
        if name in self._entries and all(waiting.done() for waiting in self._entries[name].waiting):
            del self._entries[name]

    def _put(self, name: str, payload: bytes, headers: dict[str, str] | None) -> None:
        waiting = self._entries.pop(name).waiting if name in self._entries else []
        self._entries[name] = _Entry(payload, headers, [each for each in waiting if not each.done()])
        self._wanted.set()

    async def remove(self, name: str) -> None:
        """Take a document out of the bucket. LinkError."""
        await self._api.request(f"STREAM.PURGE.{bucket_stream(self._bucket)}", {"filter": self._subject(name)})

    def _subject(self, name: str) -> str:
        return bucket_subject(self._bucket, self._site, name)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wanted.wait()
            await self.is_open.wait()
            # A document stays an entry while it is written, so a newer one waits for its turn.
            batch = [(name, self._entries[name]) for name in list(self._entries)[:AT_ONCE]]
            if not batch:
                self._wanted.clear()
                continue
            stored = await asyncio.gather(*(self._write(name, entry) for name, entry in batch))
            for (name, entry), is_ours in zip(batch, stored, strict=True):
                if is_ours is not None:
                    self._finish(name, entry, is_ours=is_ours)
            if None in stored:
                self._on_failed()
                await asyncio.sleep(RETRY_S)

    def _finish(self, name: str, entry: _Entry, *, is_ours: bool) -> None:
        self.written_total += 1
        if self._entries.get(name) is entry:
            del self._entries[name]
            for waiting in entry.waiting:
                if not waiting.done():
                    waiting.set_result(is_ours)

    async def _write(self, name: str, entry: _Entry) -> bool | None:
        """As `put` says; None if it is to be tried again."""
        try:
            if not self._connection.is_connected:
                raise NotConnectedError(name)
            await self._api.store(self._prefix + self._subject(name), entry.payload, entry.headers)
        except ApiError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                return False
            self.refused_total += not error.retryable
            return None if error.retryable else True
        except (LinkError, ClientError, OSError):
            return None
        return True
