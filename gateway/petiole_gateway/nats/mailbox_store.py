"""The mailboxes of a site in NATS: what the hub and local senders have queued, kept over restarts, ended for good.

Items come from two streams: the hub's `DOWN_<site>` and the leaf's `OUT`. Each has a record on the leaf, so that a site
whose link is down goes on after a restart. The hub's stream is read whenever the link may have come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as ClientError

from ..clock import wall_ms
from ..hub.mailbox import Mailbox
from ..hub.mailbox_item import Change, Item
from ..hub.mailbox_states import PENDING
from ..hub.ports import Busy, CommandError, Logger
from ..hub.unreadable import Unreadable
from .api import JetStreamApi, StoredMessage
from .connection import Connection
from .errors import ConfigError, LinkError, NotConnectedError
from .listing import read_stream
from .mailbox_desk import MailDesk, MailMetrics
from .mailbox_documents import RETRY_S, DocumentWriter
from .mailbox_errors import is_full
from .mailbox_events import EventPublisher
from .mailbox_feed import MailFeed
from .mailbox_items import HUB, LEAF, item_mail, new_id
from .mailbox_settlement import Settlement
from .mailbox_streams import ensure_leaf_mailbox
from .subjects import (
    DOCUMENT_STREAM,
    HUB_DOMAIN,
    LEAF_MAIL_STREAM,
    checked_token,
    document_subject,
    hub_notice_subject,
    leaf_notice_subject,
    mail_filter,
    mail_stream,
    site_inbox,
)
from .task_end import end_tasks

# Notices and the link's watchdog are quicker; this is for a notice that was lost on a link that stayed up. One small
# request: 2 MB a day.
CHECK_S = 60.0
# A link that is down is answered by the leaf itself, at once and for nothing.
AWAY_RETRY_S = 1.0
# After any failure, so that a hub that answers half of what it is asked is not asked all the time.
AWAY_PAUSE_S = 0.1


class MailboxStore:
    """Implements `hub.ports.Mail`. The connection's inboxes must be those of the site.

    `on_mail(device)` is called when something has come. `is_known(device)` says whether there is such a device: mail
    for others is dropped. Call `hub_link_changed` when the leaf's link to the hub goes up or down; without that the
    hub is asked every `check_s`.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        site: str,
        logger: Logger,
        with_hub: bool = True,
        is_known: Callable[[str], bool] = lambda device: True,
        on_mail: Callable[[str], None] = lambda device: None,
        wall: Callable[[], int] = wall_ms,
        mailbox: Mailbox | None = None,
        check_s: float = CHECK_S,
        unreadable: Unreadable | None = None,
    ) -> None:
        self.site = checked_token("site", site)
        if not connection.client.new_inbox().startswith(f"{site_inbox(site)}."):
            raise ConfigError("inbox_prefix", connection.client.new_inbox(), f"must be {site_inbox(site)}")
        self.mailbox = mailbox or Mailbox()
        self._connection = connection
        self._logger = logger
        self._wall = wall
        self._check_s = check_s
        self._leaf_wake = asyncio.Event()
        self._hub_wake = asyncio.Event()
        self._opened = asyncio.Event()
        self._is_loaded = False
        self._api = JetStreamApi(connection.client)
        hub_api = JetStreamApi(connection.client, domain=HUB_DOMAIN)
        self._records = DocumentWriter(connection, self._api, site=site, is_remote=False, on_failed=self._leaf_wake.set)
        self._hub_documents: DocumentWriter | None = None
        self._feeds = {LEAF: self._feed(LEAF, self._api, LEAF_MAIL_STREAM, "out", leaf_notice_subject(site))}
        if with_hub:
            self._feeds[HUB] = self._feed(HUB, hub_api, mail_stream(site), "down", hub_notice_subject(site))
            self._hub_documents = DocumentWriter(
                connection, hub_api, site=site, is_remote=True, on_failed=self._hub_failed
            )
        self._events = EventPublisher(connection, logger)
        self._desk = MailDesk(
            self.mailbox,
            site=site,
            records=self._records,
            hub_documents=self._hub_documents,
            events=self._events,
            logger=logger,
            wall=wall,
            is_known=is_known,
            on_mail=on_mail,
            look_again=self._look_again,
            unreadable=unreadable or Unreadable(logger),
        )
        self.settlement = self._desk.settlement = Settlement(
            connection,
            feeds=self._feeds,
            records=self._records,
            hub_documents=self._hub_documents,
            logger=logger,
            on_hub_failed=self._hub_failed,
            on_deleted=self._desk.deleted,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._unlisten: Callable[[], None] | None = None
        self._subscription: Subscription | None = None

    def _feed(self, origin: str, api: JetStreamApi, stream: str, purpose: str, notices: str) -> MailFeed:
        return MailFeed(
            self._connection,
            api,
            stream=stream,
            subjects=mail_filter(purpose, self.site),
            notices=notices,
            on_message=lambda message: self._guarded(lambda: self._desk.arrived(origin, message), message),
            on_gap=lambda: self._look_again(origin),
        )

    def _guarded(self, take: Callable[[], None], message: StoredMessage) -> None:
        """One message must not keep others from being read, whatever is wrong with it or with us."""
        try:
            take()
        except Exception as error:
            self._desk.unreadable.count("mail", message.subject, repr(error))
            self._connection.supervisor.failed("mail: one message", error)

    def _look_again(self, origin: str) -> None:
        (self._hub_wake if origin == HUB else self._leaf_wake).set()

    @property
    def metrics(self) -> MailMetrics:
        """Counters."""
        return self._desk.metrics

    @property
    def events_dropped_total(self) -> int:
        """Events that could not be published."""
        return self._events.dropped_total

    # For the hub -------------------------------------------------------------------------------------------

    def waiting(self, device: str) -> int:
        """How many items are still to be sent."""
        return self.mailbox.waiting(device)

    def take(self, device: str, room: int, size: Callable[[Item], int]) -> list[Item]:
        """What to send now. Each attempt is in the item's record: whoever sends it next, this gateway after a restart
        or another one, has to tell the handler that it may have been begun."""
        self._desk.apply(self.mailbox.expire(self._wall()))
        taken = self.mailbox.take(device, room, size)
        for item in taken:
            self._desk.record(Change(item, PENDING, self._wall()), is_first=False)
        return taken

    def result(self, device: str, number: int, status: int, value: object) -> bool:
        """How an item ended. False if there is no such item (any more)."""
        changes = self.mailbox.result(device, number, status, value, self._wall())
        self._desk.apply(changes)
        return bool(changes)

    def stopped(self, device: str, unsent: frozenset[int] = frozenset()) -> None:
        """The device listens no more."""
        self._desk.apply(self.mailbox.stopped(device, self._wall(), unsent))

    async def queue(
        self, device: str, command: str, arguments: object, *, expires_in_s: float, reply_to: str | None = None
    ) -> str:
        """Put an item into a box; its id."""
        id = new_id()
        try:
            mail = item_mail(
                "out",
                self.site,
                device,
                command,
                arguments,
                now=self._wall(),
                expires_in_s=expires_in_s,
                id=id,
                reply_to=reply_to,
            )
            await self._api.store(mail.subject, mail.payload, mail.headers)
        except ConfigError as error:
            raise CommandError(400, str(error)) from error
        except LinkError as error:
            if is_full(error):
                raise CommandError(429, f"the mailbox of {device} is full") from error
            raise Busy(str(error), RETRY_S) from error
        return id

    def hub_link_changed(self, up: bool) -> None:
        """The leaf's link to the hub is up, or down."""
        if not up and self._hub_documents is not None:
            self._hub_documents.is_open.clear()
        self._hub_wake.set()

    @property
    def is_hub_reached(self) -> bool:
        """The hub's box has been read since the link came up."""
        return self._hub_documents is not None and self._hub_documents.is_open.is_set()

    # Life --------------------------------------------------------------------------------------------------

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Load all boxes, and wait for no hub. NotConnectedError if the leaf does not answer within `timeout_s`."""
        for feed in self._feeds.values():
            await feed.start()
        records = document_subject(self.site, "*.*")
        self._subscription = await self._connection.client.subscribe(records, cb=self._record_written)
        self._unlisten = self._connection.listen(self._connection_changed)
        keep = self._connection.supervisor.keep
        self._tasks = [
            keep("mail: the leaf's boxes", self._follow_leaf, is_vital=True),
            keep("mail: records", self._records.run, is_vital=True),
            keep("mail: settlement", self.settlement.run, is_vital=True),
            keep("mail: events", self._events.run),
        ]
        if self._hub_documents is not None:
            self._tasks.append(keep("mail: the hub's box", self._follow_hub))
            self._tasks.append(keep("mail: documents for the hub", self._hub_documents.run))
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError as error:
            await self.stop()
            raise NotConnectedError(f"mailboxes of {self.site} did not open") from error

    async def stop(self) -> None:
        """End. What is not settled is settled by the next run."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        self._desk.timer.stop()
        await end_tasks(self._tasks)
        self._tasks.clear()
        for feed in self._feeds.values():
            await feed.stop()
        if self._subscription is not None and self._connection.is_connected:
            with contextlib.suppress(ClientError, OSError):
                await self._subscription.unsubscribe()

    async def _record_written(self, message: Msg) -> None:
        self._desk.record_written(message.subject.split(".", 3)[3], message.data)

    def _connection_changed(self, up: bool) -> None:
        if not up:
            self._records.is_open.clear()
        self._leaf_wake.set()
        self._hub_failed()

    def _hub_failed(self) -> None:
        if self._hub_documents is not None:
            self._hub_documents.is_open.clear()
        self._hub_wake.set()

    # The leaf ----------------------------------------------------------------------------------------------

    async def _follow_leaf(self) -> None:
        while True:
            await self._connection.wait_up()
            self._leaf_wake.clear()
            try:
                await self._read_leaf()
            except LinkError as error:
                self._logger.warning("mailbox_not_read", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            self._records.is_open.set()
            self._opened.set()
            self.settlement.wake()
            await self._leaf_wake.wait()

    async def _read_leaf(self) -> None:
        is_new = await ensure_leaf_mailbox(self._api, self.site)
        if not self._is_loaded:
            await self._load()
        elif is_new:  # a new disk under a running gateway
            self._desk.rewrite()
        await self._read(LEAF)
        self._desk.loaded()

    async def _load(self) -> None:
        client, subjects = self._connection.client, document_subject(self.site, ">")

        def load(message: StoredMessage) -> None:
            self._guarded(lambda: self._desk.load_record(message), message)

        await read_stream(client, self._api, DOCUMENT_STREAM, subjects, 1, load)
        self._is_loaded = True

    # The hub -----------------------------------------------------------------------------------------------

    async def _follow_hub(self) -> None:
        assert self._hub_documents is not None
        await self._opened.wait()
        is_open = self._hub_documents.is_open
        while True:
            self._hub_wake.clear()
            try:
                if not self._connection.is_connected:
                    raise NotConnectedError("leaf")
                await self._read(HUB)
                self.metrics.hub_reads_total += 1
                if not is_open.is_set():
                    self._logger.info("mailbox_hub_reached", items=len(self.mailbox))
                is_open.set()
                self.settlement.wake()
            except LinkError as error:
                if is_open.is_set():
                    self._logger.info("mailbox_hub_lost", error=str(error))
                is_open.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._check_s if is_open.is_set() else AWAY_RETRY_S):
                    await self._hub_wake.wait()
            if not is_open.is_set():
                await asyncio.sleep(AWAY_PAUSE_S)

    async def _read(self, origin: str) -> None:
        """Take what is new in a stream; end what was taken out of it by others."""
        cancels = self._desk.open_cancels
        feed, held = self._feeds[origin], self._desk.held[origin]
        listing = await feed.read()
        if len(held) != listing.messages and listing.start > 1:
            listing = await feed.read(whole=True)
        if listing.start == 1:
            for sequence in [each for each in held if each <= listing.last and each not in listing.read]:
                if not await feed.holds(sequence):
                    await self._desk.gone(feed.api, origin, sequence)
        if origin == HUB or HUB not in self._feeds:
            self._desk.drop_cancels(cancels)
