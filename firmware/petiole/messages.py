"""The messages of ours that the peer has not said it has taken (PROTOCOL.md, section 11)."""

from petiole import wire
from petiole.items import Message

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.items import Fragment, Item


class Messages:
    """At most MAX_REASSEMBLIES are open: the peer can put no more together."""

    def __init__(self) -> None:
        self.open: list[Message] = []
        self.next_number = 0

    @property
    def are_full(self) -> bool:
        """No other may be cut now."""
        return len(self.open) >= wire.MAX_REASSEMBLIES

    def cut(self, item: "Item", data: bytes) -> "list[Fragment]":
        """The parts of a new message."""
        message = Message(item, self.next_number, data)
        self.open.append(message)
        self.next_number = message.number + 1 & 255
        return message.parts

    def again(self, now: int) -> "list[Fragment]":
        """Parts to send again, because it was not said in time that their message is taken."""
        parts: list[Fragment] = []
        for message in self.open:
            if message.probe_at is not None and now >= message.probe_at:
                parts.extend(message.again())
        return parts

    def taken(self, number: int) -> "Item | None":
        """The peer has taken this one: its item, if it was open."""
        for message in self.open:
            if message.number == number:
                self.open.remove(message)
                for part in message.parts:
                    part.is_done = True
                return message.item
        return None

    def deadline(self) -> int | None:
        """When to look again."""
        times = [message.probe_at for message in self.open if message.probe_at is not None]
        return min(times) if times else None
