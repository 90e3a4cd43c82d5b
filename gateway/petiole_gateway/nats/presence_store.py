"""Which devices of a site are there, for any NATS client: the bucket `presence` on the leaf and on the hub, and events.

    KV bucket presence, key <site>.<device>      the newest document
    event.<site>.<device>.availability           a change, with what `was` before; core NATS

The way to the hub is a request with an answer, as for the mailbox: a source over the leaf's bucket, which begins anew
with every start of the leaf, would skip as much as it has seen before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from ..foreign_json import JsonError, parse_object
from ..hub.ports import Logger
from .api import JetStreamApi
from .connection import Connection
from .errors import LinkError
from .mailbox_documents import DocumentWriter
from .mailbox_events import EventPublisher
from .presence_streams import STREAM, ensure_leaf_presence
from .subjects import HUB_DOMAIN, PRESENCE_BUCKET, bucket_subject, checked_token, event_subject
from .task_end import end_tasks

RETRY_S = 0.25
# Of the hub, unless the link is said to be up earlier; what waits is one document per device.
AWAY_RETRY_S = 5.0
# How long whoever looks at the bucket can see that a device was removed.
DELETED_TTL_S = 86_400


class PresenceStore:
    """Implements `hub.ports.Presences`: nothing waits, a newer document of a device takes the place of the one that is
    not written yet. For answers of the hub the connection's inboxes must be those of the site."""

    def __init__(self, connection: Connection, *, site: str, logger: Logger, with_hub: bool = True) -> None:
        self.site = checked_token("site", site)
        self._connection = connection
        self._logger = logger
        self._api = JetStreamApi(connection.client)
        self._told: dict[str, bytes] = {}  # what the leaf's memory has to hold
        self._leaf_wake = asyncio.Event()
        self._hub_wake = asyncio.Event()
        self._leaf = self._writer(self._api, is_remote=False, on_failed=self._leaf_failed)
        self._hub: DocumentWriter | None = None
        if with_hub:
            hub_api = JetStreamApi(connection.client, domain=HUB_DOMAIN)
            self._hub = self._writer(hub_api, is_remote=True, on_failed=self._hub_failed)
        self._events = EventPublisher(connection, logger)
        self._tasks: list[asyncio.Task[None]] = []
        self._unlisten: Callable[[], None] | None = None

    def _writer(self, api: JetStreamApi, *, is_remote: bool, on_failed: Callable[[], None]) -> DocumentWriter:
        return DocumentWriter(
            self._connection, api, site=self.site, is_remote=is_remote, bucket=PRESENCE_BUCKET, on_failed=on_failed
        )

    @property
    def pending(self) -> int:
        """Documents that are not everywhere where they belong."""
        return max(self._leaf.pending, self._hub.pending if self._hub is not None else 0)

    @property
    def written_total(self) -> int:
        """Documents written to the leaf."""
        return self._leaf.written_total

    def start(self) -> None:
        """Write from now on, whenever that is possible."""
        self._unlisten = self._connection.listen(self._connection_changed)
        keep = self._connection.supervisor.keep
        self._tasks = [
            keep("presence: the leaf's bucket", self._keep_leaf),
            keep("presence: documents", self._leaf.run),
            keep("presence: events", self._events.run),
        ]
        if self._hub is not None:
            self._hub.is_open.set()
            self._tasks.append(keep("presence: the hub's bucket", self._keep_hub))
            self._tasks.append(keep("presence: documents for the hub", self._hub.run))

    async def stop(self) -> None:
        """Write nothing more. What was not written is told by the next run."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        await end_tasks(self._tasks)
        self._tasks.clear()

    def tell(self, device: str, document: dict[str, Any], was: str) -> None:
        """Write what is known of a device, and say what has changed."""
        payload = self._told[device] = _encoded(document)
        self._leaf.put(device, payload)
        if self._hub is not None:
            self._hub.put(device, payload)
        if document["state"] != was:
            self._events.put(event_subject(self.site, device, "availability"), _encoded({**document, "was": was}))

    async def read(self, device: str) -> dict[str, Any] | None:
        """What was told last of a device, by whichever gateway of the site has it; None if nothing is known."""
        try:
            found = await self._api.message_on(STREAM, bucket_subject(PRESENCE_BUCKET, self.site, device))
            return None if found is None or not found.payload else parse_object(found.payload)
        except (LinkError, JsonError):
            return None

    def forget(self, device: str) -> None:
        """There is no such device any more."""
        self._told.pop(device, None)
        self._leaf.delete(device, DELETED_TTL_S)
        if self._hub is not None:
            self._hub.delete(device, DELETED_TTL_S)

    def hub_link_changed(self, up: bool) -> None:
        """The leaf's link to the hub is up, or down."""
        if up:
            self._hub_wake.set()

    def _connection_changed(self, up: bool) -> None:
        if up:
            self._leaf_failed()
            self._hub_wake.set()

    def _leaf_failed(self) -> None:
        self._leaf.is_open.clear()
        self._leaf_wake.set()

    def _hub_failed(self) -> None:
        assert self._hub is not None
        self._hub.is_open.clear()

    async def _keep_leaf(self) -> None:
        """A leaf that was started again has no bucket any more."""
        self._leaf_wake.set()
        while True:
            await self._leaf_wake.wait()
            self._leaf_wake.clear()
            await self._connection.wait_up()
            try:
                is_empty = await ensure_leaf_presence(self._api)
            except LinkError as error:
                self._logger.warning("presence_retries", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._leaf_wake.set()
                continue
            if is_empty:
                for device, payload in self._told.items():
                    self._leaf.put(device, payload)
            self._leaf.is_open.set()

    async def _keep_hub(self) -> None:
        """A hub that has not answered is tried again when the link is up, and now and then."""
        assert self._hub is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AWAY_RETRY_S):
                    await self._hub_wake.wait()
            self._hub_wake.clear()
            self._hub.is_open.set()


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
