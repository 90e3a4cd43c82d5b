"""What the hub needs from outside. NATS, files and links implement these; the hub imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .mailbox_item import Item


class Busy(Exception):
    """Nothing was taken; ask again after `retry_after_s`."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class CommandError(Exception):
    """A request that got no result. `code` as in PROTOCOL.md, section 10."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Logger(Protocol):
    """The part of a structlog logger that is used."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Link(Protocol):
    """A carrier of frames. `peer` is what tells two senders on it apart; None where there is one.

    `absence`: why nothing can be sent for some time, "" as a rule.
    """

    name: str
    answers_addressed: bool  # downlinks carry the address if uplinks did

    @property
    def absence(self) -> str: ...

    def send(self, frame: bytes, peer: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node was last heard."""

    link: Link
    peer: object

    def send(self, frame: bytes) -> None:
        self.link.send(frame, self.peer)


class Uplinks(Protocol):
    """Where confirmed readings become durable, once and in order."""

    async def last_sequence(self, device: str) -> int: ...

    def submit(self, device: str, sequence: int, channel: str, payload: bytes) -> None:
        """Take one reading; Busy if it cannot. The hub is told by `Hub.durable`."""


class Requester(Protocol):
    """Requests of nodes to subjects, and readings that may be lost."""

    async def request(self, subject: str, arguments: object, timeout_s: float) -> object:
        """The answer, or CommandError."""

    def publish_live(self, device: str, channel: str, payload: bytes) -> None: ...


class Records(Protocol):
    """Durable documents by name, encrypted at rest.

    One that is there and cannot be read is not among `items`; `unreadable` says why, by name, as of the last `items`.
    `get` raises Busy for it.
    """

    @property
    def unreadable(self) -> Mapping[str, str]: ...

    async def items(self) -> dict[str, dict[str, Any]]: ...
    async def get(self, key: str) -> dict[str, Any] | None: ...
    async def put(self, key: str, document: dict[str, Any]) -> None: ...
    async def delete(self, key: str) -> None: ...


class Presences(Protocol):
    """Whoever wants to know which devices are there."""

    def tell(self, device: str, document: dict[str, Any], was: str) -> None:
        """The state of a device is not what it `was`; where it is, only what else the document says has changed."""

    def forget(self, device: str) -> None:
        """The device was removed."""


class Mail(Protocol):
    """The mailboxes of the site's devices. What comes is announced by a call with the device's name."""

    def waiting(self, device: str) -> int:
        """How many items are still to be sent."""

    def take(self, device: str, room: int, size: Callable[[Item], int]) -> list[Item]:
        """What to send now to a device that listens; each counts as an attempt."""

    def result(self, device: str, number: int, status: int, value: object) -> bool:
        """How an item ended, as the device says, or the gateway in its place. False if there is no such item."""

    def stopped(self, device: str, unsent: frozenset[int] = frozenset()) -> None:
        """The device listens no more; what it has not answered waits again."""

    async def queue(
        self, device: str, command: str, arguments: object, *, expires_in_s: float, reply_to: str | None = None
    ) -> str:
        """Put an item into a box; its id. CommandError 400 or 429, Busy."""
