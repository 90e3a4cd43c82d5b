"""The node's queue of confirmed readings (PROTOCOL.md, section 9), in memory."""

from petiole.errors import QueueFull
from petiole.items import Measured


class Outbox:
    """Readings that the gateway has not made durable yet, in the order of their sequence numbers.

    Without `next_sequence` the node has no memory of its numbers; `rebase` sets them when a gateway has told where to
    continue.
    """

    is_exact = True
    is_numbered = True  # no reading is kept that waits for its number
    unused = 0  # numbers that were reserved and not given; see `resume`

    def __init__(self, limit: int = 64, next_sequence: int | None = None) -> None:
        self._limit = limit
        self.has_memory = next_sequence is not None
        self.next_sequence = next_sequence or 1
        self.items: list[Measured] = []

    def add(self, channel: int, taken: int, value: bytes) -> Measured:
        """Number a reading and keep it. Raises QueueFull."""
        if len(self.items) >= self._limit:
            raise QueueFull("outbox", "at most " + str(self._limit) + " readings")
        item = Measured(channel, self.next_sequence, taken, value)
        following = self.next_sequence + 1
        self.items.append(item)  # without memory nothing has happened until here
        self.next_sequence = following
        return item

    @property
    def oldest_sequence(self) -> int:
        """Of the oldest reading kept; of the next one if none is."""
        return self.next_sequence - len(self.items)

    @property
    def acked_sequence(self) -> int:
        """Everything up to it is durable."""
        return self.oldest_sequence - 1

    @property
    def is_empty(self) -> bool:
        """Whether the gateway has all readings on its disk."""
        return not self.items

    def rebase(self, sequence: int) -> None:
        """Number everything anew, from the number after `sequence`."""
        for item in self.items:
            sequence += 1
            item.sequence = sequence
        self.next_sequence = sequence + 1
        self.has_memory = True

    def resume(self, unused: int) -> None:
        """The node has slept, and so many of its reserved numbers were not given. Not asked where `is_exact`."""

    def trim(self, sequence: int) -> "list[Measured]":
        """Take out what is durable: every reading up to `sequence`. Numbers go on above it."""
        count = max(0, min(sequence + 1 - self.oldest_sequence, len(self.items)))
        trimmed, self.items = self.items[:count], self.items[count:]
        self.next_sequence = max(self.next_sequence, sequence + 1)
        return trimmed
