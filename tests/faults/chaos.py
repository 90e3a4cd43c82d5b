"""Faults from a seed: which, when and for how long."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .rig import Rig
from .waiting import until

# Everything that can fail between a node and the hub's stream. Each comes at least once.
KINDS = (
    *("gateway_kill", "gateway_stop", "leaf_kill", "leaf_stall", "both_kill"),
    *("hub_kill", "node_kill", "link_cut", "link_freeze", "cable_pull"),
)
STALL_S = 90.0  # a run in which nothing is accepted for so long has failed


@dataclass(frozen=True, slots=True)
class Fault:
    """`at`, `until`: when it begins and ends, in readings accepted since the start, so that a slow machine sees the
    same schedule. `victim`: a number that picks one of several."""

    at: int
    until: int
    kind: str
    victim: int


def schedule(seed: int, total: int, extra: int = 0) -> list[Fault]:
    """Every kind once and `extra` more, spread over a run of `total` readings. Faults overlap."""
    luck = random.Random(seed)
    kinds = [*KINDS, *(luck.choice(KINDS) for _ in range(extra))]
    luck.shuffle(kinds)
    step = total / (len(kinds) + 1)
    faults = []
    for number, kind in enumerate(kinds):
        at = round(step * (number + luck.uniform(0.2, 1.2)))
        faults.append(Fault(at, at + round(step * luck.uniform(0.2, 1.8)), kind, luck.randrange(1 << 16)))
    return sorted(faults, key=lambda fault: fault.at)


class Chaos:
    """Injects a schedule into a rig, as its nodes get readings through. `injected` counts by kind."""

    def __init__(self, rig: Rig, faults: list[Fault]) -> None:
        self.injected: Counter[str] = Counter()
        self._rig = rig
        self._faults = faults
        self._down: set[int] = set()  # hub servers
        self._pulled: set[str] = set()  # cables
        self._links_down = 0

    async def run(self, total: int) -> None:
        """Until `total` readings are accepted and every fault was injected and is healed."""
        open_ends: list[tuple[int, Callable[[], Awaitable[None]]]] = []
        faults = list(self._faults)
        while faults or open_ends:
            moments = [fault.at for fault in faults[:1]] + [end for end, _ in open_ends]
            await self._reach(min(moments))
            reached = self._rig.accepted_total()
            for entry in [entry for entry in open_ends if entry[0] <= reached]:
                open_ends.remove(entry)
                await entry[1]()
            while faults and faults[0].at <= reached:
                fault = faults.pop(0)
                heal = await getattr(self, "_" + fault.kind)(fault.victim)
                if heal is not None:
                    open_ends.append((fault.until, heal))
        await self._reach(total)

    async def _reach(self, count: int) -> None:
        accepted = self._rig.accepted_total()
        while accepted < count:
            before = accepted
            await until(lambda: self._rig.accepted_total() > before, "readings go on", timeout_s=STALL_S)  # noqa: B023
            accepted = self._rig.accepted_total()

    # Faults: each returns what heals it, or None if it heals at once -------------------------------------------

    async def _gateway_kill(self, victim: int) -> None:
        self.injected["gateway_kill"] += 1
        await self._rig.gateway.kill()
        await self._rig.gateway.start()

    async def _gateway_stop(self, victim: int) -> None:
        self.injected["gateway_stop"] += 1
        code = await self._rig.gateway.terminate()
        assert code == 0, f"the gateway ended with {code} after SIGTERM"
        await self._rig.gateway.start()

    async def _leaf_kill(self, victim: int) -> None:
        self.injected["leaf_kill"] += 1
        await self._rig.gateway.kill_leaf()

    async def _stall_leaf(self, victim: int) -> int:
        """The leaf answers nothing for up to a second, while nodes go on sending. Its pid."""
        await until(lambda: self._rig.gateway.leaf_pid() is not None, "a leaf server runs")
        pid = self._rig.gateway.leaf_pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.2 + victim % 800 / 1000)
        return pid

    async def _leaf_stall(self, victim: int) -> None:
        self.injected["leaf_stall"] += 1
        os.kill(await self._stall_leaf(victim), signal.SIGCONT)

    async def _both_kill(self, victim: int) -> None:
        """What the gateway has taken and the leaf has not is lost with them."""
        self.injected["both_kill"] += 1
        await self._stall_leaf(victim)
        await self._rig.gateway.stop(at_once=True)
        await self._rig.gateway.start()

    async def _node_kill(self, victim: int) -> None:
        self.injected["node_kill"] += 1
        names = sorted(self._rig.nodes)
        await self._rig.nodes[names[victim % len(names)]].restart()

    async def _hub_kill(self, victim: int) -> Callable[[], Awaitable[None]] | None:
        size = len(self._rig.hub.servers)
        if len(self._down) > (size - 1) // 2:
            return None  # as many as a cluster survives are down already
        index = victim % size
        while index in self._down:
            index = (index + 1) % size
        self.injected["hub_kill"] += 1
        self._down.add(index)
        await self._rig.hub.kill(index)

        async def heal() -> None:
            await self._rig.hub.restart(index)
            self._down.discard(index)

        return heal

    async def _link_cut(self, victim: int) -> Callable[[], Awaitable[None]]:
        self.injected["link_cut"] += 1
        self._links_down += 1
        self._rig.proxy.cut()
        return self._restore

    async def _link_freeze(self, victim: int) -> Callable[[], Awaitable[None]]:
        self.injected["link_freeze"] += 1
        self._links_down += 1
        self._rig.proxy.freeze()
        return self._restore

    async def _restore(self) -> None:
        self._links_down -= 1
        if not self._links_down:
            self._rig.proxy.restore()

    async def _cable_pull(self, victim: int) -> Callable[[], Awaitable[None]] | None:
        names = sorted(set(self._rig.nodes) - self._pulled)
        if len(names) < 2:
            return None  # somebody has to go on, or no fault ends
        name = names[victim % len(names)]
        node = self._rig.nodes[name]
        self.injected["cable_pull"] += 1
        self._pulled.add(name)
        node.unplug()
        node.cut(True)

        async def heal() -> None:
            node.plug()
            node.cut(False)
            self._pulled.discard(name)

        return heal

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.injected.items()))
        return f"faults {sum(self.injected.values())} ({kinds})"
