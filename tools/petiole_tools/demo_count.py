"""What is in the streams, counted: how many wait, how many came, how many are missing or came twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.subjects import UPLINK_STREAM
from petiole_tools.client import Client


@dataclass(slots=True)
class Census:
    """Sequence numbers of each device, in the order in which a stream has them. `position`: read so far."""

    sequences: dict[str, list[int]] = field(default_factory=dict)
    position: int = 0

    @property
    def total(self) -> int:
        """Readings in the stream."""
        return sum(len(numbers) for numbers in self.sequences.values())

    @property
    def duplicates(self) -> int:
        """Readings that are there more than once."""
        return sum(len(numbers) - len(set(numbers)) for numbers in self.sequences.values())

    @property
    def out_of_order(self) -> int:
        """Readings that stand behind a later one of their device."""
        return sum(later < earlier for numbers in self.sequences.values() for earlier, later in pairwise(numbers))

    @property
    def highest(self) -> dict[str, int]:
        """Highest number of each device."""
        return {device: max(numbers) for device, numbers in self.sequences.items()}

    def beyond(self, other: Census) -> int:
        """How many readings are here and not in the other census."""
        return sum(
            len(set(numbers) - set(other.sequences.get(device, ()))) for device, numbers in self.sequences.items()
        )

    def missing(self, promised: dict[str, int]) -> int:
        """How many numbers from 1 to the promised one of each device are not there."""
        return sum(
            len(set(range(1, highest + 1)) - set(self.sequences.get(device, ())))
            for device, highest in promised.items()
        )


async def read_on(census: Census, client: Client, site: str) -> Census:
    """Add what the stream UP of the connected server has beyond the last reading; returns the census."""
    api = JetStreamApi(client.connection)
    while True:
        message = await api.next_message(UPLINK_STREAM, f"up.{site}.*.*", census.position + 1)
        if message is None:
            return census
        reading = json.loads(message.payload)
        census.sequences.setdefault(reading["device"], []).append(reading["sequence"])
        census.position = message.stream_sequence
