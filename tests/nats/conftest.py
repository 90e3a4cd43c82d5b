"""Fixtures of real servers; everything that was started is ended by its pid."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from nats_rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A hub of one server, not started."""
    rig = Rig(tmp_path)
    yield rig
    await rig.stop()


@pytest.fixture
async def cluster_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A hub of three servers, not started."""
    rig = Rig(tmp_path, hub_size=3)
    yield rig
    await rig.stop()
