"""All devices' uplinks: which of them may send now, and of which it must first be read what the stream holds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from .api import JetStreamApi
from .errors import LinkError
from .uplink_eviction import stored_last
from .uplink_lane import Lane

_LOOKUPS_AT_ONCE = 64


class Lanes:
    """`wake()` is called when there is something to do."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._doubtful: dict[str, Lane] = {}  # their last stored sequence must be read from the stream

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def find(self, device: str) -> Lane | None:
        """The lane of a device that has had one."""
        return self._lanes.get(device)

    def lane(self, device: str) -> Lane:
        """The lane of a device, from now on."""
        return self._lanes.setdefault(device, Lane(device))

    def doubt(self, lane: Lane) -> None:
        """The lane stands still until the stream itself has said what it holds."""
        lane.is_known = False
        self._doubtful[lane.device] = lane
        self._wake()

    def make_ready(self, lane: Lane) -> None:
        """The lane sends if it has something and may; one that is doubtful comes back when it is known."""
        if not lane.is_known:
            self.doubt(lane)
        elif lane.waiting and not lane.in_flight and not lane.is_ready:
            lane.is_ready = True
            self._ready.append(lane)
            self._wake()

    def next_ready(self) -> Lane | None:
        """Whose head is to be sent next."""
        while self._ready:
            lane = self._ready.popleft()
            lane.is_ready = False
            if lane.is_known and lane.waiting and not lane.in_flight:
                return lane
        return None

    @property
    def wants_lookup(self) -> bool:
        """Something doubtful can be looked up: nothing of it is on its way."""
        return any(not lane.in_flight for lane in self._doubtful.values())

    async def look_up(self, api: JetStreamApi, site: str, found: Callable[[Lane], None]) -> None:
        """Read the last stored sequence of doubtful lanes, and queue exactly what comes after it. `found` is called for
        each that is known then. LinkError if one could not be read."""
        lanes = [lane for lane in self._doubtful.values() if not lane.in_flight][:_LOOKUPS_AT_ONCE]
        async with asyncio.TaskGroup() as group:
            lookups = [group.create_task(stored_last(api, site, lane.device)) for lane in lanes]
        failed: LinkError | None = None
        for lane, task in zip(lanes, lookups, strict=True):
            stored = task.result()
            if isinstance(stored, LinkError):
                failed = failed or stored
                continue
            del self._doubtful[lane.device]
            lane.resolve(*stored)
            found(lane)
            self.make_ready(lane)
        if failed is not None:
            raise failed
