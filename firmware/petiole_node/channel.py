"""What an application publishes with."""

from petiole.errors import LocalError
from petiole_node.commands import fits

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.items import Measured
    from petiole_node.node import Node


class Channel:
    """One stream of readings. Made by `Node.channel`."""

    def __init__(self, node: "Node", number: int, name: str, type: str) -> None:
        self.number = number
        self.name = name
        self._node = node
        self._type = type

    async def publish(self, value: object, confirmed: bool = True, wait: bool = True) -> "Pending | bool":
        """Publish a reading taken now.

        Confirmed: returns when it is on the gateway's disk, or in flash of a node that stores readings; with
        `wait=False` as soon as the outbox has it, and what is returned can be waited for later. A full outbox makes it
        wait for room; nothing is thrown away silently.
        Not confirmed: returns at once; False if it is lost already, because the node is offline or the link too slow.
        Raises LocalError for a value that does not fit the channel.
        """
        if not fits(value, self._type):
            raise LocalError(self.name, "its type is " + self._type + ", got " + repr(value)[:40])
        return await self._node._publish(self, value, confirmed, wait)


class Pending:
    """A confirmed reading on its way."""

    def __init__(self, node: "Node", item: "Measured") -> None:
        self._node = node
        self._item = item

    @property
    def is_durable(self) -> bool:
        return self._item.is_done

    @property
    def is_stored(self) -> bool:
        """Whether no reset can lose it any more: it is durable, or stored in the node."""
        return self._item.is_done or self._item.outcome == "stored"

    async def wait(self) -> None:
        """Return when the reading is on the gateway's disk, or stored in the node. Raises QueueFull if there is no
        room for it."""
        await self._node._durable(self._item)
