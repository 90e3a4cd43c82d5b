"""A gateway with a server that was there before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from petiole_gateway.app import Gateway
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.streams import HUB_CONSUMER, UPLINK_STREAM
from petiole_gateway.settings.config import Config

from .memory import NullLogger
from .whole import SITE


@pytest.mark.parametrize("linked", [True, False])
async def test_readings_wait_for_a_hub_only_where_the_server_is_linked_to_one(tmp_path: Path, linked: bool) -> None:
    server = LeafServer(SITE, tmp_path / "server")
    await server.start()
    access = server.access
    nats = {"url": access.url, "user": access.user, "password": access.password, "store_dir": str(server.store_dir)}
    config = Config.model_validate(
        {
            "site": SITE,
            "state_dir": str(tmp_path / "state"),
            "udp": {"listen": "127.0.0.1:0"},
            "nats": {**nats, "linked_to_hub": linked},
        }
    )
    gateway = Gateway(config, NullLogger())
    await gateway.start()
    try:
        api = gateway.store._api
        assert (await api.consumer_info(UPLINK_STREAM, HUB_CONSUMER) is not None) == linked
        assert (await gateway.store.not_at_hub() is not None) == linked
    finally:
        await gateway.stop()
        await server.stop()
