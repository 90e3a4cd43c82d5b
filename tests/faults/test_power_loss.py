"""The power of the machine with the gateway fails: what was acknowledged is there, and nothing new is skipped."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from . import disk as disks
from .disk import Disk
from .gateway_process import pretend_another_boot
from .rig import Rig

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

NODES = {"uart-1": "uart", "udp-1": "udp", "udp-2": "udp"}

# What an SD card may take for a flush. Without it there is hardly a moment at which the hub has what the disk has not.
FLUSH_S = 0.1
CUTS = 3


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    if reason := disks.problem():
        pytest.skip(f"power loss cannot be tried here, mounting does not work: {reason}")
    disk = Disk(tmp_path / "disk")
    disk.open()
    yield disk
    disk.close()


@pytest.fixture
async def rig(tmp_path: Path, disk: Disk) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, hub_size=1, state_dir=disk.mounted / "state", flush_s=FLUSH_S)
    yield rig
    await rig.stop()


async def cut_power(rig: Rig, disk: Disk, *, with_nodes: bool) -> int:
    """Everything on the machine stands still, what only its memory had is gone, and it starts again. Returns how many
    readings the hub has that the leaf has lost."""
    gateway = rig.gateway
    leaf = gateway.leaf_pid()
    assert leaf is not None
    gateway.signal(signal.SIGSTOP)
    os.kill(leaf, signal.SIGSTOP)
    image = await disk.snapshot()
    for node in rig.nodes.values():
        if with_nodes:  # the power of the whole site
            await node.kill()
        else:
            node.cut(True)
    await gateway.stop(at_once=True)
    disk.go_back_to(image)
    pretend_another_boot(gateway.settings.state_dir)
    await gateway.start()
    ahead = max(0, len(await rig.stored()) - await rig.leaf_has())
    for node in rig.nodes.values():
        if with_nodes:
            await node.restart()
        else:
            node.cut(False)
    return ahead


async def run(rig: Rig, disk: Disk, seed: int, report: Callable[[object], None], *, with_nodes: bool) -> None:
    luck = random.Random(seed)
    await rig.start({name: kind for name, kind in NODES.items() if kind != "udp"})
    for number, (name, kind) in enumerate(NODES.items()):
        await rig.add_node(name, kind, seed=100 * seed + number)
    cuts = burnt = ahead = 0
    while cuts < CUTS or not ahead:
        cuts += 1
        assert cuts < 3 * CUTS, "the disk was never behind the hub: nothing was tried"
        await rig.accept(luck.randrange(100, 400))
        await rig.catch_up()  # from here on the hub has what comes before the disk has it
        await asyncio.sleep(luck.random() * 0.2)  # anywhere between two barriers
        ahead += await cut_power(rig, disk, with_nodes=with_nodes)
        burnt += (await rig.gateway.status())["store"]["burnt_total"]
    await rig.accept(300)
    await rig.accept_everywhere()
    verdict = await rig.verdict(leaf_may_have_less=True)
    report(f"{verdict}; {cuts} power cuts, {ahead} readings went back, {burnt} stream sequences burnt")
    assert not verdict.problems, "\n".join(verdict.problems)


@pytest.mark.parametrize("seed", range(1, 5))
async def test_a_power_cut_of_the_gateway_loses_nothing_acknowledged_and_skips_nothing_new(
    rig: Rig, disk: Disk, seed: int, report: Callable[[object], None]
) -> None:
    await run(rig, disk, seed, report, with_nodes=False)


@pytest.mark.parametrize("seed", range(5, 9))
async def test_a_power_cut_of_a_whole_site_loses_nothing_acknowledged_and_skips_nothing_new(
    rig: Rig, disk: Disk, seed: int, report: Callable[[object], None]
) -> None:
    await run(rig, disk, seed, report, with_nodes=True)
