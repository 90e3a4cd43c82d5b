"""A whole gateway for the tests that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from petiole_gateway.links import serial as links

from .serial_rig import Rig
from .whole import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that runs, with its leaf server and a client; ended with its nodes."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.end()


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """A serial link that tries again at once; ended with its board."""
    monkeypatch.setattr(links, "RETRY_S", 0.02)
    monkeypatch.setattr(links, "RETRY_MAX_S", 0.05)
    rig = Rig(tmp_path)
    yield rig
    await rig.stop()
