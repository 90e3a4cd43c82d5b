"""What arrives from the streams, and what becomes of it: in the mailbox, in records and documents, until its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..hub.mailbox import Mailbox
from ..hub.mailbox_item import Change, Item
from ..hub.mailbox_states import DROPPED, FINAL, PENDING
from ..hub.ports import Logger
from ..hub.unreadable import Unreadable
from .api import Document, JetStreamApi, StoredMessage
from .mailbox_documents import DocumentWriter
from .mailbox_events import EventPublisher
from .mailbox_items import (
    HUB,
    LEAF,
    Cancel,
    UnreadableError,
    attempts_of,
    document,
    encoded,
    milliseconds,
    parse_mail,
    parse_record,
    record,
    recorded_item,
    replaced_document,
    reply_to_of,
    sources_of,
)
from .mailbox_settlement import DOCUMENT_TTL_S, SETTLED_TTL_S, Ended, Settlement
from .mailbox_timer import DeadlineTimer
from .subjects import DOCUMENT_STREAM, document_subject, event_subject

# Cancels of items that are not here yet: every item of a site whose mail has not been read could be cancelled, and of
# more nobody has a list. Each takes 200 bytes.
MAX_CANCELS = 10_000
# Ends that a hub server which is behind may still show as waiting.
REMEMBERED_ENDS = 10_000


@dataclass(slots=True)
class MailMetrics:
    """Counters since the start."""

    arrived_total: int = 0
    unreadable_total: int = 0
    ended_total: int = 0
    ended: dict[str, int] = field(default_factory=dict)  # by final state
    cancels_dropped_total: int = 0  # of items that nobody knows
    hub_reads_total: int = 0


class MailDesk:
    """`arrived` for every message of the streams, `apply` for every change of the mailbox. `hub_documents` is None for
    a site without a hub; `look_again(origin)` is called when something points to messages that are not here yet."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        site: str,
        records: DocumentWriter,
        hub_documents: DocumentWriter | None,
        events: EventPublisher,
        logger: Logger,
        wall: Callable[[], int],
        is_known: Callable[[str], bool],
        on_mail: Callable[[str], None],
        look_again: Callable[[str], None],
        unreadable: Unreadable,
    ) -> None:
        self.mailbox = mailbox
        self.metrics = MailMetrics()
        self.unreadable = unreadable
        self.on_mail = on_mail
        self.settlement: Settlement  # needs us, and we need it
        # Messages of the streams that are known and not deleted: the item, None for anything else.
        self.held: dict[str, dict[int, Item | None]] = {LEAF: {}, HUB: {}}
        self.timer = DeadlineTimer(mailbox, wall, self.apply)
        self._site = site
        self._records = records
        self._hub_documents = hub_documents
        self._events = events
        self._logger = logger
        self._wall = wall
        self._is_known = is_known
        self._look_again = look_again
        self._damaged: set[str] = set()  # items whose records cannot be read, and may be written over
        self._ended: dict[tuple[str, int], None] = {}
        self._cancels: dict[str, list[tuple[str, int]]] = {}  # of items that are not here (yet), by name
        self._open_cancels = 0  # in all
        self._recorded_ends: dict[tuple[str, int], Ended] = {}  # while loading

    def load_record(self, message: StoredMessage) -> None:
        """What the leaf's bucket has kept of an earlier run. A record that cannot be read is passed over: its item is
        in its stream still, or has ended."""
        if not message.payload:
            return  # it was deleted
        name = message.subject.split(".", 3)[-1]
        try:
            kept = parse_record(name, message.payload)
            if kept["state"] in FINAL:
                if "sources" in kept:  # else it is settled
                    self._load_end(kept)
                return
            item = recorded_item(kept)
        except UnreadableError as error:
            self._damaged.add(name)
            self.unreadable.count("mail", name, str(error))
            return
        for origin, sequence in item.sources:
            self.held[origin][sequence] = item
        changes = self.mailbox.add(item, self._wall(), was_taken=True)
        self.apply([change for change in changes if change.state != PENDING])
        self._tell_replaced(item)

    def _load_end(self, kept: Document) -> None:
        told = {name: value for name, value in kept.items() if name not in {"sources", "reply_to"}}
        ended = Ended(
            f"{kept['device']}.{kept['id']}",
            encoded(told),
            encoded(kept),
            sources_of(kept),
            reply_to_of(kept),
            is_recorded=True,
        )
        if self._hub_documents is not None:
            for origin, sequence in ended.sources:
                self.held[origin][sequence] = None
            self.settlement.add(ended)
        else:
            # Nothing is left to do, unless what comes next shows that it is in the stream still.
            self._recorded_ends |= dict.fromkeys(ended.sources, ended)

    def record_written(self, name: str, payload: bytes) -> None:
        """A record was written, by us or by another gateway of the site: what has ended there has ended here, and what
        was sent there is sent again from here."""
        device, _, id = name.partition(".")
        item = self.mailbox.find(device, id)
        if item is None:
            return
        try:
            told = parse_record(name, payload)
            is_final, attempts = told["state"] in FINAL, attempts_of(told)
        except UnreadableError as error:
            self.unreadable.count("mail", name, str(error))
            return
        if not is_final:
            item.attempts = max(item.attempts, attempts)
        else:
            for origin, sequence in item.sources:
                self.held[origin][sequence] = None
            self.mailbox.forget(item)

    def loaded(self) -> None:
        """All records and the leaf's stream have been read."""
        self._recorded_ends.clear()
        self.timer.arm()

    def rewrite(self) -> None:
        """The records are gone: write them anew."""
        for item in list(self.mailbox):
            self.record(Change(item, PENDING, self._wall()))

    def arrived(self, origin: str, message: StoredMessage) -> None:
        """A message of a stream; it may have been here before."""
        source = (origin, message.stream_sequence)
        held = self.held[origin]
        if message.stream_sequence in held or source in self._ended:
            return
        ended = self._recorded_ends.get(source)
        held[message.stream_sequence] = None
        if ended is not None:
            self.settlement.add(ended)
            return
        try:
            queued_at = milliseconds(message.headers["Nats-Time-Stamp"])
            mail = parse_mail(source, message.subject, message.headers, message.payload, queued_at)
        except (UnreadableError, LookupError, ValueError) as error:
            self.metrics.unreadable_total += 1
            self._logger.warning("mail_unreadable", subject=message.subject[:200], reason=str(error))
            self.settlement.remove(source)
            return
        if isinstance(mail, Cancel):
            self._cancel(mail)
        else:
            self._take(mail)

    def _take(self, item: Item) -> None:
        self.metrics.arrived_total += 1
        source, name = item.sources[0], f"{item.device}.{item.id}"
        ended = self.settlement.find(name)
        if ended is not None:
            self.settlement.also(ended, source)
            return
        now = self._wall()
        if self._is_known(item.device):
            changes = self.mailbox.add(item, now)
        else:
            changes = [self.mailbox.refuse(item, f"there is no device {item.device}", now)]
        self.held[source[0]][source[1]] = self.mailbox.find(item.device, item.id) or item
        for cancelled_by in self._take_cancels(name):
            item.sources.append(cancelled_by)
            if not item.is_final:
                changes += self.mailbox.cancel(item.device, item.id, now) or []
        self.apply(changes)
        self._tell_replaced(item)

    def _tell_replaced(self, by: Item) -> None:
        """Say what became of the items in whose place it came, unless they were here: then that is told otherwise."""
        for id in by.replaces:
            name = f"{by.device}.{id}"
            if self.mailbox.find(by.device, id) is not None or self.settlement.find(name) is not None:
                continue
            told = encoded(replaced_document(by, id))
            ttl_s = DOCUMENT_TTL_S
            if self._hub_documents is not None:
                self._hub_documents.put(name, told, DOCUMENT_TTL_S, is_first=True)
                ttl_s = SETTLED_TTL_S
            first = self._records.stored(name, told, ttl_s, is_first=True)
            first.add_done_callback(partial(self._tell_first, by.device, told))

    def _tell_first(self, device: str, told: bytes, done: asyncio.Future[bool]) -> None:
        if not done.cancelled() and done.result():
            self._events.put(event_subject(self._site, device, "mailbox"), told)

    def _cancel(self, cancel: Cancel) -> None:
        name = f"{cancel.device}.{cancel.id}"
        item, ended = self.mailbox.find(cancel.device, cancel.id), self.settlement.find(name)
        if item is not None:
            # Deleted together with the item, so that it is not forgotten while the item is out with the device.
            item.sources.append(cancel.source)
            self.apply(self.mailbox.cancel(cancel.device, cancel.id, self._wall()) or [])
        elif ended is not None:
            self.settlement.also(ended, cancel.source)
        elif self._open_cancels >= MAX_CANCELS or not self._is_known(cancel.device):
            # There is no such item, as far as anybody knows.
            self.metrics.cancels_dropped_total += 1
            self.settlement.remove(cancel.source)
        else:
            self._cancels.setdefault(name, []).append(cancel.source)
            self._open_cancels += 1
            self._look_again(LEAF if self._hub_documents is None else HUB)

    def apply(self, changes: Sequence[Change]) -> None:
        """Keep and tell what has changed."""
        for change in changes:
            item = change.item
            if item.is_final:
                self.metrics.ended_total += 1
                self.metrics.ended[change.state] = self.metrics.ended.get(change.state, 0) + 1
                told, kept = encoded(document(change)), encoded(record(change))
                name = f"{item.device}.{item.id}"
                is_refused = change.state == DROPPED
                self.settlement.add(Ended(name, told, kept, item.sources, item.reply_to, is_refused=is_refused))
            else:
                self.record(change)
                self._tell_hub_of_pending(change)
            self._tell(change)
            if change.state == PENDING:
                self.on_mail(item.device)
        if changes:
            self.timer.arm()

    def record(self, change: Change, *, is_first: bool = True) -> None:
        """Write the item's record on the leaf; with `is_first`, unless it has one, from another gateway of the site."""
        name = f"{change.item.device}.{change.item.id}"
        if is_first and name in self._damaged:
            is_first = False
            self._damaged.discard(name)
        self._records.put(name, encoded(record(change)), is_first=is_first)

    def _tell_hub_of_pending(self, change: Change) -> None:
        if self._hub_documents is not None:
            ttl_s = max(0, change.item.expires_at - change.at) // 1000 + DOCUMENT_TTL_S
            name = f"{change.item.device}.{change.item.id}"
            self._hub_documents.put(name, encoded(document(change)), ttl_s, is_first=True)

    def deleted(self, origin: str, sequence: int) -> None:
        """A message is not in its stream any more, by our doing."""
        self.held[origin].pop(sequence, None)
        self._ended[origin, sequence] = None
        if len(self._ended) > REMEMBERED_ENDS:
            del self._ended[next(iter(self._ended))]

    @property
    def open_cancels(self) -> list[str]:
        """Items that somebody wants to be cancelled and that are not here."""
        return list(self._cancels)

    def drop_cancels(self, names: Sequence[str]) -> None:
        """Everything has been read: these have ended, or never were."""
        for name in names:
            for source in self._take_cancels(name):
                self.settlement.remove(source)

    def _take_cancels(self, name: str) -> list[tuple[str, int]]:
        sources = self._cancels.pop(name, [])
        self._open_cancels -= len(sources)
        return sources

    async def gone(self, hub_api: JetStreamApi, origin: str, sequence: int) -> None:
        """A message is not in its stream any more, and it was not us."""
        item = self.held[origin].pop(sequence, None)
        if item is None or item.is_final or (origin, sequence) not in item.sources:
            return
        if len(item.sources) > 1:
            item.sources.remove((origin, sequence))
            return
        if origin == HUB and await self._is_ended_at_hub(hub_api, item):
            # This leaf's disk has lost the end of it.
            self.mailbox.forget(item)
            await self._records.remove(f"{item.device}.{item.id}")
            return
        now = self._wall()
        self.apply(self.mailbox.cancel(item.device, item.id, now, "it was taken out of the box") or [])

    async def _is_ended_at_hub(self, hub_api: JetStreamApi, item: Item) -> bool:
        told = await hub_api.message_on(DOCUMENT_STREAM, document_subject(self._site, f"{item.device}.{item.id}"))
        try:
            name = f"{item.device}.{item.id}"
            return told is not None and parse_record(name, told.payload)["state"] in FINAL
        except UnreadableError:
            return False

    def _tell(self, change: Change) -> None:
        subject = event_subject(self._site, change.item.device, "mailbox")
        self._events.put(subject, encoded(document(change)))
