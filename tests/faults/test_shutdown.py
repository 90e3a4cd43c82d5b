"""The gateway ends, in order or not, in the middle of a stream of readings."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from petiole_gateway.nats.child_process import process_start

from .rig import Rig

NODES = {"uart-1": "uart", "udp-1": "udp"}
# Five for what is pending to become durable, and the leaf server closes its store; systemd gives 90.
STOP_S = 10


async def start(rig: Rig) -> None:
    await rig.start({name: kind for name, kind in NODES.items() if kind != "udp"})
    for number, (name, kind) in enumerate(NODES.items()):
        await rig.add_node(name, kind, seed=number)
    await rig.accept(200)


async def test_sigterm_ends_the_gateway_soon_and_leaves_no_process_and_loses_nothing(
    rig: Rig, report: Callable[[object], None]
) -> None:
    await start(rig)
    took = 0.0
    for _ in range(3):
        leaf = rig.gateway.leaf_pid()
        assert leaf is not None
        began = time.monotonic()
        assert await rig.gateway.terminate() == 0
        took = max(took, time.monotonic() - began)
        assert process_start(leaf) is None
        assert not rig.gateway.said("task_failed")
        await rig.gateway.start()
        await rig.accept(100)
    await rig.accept_everywhere()
    verdict = await rig.verdict()
    report(f"{verdict}; 3 ends within {took:.1f} s")
    assert not verdict.problems, "\n".join(verdict.problems)
    assert took < STOP_S


async def test_a_killed_gateway_leaves_no_leaf_server_that_is_in_the_way(
    rig: Rig, report: Callable[[object], None]
) -> None:
    await start(rig)
    took = 0.0
    for is_stopped in (False, True, False):
        leaf = rig.gateway.leaf_pid()
        assert leaf is not None
        if is_stopped:
            os.kill(leaf, signal.SIGSTOP)
        await rig.gateway.kill()
        began = time.monotonic()
        await rig.gateway.start()
        took = max(took, time.monotonic() - began)
        assert process_start(leaf) is None
        await rig.accept(100)
    await rig.accept_everywhere()
    verdict = await rig.verdict()
    report(f"{verdict}; 3 starts after kill -9 within {took:.1f} s")
    assert not verdict.problems, "\n".join(verdict.problems)
