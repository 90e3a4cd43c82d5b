"""What is in the streams, counted: how many wait, how many came, how many are missing or came twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import pairwise

from nats.js.api import ConsumerConfig, DeliverPolicy

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.subjects import UPLINK_STREAM, uplink_filter
from petiole_tools.client import Client

READ_TIMEOUT_S = 20.0


@dataclass(slots=True)
class Census:
    """Sequence numbers of each device, in the order in which the stream has them."""

    sequences: dict[str, list[int]] = field(default_factory=dict)

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


async def take_census(client: Client, site: str) -> Census:
    """Read the stream UP of the server that `client` is connected to, as far as it goes now."""
    census = Census()
    subscription = await client.connection.jetstream().subscribe(
        uplink_filter(site),
        stream=UPLINK_STREAM,
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    try:
        left = (await subscription.consumer_info()).num_pending or 0
        left += subscription.pending_msgs
        async with asyncio.timeout(READ_TIMEOUT_S):
            while left:
                message = await subscription.next_msg(timeout=READ_TIMEOUT_S)
                reading = json.loads(message.data)
                census.sequences.setdefault(reading["device"], []).append(reading["sequence"])
                left = message.metadata.num_pending
    finally:
        await subscription.unsubscribe()
    return census


async def stored(client: Client) -> int:
    """Messages in the stream UP of the connected server."""
    info = await JetStreamApi(client.connection).stream_info(UPLINK_STREAM)
    return 0 if info is None else int(info["state"]["messages"])
