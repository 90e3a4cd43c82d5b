"""Nodes that sleep, and mailboxes in memory, for tests in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from petiole import manifest
from petiole_gateway.hub.mailbox import Mailbox
from petiole_gateway.hub.mailbox_item import Change, Item

from .memory import WALL, MemoryLink, MemoryNode, Site, key_of, until
from .virtual_time import now_ms

PERIOD_S = 600
SLEEPY = manifest.encode(
    "1.2.3",
    [[0, "temperature", "Cel", "f", 60]],
    [[0, "led", [["on", "b", True]]], [1, "text", [["text", "s", False]]]],
    [1, PERIOD_S],
)


class MemoryMail:
    """Implements `hub.ports.Mail` with a mailbox alone."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        self.changes: list[Change] = []
        self._count = 0

    def put(self, device: str, command: str, arguments: bytes = b"", **options: Any) -> Item:
        self._count += 1
        now = WALL + now_ms()
        fields: dict[str, Any] = {"expires_at": now + 86_400_000} | options
        item = Item(
            f"item-{self._count}", device, command, arguments, queued_at=now, sources=[("hub", self._count)], **fields
        )
        self.changes += self.mailbox.add(item, now)
        return item

    def waiting(self, device: str) -> int:
        return self.mailbox.waiting(device)

    def take(self, device: str, room: int, size: Callable[[Item], int]) -> list[Item]:
        self.changes += self.mailbox.expire(WALL + now_ms())
        return self.mailbox.take(device, room, size)

    def result(self, device: str, number: int, status: int, value: object) -> bool:
        changes = self.mailbox.result(device, number, status, value, WALL + now_ms())
        self.changes += changes
        return bool(changes)

    def stopped(self, device: str, unsent: frozenset[int] = frozenset()) -> None:
        self.changes += self.mailbox.stopped(device, WALL + now_ms(), unsent)

    async def queue(
        self, device: str, command: str, arguments: object, *, expires_in_s: float, reply_to: str | None = None
    ) -> str:
        raise NotImplementedError

    def ends(self, item: Item) -> list[tuple[str, int | None, Any]]:
        """The final states of an item: (state, status, value)."""
        return [(c.state, c.status, c.value) for c in self.changes if c.item is item and c.state != "pending"]


class SlowLink(MemoryLink):
    """Downlink frames arrive one after the other, `pace_s` apart."""

    pace_s = 0.1

    def __init__(self) -> None:
        super().__init__()
        self._free_at = 0.0

    def send(self, frame: bytes, peer: object) -> None:
        self.sent.append(frame)
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + self.pace_s
        loop.call_at(self._free_at, self._deliver, frame, peer)


class Sleeper(MemoryNode):
    """A node that sleeps when it is settled. `awake_ms`: its budget. What comes by mail is in `mailed`."""

    awake_ms = 5000
    answers = True
    is_asleep = False
    stays_until = 0  # as it was asked
    period_s = PERIOD_S

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.mailed: list[tuple[int, int, Any, bool]] = []
        self.wakes = 0
        self.frames_up: list[int] = []  # bytes, of this wake
        super().__init__(*arguments, described=SLEEPY, **options)

    def receive(self, frame: bytes) -> None:
        if self.is_asleep or not self._is_on:
            return
        before = len(self.events)
        super().receive(frame)
        for event in self.events[before:]:
            if event[0] == "mail":
                _, item, number, arguments, again = event
                self.mailed.append((item, number, arguments, again))  # type: ignore[arg-type]
                if self.answers:
                    self.endpoint.finish(item, 0, {"got": arguments})  # type: ignore[arg-type]
            elif event[0] == "awake":
                self.stays_until = now_ms() + 1000 * event[1]  # type: ignore[operator]
                asyncio.get_running_loop().call_later(event[1], self._sleep_if_settled)  # type: ignore[arg-type]
            elif event[0] == "policy":
                self.period_s = event[1] or PERIOD_S  # type: ignore[assignment]
        self.pump()
        self._sleep_if_settled()

    def _sleep_if_settled(self) -> None:
        if self._is_on and not self.is_asleep and now_ms() >= self.stays_until and self.endpoint.is_settled(now_ms()):
            self.sleep()

    def sleep(self) -> None:
        self.endpoint.suspend()
        self.endpoint.link_down()
        self.is_asleep = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self, *values: Any) -> None:
        self.is_asleep = False
        self.wakes += 1
        self.endpoint.link_up(now_ms(), self.addressed)
        for value in values:
            self.endpoint.publish(0, value, now_ms())
        self.endpoint.wake()
        self.pump()

    async def cycle(self, *values: Any) -> None:
        """One wake, until it sleeps again."""
        self.wake(*values)
        await until(lambda: self.is_asleep)


async def sleeper(site: Site, name: str, link: Any, **options: Any) -> Sleeper:
    """A registered node that has joined, been asked for its manifest, and sleeps."""
    device = site.hub.roster.devices.get(name) or await site.hub.add_device(name, key_of(name))
    node = Sleeper(site.hub, link, device.key, **options)
    site.nodes.append(node)
    await until(lambda: node.is_asleep and device.uplinks.is_open)
    return node
