"""What tests of sleepy nodes on models of chips share: what `wake_app.py` has noted, and mail for it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from petiole import cbor, wire
from petiole.items import Encoded
from petiole.records import Record

from .chip_node import ChipNode
from .peer import Peer

APP = Path(__file__).parent / "wake_app.py"
CHIPS = ("esp32", "rp2")
LINKS = {"esp32": "udp", "rp2": "uart"}

Begin = Callable[..., Awaitable[ChipNode]]


def values(peer: Peer) -> list[int]:
    return [value for _, value, _ in peer.readings]


def taken(node: ChipNode) -> dict[int, tuple[bool, int]]:
    """Of each value whose `publish` returned: whether it was stored, and when it was taken."""
    path = node.folder / "taken.txt"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {int(value): (stored == "1", int(at)) for value, stored, at in rows}


def executed(node: ChipNode) -> list[str]:
    path = node.folder / "executed.txt"
    return path.read_text().splitlines() if path.exists() else []


def check(peer: Peer, node: ChipNode, within_ms: int = 1500) -> None:
    """Once, in order, with the time at which each was taken."""
    got = values(peer)
    assert got == sorted(set(got))
    known = taken(node)
    wrong = [(value, at - known[value][1]) for _, value, at in peer.readings if value in known]
    assert all(abs(error) <= within_ms for _, error in wrong), wrong


class Mail:
    """The mailbox of a gateway: what was sent to a node stays until it has said how it has ended.

    A node that joins has forgotten its session, and what is in the session with it, so it gets everything again, as a
    redelivery. `results`: in the order in which they came, repeated ones too.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.results: list[list[Any]] = []
        self._items: dict[int, tuple[int, list[Any], int]] = {}  # number of the command, arguments, attempts
        peer.on_record.append(self._take)
        peer.on_join.append(self._joined)

    def send(self, item: int, name: str, arguments: list[Any], attempt: int = 1) -> None:
        """Send it when the node is heard."""
        number = next(entry[0] for entry in self.peer.manifest["cmd"] if entry[1] == name)
        self._send(item, number, arguments, attempt)
        session = self.peer.session
        assert session is not None
        session.is_suspended = True

    def result(self, item: int) -> list[Any] | None:
        return next((result for result in self.results if result[0] == item), None)

    def _send(self, item: int, number: int, arguments: list[Any], attempt: int) -> None:
        self._items[item] = (number, arguments, attempt)
        record = [item, number, arguments] if attempt == 1 else [item, number, arguments, attempt]
        session = self.peer.session
        assert session is not None
        session.send(Encoded(bytes((wire.MAIL,)) + cbor.encode(record)))

    def _take(self, record: object) -> None:
        if isinstance(record, Record) and record.kind == wire.MAIL_RESULT:
            self.results.append(list(record.value))
            self._items.pop(record.value[0], None)

    def _joined(self) -> None:
        for item, (number, arguments, attempt) in sorted(self._items.items()):
            self._send(item, number, arguments, attempt + 1)
