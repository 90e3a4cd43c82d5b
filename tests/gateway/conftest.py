"""A whole gateway for the tests that need one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .whole import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that runs, with its leaf server and a client; ended with its nodes."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.end()
