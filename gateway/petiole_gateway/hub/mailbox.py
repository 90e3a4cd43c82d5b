"""The mailboxes of all devices of a site: what waits, in which order, and what became of it. No clock, no I/O.

Methods that change something return the changes; the caller stores and tells them. `now` is ms since 1970, because
deadlines have to mean the same on the sender's machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from . import mailbox_states as states
from .mailbox_item import Change, Item

# Streams refuse beyond 32 on a subject, so four that are full: without a key from the hub, from the site, and two named
# senders. An item is looked for in its box, so this is also what a look costs.
MAX_PER_DEVICE = 128
# Of all devices together: 10,000 devices with ten each; some 80 MB.
MAX_ITEMS = 100_000
# A handler that crashes the device at every attempt is left alone after these.
MAX_ATTEMPTS = 5
# Half of what a device remembers of finished items, so that it recognises everything it is sent again.
MAX_SENT = 8
GIVEN_UP = 508
_SPARE_DEADLINES = 64


class Mailbox:
    """Boxes by device name. Bounded by `max_items` in all, whatever is added.

    Of one box a group of items that may be of one sender (`Item.group`) takes at most as many places as it leaves free:
    half if it is alone, and whoever comes with a first item finds a place until all are taken.
    """

    def __init__(
        self,
        *,
        max_per_device: int = MAX_PER_DEVICE,
        max_items: int = MAX_ITEMS,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self.late_results_total = 0  # answers to items that are final already, or of another life
        self._boxes: dict[str, list[Item]] = {}  # never empty; in the order of sending
        self._count = 0
        self._max_per_device = max_per_device
        self._max_items = max_items
        self._max_attempts = max_attempts
        self._deadlines: list[tuple[int, int, Item]] = []  # heap; those of items that have left are skipped
        self._deadline_count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        """All items that are not final."""
        for box in self._boxes.values():
            yield from box

    @property
    def devices(self) -> list[str]:
        """Those with mail."""
        return list(self._boxes)

    def items(self, device: str) -> list[Item]:
        """What a box holds, in the order of sending."""
        return list(self._boxes.get(device, ()))

    def find(self, device: str, id: str) -> Item | None:
        """The item, unless it is final or was never here."""
        return next((item for item in self._boxes.get(device, ()) if item.id == id), None)

    def waiting(self, device: str) -> int:
        """How many items are still to be sent."""
        return sum(item.state == states.PENDING for item in self._boxes.get(device, ()))

    # In ----------------------------------------------------------------------------------------------------

    def add(self, item: Item, now: int, *, was_taken: bool = False) -> list[Change]:
        """Take an item. One that is here already is not taken twice: the box's own then knows both sources. One that
        `was_taken` in an earlier run has a place, whatever came before it in this one."""
        box = self._boxes.get(item.device, [])
        known = next((other for other in box if other.id == item.id), None)
        if known is not None:
            known.sources += [source for source in item.sources if source not in known.sources]
            return []
        if item.expires_at <= now:
            return [self._end(item, states.EXPIRE, now)]
        if any(other.number == item.number for other in box):
            return [self._end(item, states.REFUSE, now, reason="the device could not tell it from another item")]
        same_key = [other for other in box if item.key is not None and other.key == item.key]
        if any(item.is_older(other) for other in same_key):
            return [self._end(item, states.REPLACE, now)]
        changes = [change for other in same_key for change in self._leave(other, states.REPLACE, now)]
        # The box is another list now if that was all it held.
        box = self._boxes.get(item.device, [])
        free = max(0, self._max_per_device - len(box))
        same = sum(other.group == item.group for other in box)
        if (not free or (same >= free and not same_key)) and not was_taken:  # what replaces another takes its place
            room = f"{free} places are kept for others" if free else "the box is full"
            reason = f"{same} of its sender wait already, and {room}"
            return [*changes, self._end(item, states.REFUSE, now, reason=reason)]
        if self._count >= self._max_items and not was_taken:
            return [*changes, self._end(item, states.REFUSE, now, reason=f"{self._count} items wait at the site")]
        item.state = states.following(item.state, states.ARRIVE)
        position = next((index for index, other in enumerate(box) if item.comes_before(other)), len(box))
        box.insert(position, item)
        self._boxes[item.device] = box
        self._count += 1
        self._remember_deadline(item)
        return [*changes, Change(item, states.PENDING, now)]

    def refuse(self, item: Item, reason: str, now: int) -> Change:
        """An item that cannot be taken."""
        return self._end(item, states.REFUSE, now, reason=reason)

    def forget(self, item: Item) -> None:
        """Take an item out without a word: its end was told by somebody else."""
        self._remove(item)

    # Out ---------------------------------------------------------------------------------------------------

    def take(self, device: str, room: int, size: Callable[[Item], int]) -> list[Item]:
        """What to send now, in `room` bytes; `size` says what an item needs. Each counts as one attempt.

        One item of a key is out at a time. What does not fit holds back what comes after it, so order is kept.
        """
        box = self._boxes.get(device, ())
        out = sum(item.state == states.SENT for item in box)
        busy = {item.key for item in box if item.state == states.SENT and item.key is not None}
        taken: list[Item] = []
        for item in box:
            if item.state != states.PENDING or item.key in busy:
                continue
            needed = size(item)
            if needed > room or out >= MAX_SENT:
                break
            room -= needed
            out += 1
            item.state = states.following(item.state, states.SEND)
            item.attempts += 1
            if item.key is not None:
                busy.add(item.key)
            taken.append(item)
        return taken

    def result(self, device: str, number: int, status: int, value: Any, now: int) -> list[Change]:
        """A device, or the gateway in its place, says how an item ended. Of an item that is not here: nothing."""
        item = next((item for item in self._boxes.get(device, ()) if item.number == number), None)
        if item is None:
            self.late_results_total += 1
            return []
        self._remove(item)
        return [self._end(item, states.ERROR if status else states.DONE, now, status=status, value=value)]

    def stopped(self, device: str, now: int, unsent: frozenset[int] = frozenset()) -> list[Change]:
        """The device does not listen any more: what it has not answered waits again. `unsent` are numbers of items that
        never left, which were no attempt."""
        changes: list[Change] = []
        for item in self.items(device):
            if item.state != states.SENT:
                continue
            item.state = states.following(item.state, states.STOP)
            if item.number in unsent:
                item.attempts -= 1
            doom, item.doom = item.doom, None
            if doom is not None:
                changes += self._leave(item, doom, now)
            elif item.attempts >= self._max_attempts:
                self._remove(item)
                text = f"no answer to {item.attempts} attempts"
                changes.append(self._end(item, states.GIVE_UP, now, status=GIVEN_UP, value=text))
        return changes

    def cancel(self, device: str, id: str, now: int, reason: str | None = None) -> list[Change] | None:
        """End an item; one that is out ends when the device stops listening without an answer. None if there is no
        such item."""
        item = self.find(device, id)
        return None if item is None else self._leave(item, states.CANCEL, now, reason)

    # Time --------------------------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> int | None:
        """When `expire` has something to do, at the earliest."""
        while self._deadlines and not self._has(self._deadlines[0][2]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: int) -> list[Change]:
        """End what is past its deadline."""
        changes: list[Change] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            item = heapq.heappop(self._deadlines)[2]
            if self._has(item):
                changes += self._leave(item, states.EXPIRE, now)
        return changes

    def _remember_deadline(self, item: Item) -> None:
        if len(self._deadlines) > 2 * self._count + _SPARE_DEADLINES:
            # Items that ended long before their deadlines would stay here for up to a month.
            self._deadlines = [entry for entry in self._deadlines if self._has(entry[2])]
            heapq.heapify(self._deadlines)
        self._deadline_count += 1  # items of the same deadline are not compared
        heapq.heappush(self._deadlines, (item.expires_at, self._deadline_count, item))

    # One item ----------------------------------------------------------------------------------------------

    def _leave(self, item: Item, event: str, now: int, reason: str | None = None) -> list[Change]:
        """Expire, replace or cancel an item of a box; later if the device may be at it."""
        if item.state == states.SENT and event in states.AFTER_STOP:
            item.doom = item.doom or event
            return []
        self._remove(item)
        return [self._end(item, event, now, reason=reason)]

    def _end(
        self,
        item: Item,
        event: str,
        now: int,
        *,
        status: int | None = None,
        value: Any = None,
        reason: str | None = None,
    ) -> Change:
        item.state = states.following(item.state, event)
        return Change(item, item.state, now, status, value, reason)

    def _has(self, item: Item) -> bool:
        return any(other is item for other in self._boxes.get(item.device, ()))

    def _remove(self, item: Item) -> None:
        box = self._boxes.get(item.device, [])
        if item in box:
            box.remove(item)
            self._count -= 1
            if not box:
                del self._boxes[item.device]
