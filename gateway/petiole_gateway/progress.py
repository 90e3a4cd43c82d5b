"""Whether the gateway gets on with its work, part by part: what a service manager's watchdog hangs on.

A part that has nothing to do gets on. One that cannot work for a reason that a restart does not cure (no hub, no port,
a full store, a failing disk, a server that is not ours) gets on as long as it tries. What is found here is a defect or
a hang, and a restart of everything is the cure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from .nats.api import JetStreamApi
from .nats.errors import LinkError
from .nats.leaf_server import LeafServer
from .nats.leaf_unit import LeafUnit
from .nats.uplink_store import UplinkStore
from .supervision import Supervisor


class Part(Protocol):
    """`stall` is asked at even intervals, and answers what stands still since it was asked last, or ""."""

    async def stall(self) -> str: ...


class LeafProgress:
    """Our own leaf server answers from its JetStream, or is being started again."""

    def __init__(self, leaf: LeafServer, api: JetStreamApi) -> None:
        self._leaf = leaf
        self._api = api
        self._restarts = leaf.restarts_total

    async def stall(self) -> str:
        restarts, self._restarts = self._restarts, self._leaf.restarts_total
        if restarts != self._leaf.restarts_total:
            return ""
        try:
            await self._api.request("INFO")
        except LinkError as error:
            return f"the leaf server does not answer: {error}"
        return ""


class UnitProgress:
    """The leaf server's service is where it was when we began. Whether it runs is not our restart's to cure."""

    def __init__(self, leaf: LeafUnit) -> None:
        self._leaf = leaf

    async def stall(self) -> str:
        return "the leaf server's service has moved to another port" if self._leaf.has_moved else ""


class StoreProgress:
    """Readings that wait to become durable are being stored, refused or tried again."""

    def __init__(self, store: UplinkStore, *, is_ours: bool) -> None:
        """`is_ours`: the server is started with the gateway; another one's absence is not cured by a restart."""
        self._store = store
        self._is_ours = is_ours
        self._steps = -1

    async def stall(self) -> str:
        steps, self._steps = self._steps, self._store.steps_total
        if steps != self._steps or not self._store.is_working or not (self._is_ours or self._store.is_healthy):
            return ""
        return f"the store stands still with {self._store.pending} readings"


class TaskProgress:
    """Tasks that must run as long as the gateway: a link whose task has ended hears nobody ever after."""

    def __init__(self, tasks: Callable[[], Iterable[asyncio.Task[None]]]) -> None:
        self._tasks = tasks

    async def stall(self) -> str:
        ended = [task for task in self._tasks() if task.done()]
        return "" if not ended else f"has ended: {', '.join(task.get_name() for task in ended)}"


class SupervisedProgress:
    """What is started again whenever it ends comes to run."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def stall(self) -> str:
        return next(iter(self._supervisor.stuck()), "")


class SocketProgress:
    """The UDP socket is open."""

    def __init__(self, is_open: Callable[[], bool]) -> None:
        self._is_open = is_open

    async def stall(self) -> str:
        return "" if self._is_open() else "the UDP socket has closed"
