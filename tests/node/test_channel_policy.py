"""What each channel keeps when its node could send nothing for too long, and that the gateway hears how much went."""

import asyncio
from pathlib import Path

import pytest

from petiole import shedding, wire
from petiole.errors import LocalError
from petiole.records import Reading, Record
from petiole_node import Node, declarations

from .conftest import Start
from .peer import Peer

APP = Path(__file__).parent / "policy_app.py"
ROUNDS = 100


def test_policies_have_the_numbers_of_the_outbox() -> None:
    assert declarations.POLICIES[shedding.OLDEST] == "drop-oldest"
    assert declarations.POLICIES[shedding.NEWEST] == "drop-newest"
    assert declarations.POLICIES[shedding.LAST] == "keep-last"
    assert declarations.POLICIES[shedding.THIN] == "thin-out"


def test_a_policy_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    node = Node({"name": "n", "key": "00" * 16, "folder": str(tmp_path), "links": [{"kind": "udp"}]})
    with pytest.raises(LocalError, match="drop-oldest, drop-newest, keep-last, thin-out"):
        node.channel("t", when_full="newest")


async def test_a_full_outbox_drops_as_each_channel_says(peer: Peer, start: Start) -> None:
    """16 KB for 400 readings of 70 bytes: half have to go."""
    dropped: list[int] = []
    take = peer._take

    def also(record: Reading | Record) -> None:
        if isinstance(record, Record) and record.kind == wire.FLOOR:
            dropped.append(record.value[1])
        take(record)

    peer._take = also  # type: ignore[method-assign]
    peer.is_deaf = True
    node = await start(
        "udp", app=APP, settings={"outbox_bytes": 16384}, options={"rounds": ROUNDS}, heap="256wK"
    )  # fmt: skip
    async with asyncio.timeout(60):
        while not (node.folder / "refused.txt").exists():
            await peer.pause(0.1)
    peer.is_deaf = False
    await peer.joined()
    await peer.wait(lambda: peer.values("end") == [ROUNDS], 60)
    got = {name: [value[0] for value in peer.values(name)] for name in declarations.POLICIES}
    assert all(values == sorted(set(values)) for values in got.values())
    oldest = got["drop-oldest"]
    assert oldest == list(range(oldest[0], ROUNDS + 1))
    assert oldest[0] > 1
    newest = got["drop-newest"]
    refused = int((node.folder / "refused.txt").read_text())
    assert newest[:10] == list(range(1, 11))
    assert len(newest) + refused == ROUNDS
    assert refused > 0
    assert got["keep-last"][-1] == ROUNDS
    assert len(got["keep-last"]) < ROUNDS // 2
    assert got["thin-out"][-1] == ROUNDS
    assert got["thin-out"][0] <= ROUNDS // 4
    assert len(got["thin-out"]) < ROUNDS
    assert dropped[-1] == len(got) * ROUNDS + 1 - len(peer.readings)
