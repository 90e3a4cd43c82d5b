"""What counts as progress: a part that hangs is found, one that has nothing to do or no chance is not."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from petiole_gateway.nats.barrier import Barrier
from petiole_gateway.notify_socket import NotifySocket
from petiole_gateway.progress import TaskProgress
from petiole_gateway.service import Watch

from ..gateway.real_time import until
from ..gateway.whole import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    yield world
    await world.end()


def watch(world: World) -> Watch:
    return Watch(world.gateway, NotifySocket(watchdog_s=8), world.logger)


async def test_a_disk_that_hangs_is_found_and_an_idle_one_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await world.node("a")
    node.publish(1)
    await until(lambda: node.is_empty and not world.gateway.store.is_working)
    watching = watch(world)
    assert [await watching.turn() for _ in range(3)] == [True] * 3

    freed, hangs = threading.Event(), threading.Event()
    flush = Barrier._sync

    def hang(barrier: Barrier) -> None:
        hangs.set()
        assert freed.wait(30)
        flush(barrier)

    monkeypatch.setattr(Barrier, "_sync", hang)
    node.publish(2, 3)
    await until(hangs.is_set)
    # Until what was on its way has arrived, something still moves.
    await until(lambda: world.gateway.store.metrics.stored_total == 3)
    await watching.turn()
    assert await watching.turn() is False
    assert await watching.stall() == "the store stands still with 2 readings"
    freed.set()
    await until(lambda: node.is_empty)
    assert await watching.turn()
    assert watching.withheld_total == 1


async def test_a_socket_that_was_closed_by_an_error_is_found(world: World) -> None:
    watching = watch(world)
    assert await watching.turn()
    udp = world.gateway.udp
    assert udp is not None
    assert udp._transport is not None
    udp._transport._fatal_error(OSError("gone"))  # type: ignore[attr-defined]  # what asyncio calls
    assert await watching.stall() == "the UDP socket has closed"


async def test_a_link_whose_task_has_ended_is_found() -> None:
    async def fail() -> None:
        raise RuntimeError("a defect")

    async def run() -> None:
        await asyncio.sleep(3600)

    tasks = [asyncio.create_task(run(), name="link a"), asyncio.create_task(fail(), name="link b")]
    part = TaskProgress(lambda: tasks)
    assert await part.stall() == ""
    await asyncio.wait([tasks[1]])
    assert await part.stall() == "has ended: link b"
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_leaf_server_that_crashes_is_started_again_and_no_cause_to_restart_the_gateway(world: World) -> None:
    watching = watch(world)
    assert await watching.turn()
    leaf = world.gateway.leaf
    assert leaf is not None
    before = leaf.restarts_total
    await leaf.kill()
    await until(lambda: leaf.restarts_total > before)
    assert await watching.turn()


async def test_a_leaf_server_that_hangs_is_found(world: World) -> None:
    watching = watch(world)
    assert await watching.turn()
    leaf = world.gateway.leaf
    assert leaf is not None
    assert leaf.pid is not None
    pid = leaf.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        assert await watching.turn() is False
        assert "does not answer" in await watching.stall()
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: world.gateway.store.is_healthy)


async def test_a_look_that_fails_is_no_sign_of_life_and_not_the_last_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Watch(world.gateway, NotifySocket(watchdog_s=0.04), world.logger)
    looks = 0

    async def fail() -> bool:
        nonlocal looks
        looks += 1
        raise RuntimeError("a defect")

    monkeypatch.setattr(watching, "turn", fail)
    task = asyncio.create_task(watching.run())
    await until(lambda: looks > 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert watching.withheld_total >= 2


async def test_a_status_line_says_how_many_devices_there_are(world: World, tmp_path: Path) -> None:
    await world.node("a")
    await world.ask("device.add", {"name": "b"})
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setblocking(False)
        watching = Watch(world.gateway, NotifySocket(str(path), 8), world.logger)
        assert await watching.turn()
        assert sock.recv(500) == b"STATUS=2 devices, 1 online; no hub"
        assert sock.recv(500) == b"WATCHDOG=1"
        assert await watching.turn()
        assert sock.recv(500) == b"WATCHDOG=1", "the same is not said again"
