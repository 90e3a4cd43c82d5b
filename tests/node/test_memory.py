"""A node fits the memory of a small board, stays within it, and sleeps when there is nothing to do."""

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from petiole_tools import sim as simulator
from petiole_tools.sim.impairment import Impairment
from petiole_tools.sim.runtime import board_heap, find_micropython

from .conftest import Start
from .peer import Peer


def little() -> str:
    """A heap in which the simulator's application just fits, for this VM."""
    binary = find_micropython()
    return "92wK" if binary is None or board_heap(binary).endswith("wK") else "122K"


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


async def test_an_outbox_in_little_memory_takes_more_than_one_reading(start: Start, peer: Peer) -> None:
    """What compiling the application left lay everywhere, and no piece was large enough for the reserve."""
    node = await start("uart", heap=little(), options={"mode": "verify", "concurrency": 8, "limit": 20})
    await node.wait_for_log("verified")
    assert len(peer.values("counter")) == 160
    assert peer.frames_total < 80
    assert node.resets_total == 0


@pytest.mark.parametrize("kind", ["uart", "console", "udp"])
async def test_a_clock_that_outgrows_a_word_costs_no_reading_in_little_memory(
    start: Start, peer: Peer, kind: str, tmp_path: Path
) -> None:
    """After 12 days a moment is an object on the heap of a board, and so is each sum of two."""
    app = tmp_path / "late_app.py"
    text = (Path(simulator.__file__).parent / "sim_app.py").read_text()
    app.write_text(text.replace("node.run(", "node.port.continue_clock((1 << 30) - 1500)\nnode.run(", 1))
    options = {"mode": "verify", "concurrency": 4, "limit": 250}
    bad = Impairment(loss=0.02, delay_ms=2)
    node = await start(kind, heap=little(), app=app, options=options, impairment=bad, seed=3)
    await peer.wait(lambda: len(peer.readings) == 1000, 120)
    assert [value for _, value, _ in peer.readings] == list(range(1, 1001))
    assert (await peer.command("echo", ["there"])) == (0, "there")
    assert node.resets_total == 0
    assert len(peer.joins) == 1
    times = [at for _, _, at in peer.readings]
    assert max(abs(later - earlier) for earlier, later in itertools.pairwise(times)) < 60_000  # none jumps by a wrap


# Nothing corrupt on a console: one wrong bit makes a Ctrl-C.
BAD = {
    "uart": Impairment(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.05, delay_ms=2, jitter_ms=10, reorder_ms=30),
    "console": Impairment(loss=0.1, delay_ms=2),
    "udp": Impairment(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.05, delay_ms=2, jitter_ms=10, reorder_ms=30),
}


@pytest.mark.parametrize("kind", ["uart", "console", "udp"])
async def test_the_smallest_heap_survives_long_readings_and_commands_over_a_bad_link(
    start: Start, peer: Peer, kind: str
) -> None:
    app = Path(__file__).parent / "load_app.py"
    node = await start(kind, app=app, impairment=BAD[kind], seed=5, options={"concurrency": 8})
    await peer.joined()

    async def ask(length: int) -> None:
        for _ in range(10):
            text = "x" * length
            status, value = await peer.command("echo", [text], 60)
            # 429 and 503: too many at once, or no memory for it now.
            assert (status, value) == (0, text) or status in (429, 503)

    await asyncio.gather(*(ask(length) for length in (5, 80, 300, 900)), peer.more_readings(40, 60))
    numbers = [value[0] for channel, value, _ in peer.readings if channel == 0]
    assert numbers == list(range(1, len(numbers) + 1))
    print("free heap", await heap_free(peer))
    assert node.resets_total == 0
    assert len(peer.joins) == 1


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
