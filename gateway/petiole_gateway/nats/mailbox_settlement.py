"""What is done about an item that has ended, in this order, each step until it is known to have worked:

1. its record on the leaf says so: from here on a restart goes on with the next steps;
2. it is deleted where a local sender stored it;
3. the hub's document says so;
4. it is deleted from the hub's stream, which makes room in the device's box;
5. the record says that nothing is left to do, and stays a day for those who ask at the site; without a hub it stays as
   long as the hub's document would.
An item is always in its box or in a document, and is never sent again after step 1. The sender is told the result by a
message to the subject it gave: after step 1 if it is on the leaf, else after step 3, when there is a link.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nats.errors import Error as ClientError

from ..hub.ports import Logger
from .connection import Connection
from .errors import LinkError, NotConnectedError
from .mailbox_documents import RETRY_S, DocumentWriter
from .mailbox_feed import MailFeed
from .mailbox_items import HUB, LEAF
from .mailbox_streams import DOCUMENT_DAYS

# Of items whose end the hub has not been told: months of a busy site without a link. Each takes about a kB.
MAX_UNSETTLED = 20_000
AT_ONCE = 32
DOCUMENT_TTL_S = DOCUMENT_DAYS * 86_400
# On the leaf; a card is written once for it, as it was for removing the record.
SETTLED_TTL_S = 86_400


class Turns:
    """Ends by name, in the order in which their turn comes: those of items that were refused after all others, so that
    a flood of them keeps nobody from hearing of his own."""

    def __init__(self) -> None:
        self._groups: tuple[dict[str, Ended], dict[str, Ended]] = ({}, {})

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def __contains__(self, name: str) -> bool:
        return any(name in group for group in self._groups)

    def get(self, name: str) -> Ended | None:
        return next((group[name] for group in self._groups if name in group), None)

    def __iter__(self) -> Iterator[Ended]:
        return itertools.chain(*(group.values() for group in self._groups))

    def put(self, ended: Ended) -> None:
        """Its turn comes last of its kind; if it has one already, it keeps it."""
        self._groups[ended.is_refused][ended.name] = ended

    def pop(self, name: str) -> None:
        for group in self._groups:
            group.pop(name, None)

    def next(self) -> list[Ended]:
        """Whose turn it is."""
        return list(itertools.islice(self, AT_ONCE))

    @property
    def most_dispensable(self) -> Ended:
        """The oldest of those that were refused, or else of all."""
        group = self._groups[1] or self._groups[0]
        return next(iter(group.values()))


@dataclass(slots=True, eq=False)
class Ended:
    """An item that has ended. `name` is `<device>.<id>`, `told` its document, `kept` its record; `sources` may grow
    while it is here."""

    name: str
    told: bytes
    kept: bytes
    sources: list[tuple[str, int]]
    reply_to: str | None
    is_refused: bool = False  # it never was in the box: whoever floods it waits longer than others
    is_recorded: bool = False
    is_local_done: bool = False
    is_reported: bool = False

    @property
    def is_of_hub(self) -> bool:
        """Its sender is beyond the link."""
        return any(origin == HUB for origin, _ in self.sources)


class Settlement:
    """`add` what has ended. `feeds` by origin; without a hub there is only the leaf's. `hub_documents` is open while
    the hub answers; `on_hub_failed` is called when it did not; `on_deleted(origin, sequence)` for each message that
    is out of its stream."""

    def __init__(
        self,
        connection: Connection,
        *,
        feeds: dict[str, MailFeed],
        records: DocumentWriter,
        hub_documents: DocumentWriter | None,
        logger: Logger,
        on_hub_failed: Callable[[], None],
        on_deleted: Callable[[str, int], None],
    ) -> None:
        self.lost_reports_total = 0  # ends that the hub will never hear of
        self._connection = connection
        self._feeds = feeds
        self._records = records
        self._hub_documents = hub_documents
        self._logger = logger
        self._on_hub_failed = on_hub_failed
        self._on_deleted = on_deleted
        self._unsettled = Turns()
        self._local = Turns()  # steps 1 and 2
        self._far = Turns()  # steps 3 to 5
        self._removals: dict[tuple[str, int], None] = {}  # messages that are nothing but to be deleted
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._unsettled) + len(self._removals)

    def find(self, name: str) -> Ended | None:
        """An item that has ended and is not settled."""
        return self._unsettled.get(name)

    def add(self, ended: Ended) -> None:
        """Settle this item."""
        self._unsettled.put(ended)
        self._local.put(ended)
        if len(self._unsettled) > MAX_UNSETTLED:
            oldest = self._unsettled.most_dispensable
            self.lost_reports_total += 1
            device, _, id = oldest.name.partition(".")
            self._logger.warning("mailbox_report_lost", device=device, item=id)
            self._forget(oldest)
            if self._hub_documents is not None:
                self._hub_documents.withdraw(oldest.name)  # that it is pending is not true any more
        self._wanted.set()

    def also(self, ended: Ended, source: tuple[str, int]) -> None:
        """The same item has come over another way."""
        if source not in ended.sources:
            ended.sources.append(source)
        ended.is_local_done = False
        self._far.pop(ended.name)
        self._local.put(ended)
        self._wanted.set()

    def remove(self, source: tuple[str, int]) -> None:
        """Delete a message that is no item."""
        self._removals[source] = None
        self._wanted.set()

    def wake(self) -> None:
        """The leaf or the hub answers again."""
        self._wanted.set()

    async def run(self) -> None:
        """Settle until cancelled."""
        self._wanted.set()  # something may be left from a run that ended
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._settle_local()
                await self._settle_far()
                # In turns, so that an end that somebody waits for is told while others are still being recorded.
                if self._local or self._may_settle_far or any(origin == LEAF for origin, _ in self._removals):
                    self._wanted.set()
            except LinkError as error:
                self._logger.warning("mailbox_leaf_failed", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._wanted.set()

    async def _settle_local(self) -> None:
        batch = self._local.next()
        await _all(*(self._record(ended) for ended in batch))
        for ended in batch:
            if ended.is_local_done and self._local.get(ended.name) is ended:
                self._local.pop(ended.name)
                if ended.name in self._unsettled:
                    self._far.put(ended)
        here = itertools.islice((source for source in self._removals if source[0] == LEAF), AT_ONCE)
        await _all(*(self._delete(*source) for source in list(here)))

    async def _record(self, ended: Ended) -> None:
        if not ended.is_recorded:
            ttl_s = 0 if self._hub_documents else DOCUMENT_TTL_S
            await self._records.stored(ended.name, ended.kept, ttl_s)
            ended.is_recorded = True
        await _all(*(self._delete(*source) for source in list(ended.sources) if source[0] == LEAF))
        if not ended.is_of_hub:
            await self._report(ended)
        ended.is_local_done = True

    @property
    def _may_settle_far(self) -> bool:
        is_open = self._hub_documents is not None and self._hub_documents.is_open.is_set()
        return is_open and bool(self._far or self._removals)

    async def _settle_far(self) -> None:
        if self._hub_documents is None:
            while len(self._far):
                for ended in self._far.next():
                    self._forget(ended)
            return
        if not self._may_settle_far:
            return
        batch = self._far.next()
        for ended in batch:  # behind the others, should the hub refuse it
            self._far.pop(ended.name)
            self._far.put(ended)
        try:
            await _all(*(self._tell_hub(ended) for ended in batch))
            await _all(*(self._delete(*source) for source in list(self._removals)[:AT_ONCE]))
        except LinkError as error:
            self._logger.info("mailbox_hub_failed", error=str(error))
            self._on_hub_failed()

    async def _tell_hub(self, ended: Ended) -> None:
        assert self._hub_documents is not None
        stored = self._hub_documents.stored(ended.name, ended.told, DOCUMENT_TTL_S)
        try:
            await asyncio.wait_for(stored, self._feeds[HUB].api.timeout_s)
        except TimeoutError as error:
            raise NotConnectedError(f"document {ended.name}") from error
        await _all(*(self._delete(*source) for source in list(ended.sources) if source[0] == HUB))
        await self._report(ended)
        # The document names no sources: a restart has nothing to do for it.
        await self._records.stored(ended.name, ended.told, SETTLED_TTL_S)
        if ended.name in self._far:  # else it has come over another way meanwhile
            self._forget(ended)

    async def _report(self, ended: Ended) -> None:
        if ended.reply_to is None or ended.is_reported:
            return
        try:
            await self._connection.client.publish(ended.reply_to, ended.told)
        except (ClientError, OSError) as error:
            raise NotConnectedError(ended.reply_to) from error
        ended.is_reported = True

    async def _delete(self, origin: str, sequence: int) -> None:
        if origin in self._feeds:
            await self._feeds[origin].delete(sequence)
        self._removals.pop((origin, sequence), None)
        self._on_deleted(origin, sequence)

    def _forget(self, ended: Ended) -> None:
        for group in (self._unsettled, self._local, self._far):
            group.pop(ended.name)


async def _all(*steps: object) -> None:
    """Do all of it, then raise the first error."""
    outcomes = await asyncio.gather(*steps, return_exceptions=True)  # type: ignore[call-overload]
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
