"""The connection to a server that is not there."""

from __future__ import annotations

import asyncio

import pytest
from nats_rig import until
from tests.gateway.memory import NullLogger

from petiole_gateway.nats.connection import connect
from petiole_gateway.nats.ports import free_ports


async def test_a_connection_that_is_not_wanted_any_more_is_not_tried_on() -> None:
    before = asyncio.all_tasks()
    (port,) = free_ports(1)
    connecting = asyncio.create_task(connect(f"nats://127.0.0.1:{port}", logger=NullLogger()))
    await until(lambda: len(asyncio.all_tasks() - before) > 1, "it tries")
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await until(lambda: asyncio.all_tasks() <= before, "no task is left", timeout_s=5)
