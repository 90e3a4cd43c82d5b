"""What is stored and waits for its barrier: the step from the stream to the disk, per device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .uplink_lane import Lane, Uplink


class Marks:
    """`request()` asks for a barrier and returns its number; `announce(uplinks)` is told what became durable."""

    def __init__(self, request: Callable[[], int], announce: Callable[[list[Uplink]], None]) -> None:
        self._request = request
        self._announce = announce
        self._waiting: deque[tuple[int, Lane | None, int, int]] = deque()  # barrier, lane, sequence, stream sequence
        self._synced_to = 0  # stream sequence up to which everything is on disk

    def add(self, lane: Lane | None, sequence: int, stream_sequence: int) -> None:
        """`sequence` of `lane` is stored; after the next barrier it is durable."""
        if lane is not None and stream_sequence <= self._synced_to:
            self._tell(_sync(lane, sequence))  # a barrier after it has passed already
            return
        self._waiting.append((self._request(), lane, sequence, stream_sequence))

    def passed(self, number: int) -> None:
        """The barrier with this number is complete, and all before it."""
        durable: list[Uplink] = []
        while self._waiting and self._waiting[0][0] <= number:
            _, lane, sequence, stream_sequence = self._waiting.popleft()
            self._synced_to = max(self._synced_to, stream_sequence)
            if lane is not None:
                durable += _sync(lane, sequence)
        self._tell(durable)

    def forget(self) -> None:
        """What was stored without a barrier is read again from the stream before it counts."""
        self._waiting.clear()

    def went_back(self) -> None:
        """The stream is not the one that was synced."""
        self._synced_to = 0

    def _tell(self, durable: list[Uplink]) -> None:
        if durable:
            self._announce(durable)


def _sync(lane: Lane, sequence: int) -> list[Uplink]:
    durable = lane.sync(sequence)
    if lane.is_known and lane.durable >= lane.resolved:
        for reader in lane.readers:
            if not reader.done():
                reader.set_result(lane.durable)
        lane.readers.clear()
    return durable
