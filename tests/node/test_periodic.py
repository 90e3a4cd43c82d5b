"""What a node does every so often."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from petiole_node import periodic
from petiole_node.port.cpython import Port

from .conftest import Start
from .peer import Peer

WEEK_S = 604800
LONGEST_S = 2**29 / 1000  # of a wait on a board: half of what its ticks count


class Board(Port):
    """Its clock goes on while something waits, and the handler takes `busy_ms`."""

    ms = 5
    busy_ms = 0

    def now(self) -> int:
        return self.ms


@pytest.mark.parametrize("period_s", [0.1, 3600, 6 * 86400, WEEK_S, 40 * 86400])
@pytest.mark.parametrize("busy_ms", [0, 40, 7_000_000])
async def test_a_period_of_weeks_is_waited_for_in_parts_that_a_board_can_wait(
    monkeypatch: pytest.MonkeyPatch, period_s: float, busy_ms: int
) -> None:
    board = Board()
    waits: list[float] = []
    calls: list[int] = []

    class Waiting:
        """In the place of asyncio."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            waits.append(seconds)
            board.ms += round(1000 * seconds)
            await asyncio.sleep(0)

    monkeypatch.setattr(periodic, "asyncio", Waiting())

    def handler() -> None:
        calls.append(board.ms)
        board.ms += busy_ms
        if len(calls) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await periodic.repeat(period_s, handler, board, [].append, lambda level, text: None)
    assert max(waits) < LONGEST_S
    assert min(waits) >= 0
    distances = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert distances == [max(round(1000 * period_s), busy_ms)] * 3


async def test_a_weekly_task_lives_on_a_board(start: Start, peer: Peer, tmp_path: Path) -> None:
    app = tmp_path / "weekly_app.py"
    app.write_text(
        "from petiole_node import Node\n"
        "node = Node('petiole.json')\n"
        f"node.every({WEEK_S})(lambda: print('weekly'))\n"
        "node.run()\n"
    )
    node = await start("udp", app=app)
    await peer.joined()
    await peer.command("ping")
    assert "weekly" in node.log
    assert not [line for line in node.log if "exception" in line or "Error" in line]
