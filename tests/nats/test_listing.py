"""A stream that is read whole while its server goes away."""

from __future__ import annotations

import pytest
from nats_rig import Rig

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.errors import NotConnectedError
from petiole_gateway.nats.listing import read_stream


async def test_a_read_that_a_lost_connection_ended_leaves_no_subscription(rig: Rig) -> None:
    await rig.start(with_hub=False)
    client = rig.connection.client
    before = len(client._subs)
    await rig.leaf.stop()
    for _ in range(3):
        with pytest.raises(NotConnectedError):
            await read_stream(client, JetStreamApi(client, timeout_s=0.2), "UP", ">", 1, lambda message: None)
    assert len(client._subs) == before
