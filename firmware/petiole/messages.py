"""The messages of ours that the peer has not said it has taken (PROTOCOL.md, section 11)."""

from petiole import wire
from petiole.items import Message

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.items import Fragment


class Messages:
    """At most MAX_REASSEMBLIES are open: the peer can put no more together."""

    def __init__(self) -> None:
        self.open: list[Message] = []
        self.next_number = 0

    @property
    def are_full(self) -> bool:
        """No other may be cut now."""
        return len(self.open) >= wire.MAX_REASSEMBLIES

    def add(self, message: Message) -> None:
        """A message with the number `next_number` is open."""
        following = message.number + 1 & 255
        self.open.append(message)
        self.next_number = following

    def again(self, now: int) -> "list[Fragment]":
        """Parts to send again, because it was not said in time that their message is taken; until `retry`."""
        parts: list[Fragment] = []
        for message in self.open:
            if message.is_due(now):
                parts.extend(message.again())
        return parts

    def retry(self, now: int) -> None:
        """What `again` gave is queued."""
        for message in self.open:
            if message.is_due(now):
                message.retry()

    def find(self, number: int) -> "Message | None":
        """The open message with this number."""
        for message in self.open:
            if message.number == number:
                return message
        return None

    def close(self, message: Message) -> None:
        """The peer has taken it."""
        for part in message.parts:
            part.is_done = True
        self.open.remove(message)

    def deadline(self) -> int | None:
        """When to look again."""
        times = [message.probe_at for message in self.open if message.probe_at is not None]
        return min(times) if times else None
