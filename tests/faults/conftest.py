"""A rig for the fault tests, what they report, and whether they can run at all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from petiole_tools.sim.runtime import find_micropython
from tests.closing_summary import LINE

from .rig import Rig


@pytest.fixture(autouse=True)
def _micropython() -> None:
    if find_micropython() is None:
        if os.environ.get("PETIOLE_REQUIRE_MICROPYTHON"):
            pytest.fail("no MicroPython")
        pytest.skip("no MicroPython here: nodes of the fault tests are processes of the real firmware")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig with a hub of three servers, not started."""
    rig = Rig(tmp_path)
    yield rig
    await rig.stop()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[object], None]:
    """Say a line in the closing summary."""
    return lambda text: record_property(LINE, str(text))
