"""What a green run of the fault tests has to show, and whether it can run at all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from petiole_tools.sim.runtime import find_micropython

from .rig import Rig

_LINE = "line of the closing summary"


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
    return lambda text: record_property(_LINE, str(text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From the reports of the tests, which also come from the processes of `pytest -n`.
    ended = [each for outcome in ("passed", "failed") for each in terminalreporter.stats.get(outcome, ())]
    lines = [
        f"{each.nodeid.rpartition('::')[2]}: {text}"
        for each in ended
        for name, text in each.user_properties
        if each.when == "call" and name == _LINE
    ]
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
