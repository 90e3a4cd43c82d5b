"""A node fits the memory of a small board, stays within it, and sleeps when there is nothing to do."""

import os
from pathlib import Path

import pytest

from .conftest import Start
from .peer import Peer


async def heap_free(peer: Peer) -> int:
    status, info = await peer.command("info")
    assert status == 0
    return int(info["heap_free"])


async def test_a_thousand_messages_leave_nothing_behind(start: Start, peer: Peer) -> None:
    node = await start("uart", options={"mode": "verify", "concurrency": 4})
    await peer.joined()
    await peer.more_readings(200)
    for _ in range(10):
        await peer.command("echo", ["warm"])
    before = [await heap_free(peer) for _ in range(4)]
    await peer.more_readings(1000)
    for _ in range(50):
        await peer.command("echo", ["more"])
    after = [await heap_free(peer) for _ in range(4)]
    print("free heap", before, after)
    # What is in flight differs from one moment to the next, by less than a kilobyte for each worker.
    assert max(after) > max(before) - 4096
    assert node.resets_total == 0


async def test_a_full_outbox_fits_the_memory_of_a_board(start: Start, peer: Peer) -> None:
    node = await start("uart", options={"period_s": 0.01})
    await peer.joined()
    peer.say_busy(3)
    # 32 readings wait; live ones and a command go on beside them.
    await peer.pause(2)
    before = len(peer.readings)
    assert await peer.command("add", [1, 1]) == (0, 2)
    print("free heap", await heap_free(peer))
    assert len(peer.readings) == before
    assert node.resets_total == 0
    await peer.more_readings(32)


@pytest.mark.parametrize("kind", ["uart", "console", "udp"])
async def test_an_idle_node_sleeps(start: Start, peer: Peer, kind: str) -> None:
    node = await start(kind, options={"period_s": 3600})
    await peer.joined()
    await peer.command("ping")
    await peer.pause(0.5)
    before = cpu_ticks(node.pid)
    await peer.pause(2)
    # Ticks are 10 ms; a loop that polls needs 200.
    assert cpu_ticks(node.pid) - before <= 4


def cpu_ticks(pid: int | None) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 100 // os.sysconf("SC_CLK_TCK")
