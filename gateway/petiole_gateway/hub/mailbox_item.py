"""One item of a mailbox, and what is said about it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

from . import mailbox_states as states

DEFAULT_PRIORITY = 5
HIGHEST_PRIORITY = 9


def item_number(id: str) -> int:
    """How an item is called towards the device: CRC-32 of its id, without the two bits that would make it a long
    integer on a board. So it is the same whoever sends the item again after whatever was lost, and a device that has
    executed it answers from memory."""
    return zlib.crc32(id.encode()) & 0x3FFFFFFF


@dataclass(slots=True, eq=False)
class Item:
    """A command that waits for a device. Times in ms since 1970.

    `arguments` is JSON text, unparsed: most items are looked at once. `sources` says where it is stored upstream, as
    (origin, sequence); more than one if it was sent over two ways. `sender` is the name under which it came, if any.
    `state` is changed by the mailbox only. `replaces`: ids of items whose place it took where it is stored.
    """

    id: str
    device: str
    command: str
    arguments: bytes
    expires_at: int
    queued_at: int
    sources: list[tuple[str, int]]
    priority: int = DEFAULT_PRIORITY
    key: str | None = None
    sender: str | None = None
    reply_to: str | None = None
    attempts: int = 0
    replaces: tuple[str, ...] = ()
    state: str = states.QUEUED
    # What becomes of a sent item if the device stops listening without an answer.
    doom: str | None = None
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = item_number(self.id)

    @property
    def group(self) -> tuple[str, str | None, bool]:
        """What may be of one sender, as far as anybody can tell: NATS names no senders. Where it was sent, the name in
        its subject, and whether it has a key."""
        return self.sources[0][0], self.sender, self.key is not None

    @property
    def is_final(self) -> bool:
        """Nothing happens to it any more."""
        return self.state in states.FINAL

    def comes_before(self, other: Item) -> bool:
        """Order of sending: priority, then the order in which they were queued. Sequences count where both are from one
        stream, because clocks of hub servers differ."""
        if self.priority != other.priority:
            return self.priority > other.priority
        return self.is_older(other)

    def is_older(self, other: Item) -> bool:
        """Queued before `other`."""
        (origin, sequence), (other_origin, other_sequence) = self.sources[0], other.sources[0]
        if origin == other_origin:
            return sequence < other_sequence
        return self.queued_at < other.queued_at


@dataclass(frozen=True, slots=True)
class Change:
    """An item has a new state that people are told of. `status` and `value` as in PROTOCOL.md, section 10, where the
    device or the gateway gave one; `reason` in words where the gateway decided."""

    item: Item
    state: str
    at: int
    status: int | None = None
    value: Any = None
    reason: str | None = None
