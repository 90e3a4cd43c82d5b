"""Power that is lost in any flash operation of a node that lives: joins, publishes, sleeps, wakes and takes mail."""

import asyncio
import itertools
import random

import pytest

from .board import Board
from .chip_node import ChipNode
from .peer import Peer
from .wake_rig import CHIPS, Begin, Mail, check, executed, taken, values

_SAMPLE = 3  # operations of each chip in an ordinary test
_PASSES = 2  # over all operations: LittleFS is at another place of its blocks in the second
_ROUND_S = 60


class Round:
    """A power-on, a wake without a gateway, mail, and a wake more; power is lost in flash operation `cut` of them.

    `operations`: how many there were. `was_cut`: whether `cut` was among them; None as `cut`: in none.
    """

    def __init__(self, peer: Peer, node: ChipNode, mail: Mail, item: int, cut: int | None) -> None:
        self.operations = 0
        self.was_cut = False
        self._peer = peer
        self._node = node
        self._mail = mail
        self._item = item
        self._cut = cut
        self._begins_at: int | None = None
        self._wakes = 0  # after the one without a gateway
        self._was_deaf = False

    async def run(self) -> None:
        self._node.between = self._between
        try:
            async with asyncio.timeout(_ROUND_S):
                while self._wakes < 3 or self._mail.result(self._item) is None:
                    await self._peer.pause(0.02)
        finally:
            self._node.between = None
            self._node.board.state["cut"] = -1
            self._peer.is_deaf = False

    def _between(self, board: Board) -> None:
        """After each life: the one that comes is without a gateway if the node was asleep for the first time."""
        done = board.state["operations"]
        if self._begins_at is None:
            self._begins_at = done
            board.state["cut"] = -1 if self._cut is None else done + self._cut
            board.cut_power()
            return
        self.operations = done - self._begins_at
        self.was_cut = self.was_cut or board.end == "power"
        self._peer.is_deaf = board.end != "power" and not self._was_deaf
        if self._peer.is_deaf:
            self._was_deaf = True
        elif self._was_deaf:
            self._wakes += 1
            if self._wakes == 1:
                self._mail.send(self._item, "count", [self._item])


class Cuts:
    """Round after round of one node."""

    def __init__(self, peer: Peer, node: ChipNode) -> None:
        self.peer = peer
        self.node = node
        self._mail = Mail(peer)
        self._items = itertools.count(100)

    async def round(self, cut: int | None) -> Round:
        item = next(self._items)
        round = Round(self.peer, self.node, self._mail, item, cut)
        await round.run()
        assert self._mail.result(item) == [item, 0, item]
        begun = [line for line in executed(self.node) if line.startswith(f"{item} ")]
        assert begun, item
        assert begun[1:] == [f"{item} True"] * (len(begun) - 1), (cut, begun)
        assert cut is not None or begun == [f"{item} False"]
        check(self.peer, self.node)
        return round

    async def end(self) -> None:
        """Everything that was stored has come; once and in order, which `check` has seen."""
        last = max(taken(self.node))
        await self.peer.wait(lambda: values(self.peer)[-1] > last)
        check(self.peer, self.node)
        stored = {value for value, (is_stored, _) in taken(self.node).items() if is_stored and value <= last}
        assert stored <= set(values(self.peer)), stored - set(values(self.peer))


async def begin_cuts(peer: Peer, begin: Begin, chip: str) -> Cuts:
    node = await begin(chip, {"next_s": 0.2, "waits": True}, awake_ms=3000)
    await peer.joined()
    await peer.more_readings(1)
    return Cuts(peer, node)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("seed", [1])
async def test_power_lost_while_flash_is_written_loses_nothing_that_was_stored(
    peer: Peer, begin: Begin, chip: str, seed: int
) -> None:
    luck = random.Random(f"{chip} {seed}")
    cuts = await begin_cuts(peer, begin, chip)
    operations = (await cuts.round(None)).operations
    hits = 0
    while hits < _SAMPLE:
        round = await cuts.round(luck.randrange(operations))
        operations = round.operations
        hits += round.was_cut
    await cuts.end()


@pytest.mark.soak
@pytest.mark.parametrize("chip", CHIPS)
async def test_power_lost_in_each_flash_operation_loses_nothing_that_was_stored(
    peer: Peer, begin: Begin, chip: str
) -> None:
    cuts = await begin_cuts(peer, begin, chip)
    for _ in range(_PASSES):
        for operation in itertools.count():
            round = await cuts.round(operation)
            print("cut in", operation, "of", round.operations, round.was_cut)
            if not round.was_cut:
                break
        assert operation >= 5
    await cuts.end()
