"""Mail to devices, from any program in the cluster: on the hub, on the device's own leaf, or on another.

On the hub an item is stored in the site's stream there; on a leaf items for its own devices are stored beside the
gateway, with or without a link. Either way the PubAck says that it is kept until it is delivered or expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg

from ..clock import wall_ms
from ..foreign_json import JsonError, parse_object
from ..hub.mailbox_item import DEFAULT_PRIORITY, Item
from ..hub.mailbox_states import EXPIRED, FINAL, REPLACED
from .api import Document, JetStreamApi, StoredMessage
from .connection import Connection
from .errors import ApiError, LinkError, LocalError, NotConnectedError
from .listing import read_stream
from .mailbox_documents import EXPECTED_HEADER, WRONG_LAST_SEQUENCE
from .mailbox_errors import (
    MailboxFullError,
    NoLeaderError,
    SiteAwayError,
    UnconfirmedError,
    UnknownSiteError,
    is_full,
)
from .mailbox_items import (
    MAX_GRACE_S,
    Mail,
    UnreadableError,
    cancel_mail,
    item_mail,
    milliseconds,
    new_id,
    parse_mail,
    waiting_document,
)
from .subjects import (
    DOCUMENT_STREAM,
    HUB_DOMAIN,
    LEAF_MAIL_STREAM,
    checked_token,
    document_subject,
    mail_filter,
    mail_stream,
)

# Documents announce themselves where they are stored. This is for those that were not heard (a hub server may learn of
# a listener after the document has passed), and for leafs of other sites, which hear none. Doubled each time.
FIRST_POLL_S = 0.1
MAX_POLL_S = 2.0
# A stream whose leader is killed has another within 4 to 9 s (nats-server's election timeout), twice that on a hub that
# was started as a whole. Until then its senders are not sent away: the same id is never kept twice.
ACCEPT_S = 20.0
ACCEPT_RETRY_S = 0.25
# What a leader says to a message that it has in hand already: it waits for its majority.
IN_PROCESS_ERR_CODE = 10158
# Senders of one key at the same moment: each round one of them gets through.
MAX_KEY_ROUNDS = 32


# Of a record on the leaf: what only a gateway needs.
_OF_GATEWAYS = frozenset({"sources", "reply_to", "arguments", "replaces"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """An item is kept. `is_duplicate`: it was there already, under the same id."""

    site: str
    device: str
    id: str
    expires_at: int  # ms since 1970
    key: str | None
    stream: str
    sequence: int
    is_duplicate: bool


class MailboxClient:
    """Speaks to the server that `connection` is connected to. On a leaf the connection's inboxes must be the site's:
    `connect(…, inbox_prefix=site_inbox(site))`."""

    def __init__(self, connection: Connection, *, wall: Callable[[], int] = wall_ms) -> None:
        self._connection = connection
        self._client = connection.client
        self._wall = wall
        self._api = JetStreamApi(connection.client)
        self._hub_api = JetStreamApi(connection.client, domain=HUB_DOMAIN)

    @property
    def _is_at_hub(self) -> bool:
        return self._connection.domain == HUB_DOMAIN

    def _is_own_leaf(self, site: str) -> bool:
        return self._connection.domain == site

    def _may_read(self, site: str) -> bool:
        """The box in which items for this site are kept when they are sent from here."""
        return self._is_at_hub or self._is_own_leaf(site)

    async def send(
        self,
        site: str,
        device: str,
        command: str,
        arguments: Any = None,
        *,
        expires_in_s: float,
        id: str | None = None,
        key: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        reply_to: str | None = None,
        sender: str | None = None,
    ) -> Receipt:
        """Queue a command for a device. Sending again with the same id, after an error, is safe. A program with a name
        of its own (`sender`) has places of its own in the box.

        ConfigError for what can never be an item, UnknownSiteError, MailboxFullError, SiteAwayError, NoLeaderError;
        UnconfirmedError, other LinkErrors: it may have been queued.
        """
        now, item_id = self._wall(), id or new_id()

        def mail_in_place_of(replaces: Sequence[str]) -> Mail:
            return item_mail(
                self._purpose(site),
                site,
                device,
                command,
                arguments,
                now=now,
                expires_in_s=expires_in_s,
                id=item_id,
                key=key,
                priority=priority,
                reply_to=reply_to,
                sender=sender,
                replaces=replaces,
            )

        mail = mail_in_place_of(())
        if key is None or not self._may_read(site):
            answer = await self._store(site, device, mail)
        else:
            answer = await self._store_with_key(site, device, mail, mail_in_place_of)
        return Receipt(
            site,
            device,
            mail.headers["Nats-Msg-Id"],
            now + int(expires_in_s * 1000),
            key,
            str(answer["stream"]),
            int(answer["seq"]),
            bool(answer.get("duplicate", False)),
        )

    async def cancel(self, site: str, device: str, id: str) -> None:
        """Ask that an item is not delivered; `wait` tells whether it came in time. Errors as of `send`."""
        await self._store(site, device, cancel_mail(self._purpose(site), site, device, id))

    async def status(self, site: str, device: str, id: str) -> Document | None:
        """The newest document of an item, None if there is none (yet)."""
        subject = document_subject(site, f"{checked_token('device', device)}.{checked_token('id', id)}")
        newest: Document | None = None
        for api in self._document_apis(site):
            try:
                found = await api.message_on(DOCUMENT_STREAM, subject)
            except ApiError as error:
                if not error.retryable and error.code != 404:
                    raise
                continue  # the hub is away, or nothing was ever sent
            told = None if found is None else _document(found.payload)
            if told is not None and (newest is None or told["state"] in FINAL):
                newest = told
        return newest

    async def items(self, site: str, device: str) -> list[Document]:
        """What waits for a device and what became of earlier items, in the order in which they were queued. On a leaf,
        of the latter those of the last day."""
        checked_token("device", device)
        found: dict[str, Document] = {}

        def waits(message: StoredMessage) -> None:
            try:
                queued_at = milliseconds(message.headers["Nats-Time-Stamp"])
                item = parse_mail(("", 0), message.subject, message.headers, message.payload, queued_at)
            except (UnreadableError, KeyError, ValueError):
                return
            if isinstance(item, Item):
                found[item.id] = waiting_document(item)

        def told(message: StoredMessage) -> None:
            document = _document(message.payload)
            if document is not None:
                kept = {name: document[name] for name in document if name not in _OF_GATEWAYS}
                found[document["id"]] = kept

        for api, stream, purpose in self._boxes(site):
            await self._read(api, stream, mail_filter(purpose, site, device), waits, site)
        documents = JetStreamApi(self._client)
        await self._read(documents, DOCUMENT_STREAM, document_subject(site, f"{device}.>"), told, site)
        return sorted(found.values(), key=lambda document: str(document.get("queued_at") or document.get("at")))

    async def wait(self, receipt: Receipt, *, timeout_s: float) -> Document:
        """The document of the item's end. TimeoutError if it has not ended by then."""
        heard = asyncio.Event()

        async def hear(message: Msg) -> None:
            heard.set()

        subject = document_subject(receipt.site, f"{receipt.device}.{receipt.id}")
        subscription = await self._client.subscribe(subject, cb=hear)
        poll_s = FIRST_POLL_S
        try:
            async with asyncio.timeout(timeout_s):
                while (ended := await self._end(receipt)) is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(poll_s):
                            await heard.wait()
                    heard.clear()
                    poll_s = min(2 * poll_s, MAX_POLL_S)
                return ended
        finally:
            if self._connection.is_connected:
                await subscription.unsubscribe()

    async def _end(self, receipt: Receipt) -> Document | None:
        try:
            told = await self.status(receipt.site, receipt.device, receipt.id)
            if told is not None and told["state"] in FINAL:
                return told
            ended = {"id": receipt.id, "device": receipt.device, "expires_at": receipt.expires_at}
            if self._wall() > receipt.expires_at + MAX_GRACE_S * 1000:
                return {**ended, "state": EXPIRED, "reason": "no gateway has seen it in time"}
            if receipt.key is not None and await self._is_replaced(receipt):
                return {**ended, "state": REPLACED}
        except LinkError:
            return None  # asked again
        return None

    async def _is_replaced(self, receipt: Receipt) -> bool:
        """A newer item of its key is in the box: no gateway has seen this one, so none can say so."""
        if not self._may_read(receipt.site):
            return False
        subject = mail_filter(self._purpose(receipt.site), receipt.site, receipt.device).removesuffix(">")
        newest = await self._api.last_message(receipt.stream, f"{subject}k.{receipt.key}")
        return newest is not None and newest.stream_sequence > receipt.sequence

    # Where -------------------------------------------------------------------------------------------------

    def _purpose(self, site: str) -> str:
        return "out" if self._is_own_leaf(site) else "down"

    def _boxes(self, site: str) -> list[tuple[JetStreamApi, str, str]]:
        here = [(self._api, LEAF_MAIL_STREAM, "out")] if self._is_own_leaf(site) else []
        return [*here, (self._api if self._is_at_hub else self._hub_api, mail_stream(site), "down")]

    def _document_apis(self, site: str) -> list[JetStreamApi]:
        return [self._api] if self._is_at_hub else [self._api, self._hub_api]

    async def _store(self, site: str, device: str, mail: Mail) -> Document:
        """Its PubAck, however often that takes."""
        end = time.monotonic() + ACCEPT_S
        may_be_kept = False
        while True:
            try:
                return await self._store_once(site, device, mail)
            except (NoLeaderError, NotConnectedError, ApiError) as error:
                if isinstance(error, ApiError) and error.err_code != IN_PROCESS_ERR_CODE:
                    raise
                may_be_kept = may_be_kept or not isinstance(error, NoLeaderError)
                if not self._connection.is_connected:
                    raise
                if time.monotonic() >= end:
                    if may_be_kept and not self._is_own_leaf(site):
                        raise UnconfirmedError(site, device) from error
                    raise
                await asyncio.sleep(ACCEPT_RETRY_S)

    async def _store_with_key(
        self, site: str, device: str, mail: Mail, in_place_of: Callable[[Sequence[str]], Mail]
    ) -> Document:
        """The same of an item that takes the place of the one that is there, and says so: where no gateway has seen
        that one, nobody else could tell its sender."""
        stream = LEAF_MAIL_STREAM if self._is_own_leaf(site) else mail_stream(site)
        for _ in range(MAX_KEY_ROUNDS):
            there = await self._newest(stream, mail.subject)
            mail = in_place_of(await self._ids_in_place(site, device, there))
            mail.headers[EXPECTED_HEADER] = str(0 if there is None else there.stream_sequence)
            try:
                return await self._store(site, device, mail)
            except ApiError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
        del mail.headers[EXPECTED_HEADER]
        return await self._store(site, device, mail)

    async def _newest(self, stream: str, subject: str) -> StoredMessage | None:
        try:
            return await self._api.last_message(stream, subject)
        except LinkError:
            return None  # what is wrong is said when it is stored

    async def _ids_in_place(self, site: str, device: str, there: StoredMessage | None) -> list[str]:
        """The item that is there; and those before it, if no gateway can have told of them."""
        try:
            item = None if there is None else parse_mail(("", 0), there.subject, there.headers, there.payload, 0)
        except UnreadableError:
            return []
        if not isinstance(item, Item):
            return []
        is_seen = await self.status(site, device, item.id) is not None
        return [item.id] if is_seen else [item.id, *item.replaces]

    async def _store_once(self, site: str, device: str, mail: Mail) -> Document:
        if not self._connection.is_connected:
            raise NotConnectedError(mail.subject)
        try:
            return await self._api.publish(mail.subject, mail.payload, mail.headers)
        except ApiError as error:
            if is_full(error):
                raise MailboxFullError(site, device, error.description) from error
            if error.code == 503 and error.err_code == 0:
                raise await self._nobody(site) from error
            raise

    async def _nobody(self, site: str) -> LinkError | LocalError:
        """Why no stream takes the subject."""
        if self._is_at_hub:
            try:
                if await self._api.stream_info(mail_stream(site)) is not None:
                    return NoLeaderError(site)
            except LinkError:
                return NoLeaderError(site)
            return UnknownSiteError(site, "the hub")
        if self._is_own_leaf(site):
            return UnknownSiteError(site, "this leaf: no gateway has run here yet")
        # What a leaf may not publish and what nobody takes look the same from here; its own stream tells the link.
        try:
            await self._hub_api.stream_info(mail_stream(str(self._connection.domain)))
        except LinkError:
            return SiteAwayError(site)
        return UnknownSiteError(site, "the hub, or this site may not send to it")

    async def _read(
        self, api: JetStreamApi, stream: str, subjects: str, take: Callable[[StoredMessage], None], site: str
    ) -> None:
        try:
            await read_stream(self._client, api, stream, subjects, 1, take)
        except ApiError as error:
            if error.code not in {404, 503}:
                raise
            if self._is_at_hub and await api.stream_info(mail_stream(site)) is None:
                raise UnknownSiteError(site, "the hub") from error


def _document(payload: bytes) -> Document | None:
    try:
        document = parse_object(payload)
    except JsonError:
        return None
    return document if isinstance(document.get("state"), str) and isinstance(document.get("id"), str) else None
