"""A node that sleeps: the endpoint of the real firmware, a crystal that drifts, and a radio that loses frames.

While it sleeps it has no link and no timer but the one that wakes it. All luck comes from the node's own seed, so what
one node does changes nothing of another's.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from petiole import manifest, states, wire
from petiole.endpoint import NodeEndpoint
from petiole.errors import QueueFull
from petiole.join import Joiner
from petiole.outbox import Outbox
from petiole_gateway.aead import AesCcm
from petiole_gateway.hub.ports import Place

# A node that hears nothing for so long sleeps and tries again in its next wake: its cell would run down.
AWAKE_BUDGET_MS = 10_000
OUTBOX = 1000
# From waking to the first frame: the radio finds its network.
BOOT_MS = 150
COMMAND = "set"
HANDLER_S = 0.3  # a valve turns
# What a board keeps of the results of mail over a sleep, bytes.
MAIL_ROOM = 1024
_MIN_TIMER_S = 0.001


@dataclass(frozen=True)
class NodePlan:
    """How a node lives. `phase_s`: its first wake; `jitter`: share of the period by which wakes vary; `drift_ppm`: of
    its crystal; `loss`: of frames, each way; `cut_every_s`: mean time between two losses of power, 0: none. What
    waits in the outbox outlasts those, in flash; the session does not."""

    name: str
    seed: str
    period_s: float = 600.0
    phase_s: float = 0.0
    jitter: float = 0.02
    loss: float = 0.0
    drift_ppm: float = 0.0
    readings: int = 1
    delay_ms: tuple[int, int] = (3, 15)
    cut_every_s: float = 0.0
    awake_budget_ms: int = AWAKE_BUDGET_MS
    dies: float = 0.0  # chance that its power is lost in a command, where it is not begun again

    @property
    def key(self) -> bytes:
        return hashlib.sha256(f"{self.seed}/{self.name}".encode()).digest()[:16]


class Air:
    """The link between all nodes and the gateway. Implements `hub.ports.Link`; a peer is a node's number."""

    name = "air"
    answers_addressed = True
    absence = ""

    def __init__(self, receive: Callable[[Place, bytes], None]) -> None:
        self.receive = receive
        self.nodes: list[SleepyNode] = []
        self.is_cut = False  # a gateway without its antenna

    def send(self, frame: bytes, peer: object) -> None:
        if isinstance(peer, int) and not self.is_cut:
            self.nodes[peer].downlink(frame)


class SleepyNode:
    """Wakes, says its readings, waits for what is to be said to it, sleeps. Times are of the running loop."""

    def __init__(self, plan: NodePlan, air: Air) -> None:
        self.plan = plan
        self.air = air
        self.peer = len(air.nodes)
        air.nodes.append(self)
        self.accepted: list[int] = []  # when each reading was taken, ms of the loop; its value is its place here
        self.executed: list[tuple[int, bool]] = []  # argument of each command, and whether it came again
        self.durable_total = 0
        self.counts: Counter[str] = Counter()
        self.awake_ms_total = 0
        self.wakes: list[tuple[int, int, int, int]] = []  # frames out, bytes out, frames in, bytes in
        self.is_awake = False
        self.is_stopped = False
        self._luck = random.Random(f"{plan.seed}/{plan.name}/wakes")  # noqa: S311 - luck that can be repeated
        self._radio = random.Random(f"{plan.seed}/{plan.name}/radio")  # noqa: S311
        self._secrets = random.Random(f"{plan.seed}/{plan.name}/secrets")  # noqa: S311
        self._manifest = manifest.encode(
            "sleepy-1", [[0, "counter", "", "i", round(plan.period_s)]], [[0, COMMAND, [["value", "i", True]]]],
            [1, round(plan.period_s)],
        )  # fmt: skip
        self._outbox = Outbox(OUTBOX, 1)
        self._boot = 0
        self._kept_mail: tuple[list[Any], list[Any]] = ([], [])  # in flash, as of the last sleep
        self._endpoint = self._booted()
        self._timer: asyncio.TimerHandle | None = None
        self._waker: asyncio.TimerHandle | None = None
        self._cutter: asyncio.TimerHandle | None = None
        self._woke_at = 0.0
        self._wake_is_told = False
        self._traffic = [0, 0, 0, 0]

    # Life --------------------------------------------------------------------------------------------------

    def start(self, phase_s: float | None = None) -> None:
        """The first wake comes at the phase; after `stop` it lives on with this one."""
        self.is_stopped = False
        self._wake_in(self.plan.phase_s if phase_s is None else phase_s)
        if self.plan.cut_every_s:
            self._plan_cut()

    def stop(self) -> None:
        """Take no more readings; what is awake goes on until it sleeps."""
        self.is_stopped = True
        for timer in (self._waker, self._cutter):
            if timer is not None:
                timer.cancel()
        self._waker = self._cutter = None

    def off(self) -> None:
        """Silence."""
        self.stop()
        self._cancel()
        self.is_awake = False

    def wake(self) -> None:
        """Its radio is up: now, and from here on in its period. A stopped node wakes once, without readings, for what
        is left in its outbox."""
        if self._waker is not None:
            self._waker.cancel()
            self._waker = None
        if not self.is_stopped:
            self._wake_in(self.plan.period_s * (1 + self.plan.jitter * (2 * self._luck.random() - 1)))
        if self.is_awake:
            self.counts["overrun"] += 1  # still awake: the wake before has not got its answers
            return
        self.is_awake = True
        self.counts["wakes"] += 1
        self._woke_at = self._loop_time() - BOOT_MS / 1000
        self._wake_is_told = False
        self._traffic = [0, 0, 0, 0]
        now = self._now()
        self._endpoint.link_up(now, True)
        if not self.is_stopped:
            for _ in range(self.plan.readings):
                self._measure(now)
        self._endpoint.wake()
        self._pump()

    @property
    def has_session(self) -> bool:
        """It has joined, and has no reason to join anew."""
        return self._endpoint.state == states.ONLINE

    @property
    def has_readings(self) -> bool:
        """Readings wait that are not durable."""
        return bool(self._outbox.items)

    def _wake_in(self, seconds: float) -> None:
        # What the node takes for a second is a bit more or less.
        true_s = seconds / (1 + self.plan.drift_ppm * 1e-6)
        self._waker = asyncio.get_running_loop().call_later(true_s, self.wake)

    def _measure(self, now: int) -> None:
        try:
            self._endpoint.publish(0, len(self.accepted), now)
        except QueueFull:
            self.counts["refused"] += 1
            return
        self.accepted.append(int(self._loop_time() * 1000))

    def _sleep(self, reason: str) -> None:
        self._cancel()
        self._endpoint.mail.interrupt()
        self._endpoint.suspend()
        self._endpoint.link_down()
        if reason != "cut_awake":
            self._kept_mail = self._endpoint.mail.dump(MAIL_ROOM)
        self.is_awake = False
        self.counts[reason] += 1
        self.awake_ms_total += round(1000 * (self._loop_time() - self._woke_at))
        out, out_bytes, received, received_bytes = self._traffic
        self.wakes.append((out, out_bytes, received, received_bytes))

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Loss of power -----------------------------------------------------------------------------------------

    def _plan_cut(self) -> None:
        seconds = self._luck.expovariate(1 / self.plan.cut_every_s)
        self._cutter = asyncio.get_running_loop().call_later(seconds, self._cut)

    def _cut(self) -> None:
        self._lose_power()
        self._plan_cut()

    def _lose_power(self) -> None:
        self.counts["power_cuts"] += 1
        if self.is_awake:
            self._sleep("cut_awake")
        self._endpoint = self._booted()

    def _booted(self) -> NodeEndpoint:
        if self._boot:
            self.counts["joins"] += self._endpoint.joins_total
            self.counts.update({f"node_{reason}": n for reason, n in self._endpoint.dropped.items()})
        self._boot += 1
        joiner = Joiner(AesCcm, self.plan.key)
        made = NodeEndpoint(joiner, self._secrets.randbytes, self._manifest, self._outbox, self._boot & 255, 1)
        made.mail.load(*self._kept_mail)
        return made

    def statistics(self) -> Counter[str]:
        """All counts, of this life too."""
        found = Counter(self.counts)
        found["joins"] += self._endpoint.joins_total
        found.update({f"node_{reason}": n for reason, n in self._endpoint.dropped.items()})
        return found

    # Frames ------------------------------------------------------------------------------------------------

    def downlink(self, frame: bytes) -> None:
        """The gateway sends; it comes if luck has it and the node still listens."""
        if self._radio.random() < self.plan.loss:
            self.counts["lost_down"] += 1
            return
        asyncio.get_running_loop().call_later(self._delay_s(), self._receive, frame)

    def _receive(self, frame: bytes) -> None:
        if not self.is_awake:
            self.counts["unheard"] += 1
            return
        self._traffic[2] += 1
        self._traffic[3] += len(frame)
        for event in self._endpoint.receive(frame, self._now()):
            self._take(event)
        self._pump()

    def _take(self, event: tuple[Any, ...]) -> None:
        if event[0] == "durable":
            self.durable_total += 1
        elif event[0] == "command":
            self._endpoint.reply(event[1], wire.NOT_FOUND, "no such command")
        elif event[0] == "mail":
            _, item, _, (value,), again = event
            self.executed.append((value, again))
            loop = asyncio.get_running_loop()
            if self._luck.random() < self.plan.dies and not again:
                loop.call_later(HANDLER_S / 2, self._lose_power)
            loop.call_later(HANDLER_S, self._finish, self._endpoint, item, value)

    def _finish(self, endpoint: NodeEndpoint, item: int, value: int) -> None:
        """A command has run to its end, unless its node sleeps or has lost power: then it comes again."""
        endpoint.finish(item, wire.OK, value)
        if self.is_awake and endpoint is self._endpoint:
            self._pump()

    def _pump(self) -> None:
        now = self._now()
        for event in self._endpoint.expire(now):
            self._take(event)
        while (frame := self._endpoint.next_frame(now)) is not None:
            self._uplink(frame)
        self._cancel()
        if self._wake_is_told and self._endpoint.is_settled(now):
            self._sleep("settled")
            return
        left_ms = self.plan.awake_budget_ms - 1000 * (self._loop_time() - self._woke_at)
        if left_ms <= 0:
            self._sleep("gave_up")
            return
        deadline = self._endpoint.deadline(now)
        wait_ms = left_ms if deadline is None else min(left_ms, deadline - now)
        self._timer = asyncio.get_running_loop().call_later(max(_MIN_TIMER_S, wait_ms / 1000), self._pump)

    def _uplink(self, frame: bytes) -> None:
        self._wake_is_told = True
        self._traffic[0] += 1
        self._traffic[1] += len(frame)
        if self._radio.random() < self.plan.loss or self.air.is_cut:
            self.counts["lost_up"] += 1
            return
        place = Place(self.air, self.peer)
        asyncio.get_running_loop().call_later(self._delay_s(), self._arrive, place, frame)

    def _arrive(self, place: Place, frame: bytes) -> None:
        self.air.receive(place, frame)

    def _delay_s(self) -> float:
        least, most = self.plan.delay_ms
        return (least + (most - least) * self._radio.random()) / 1000

    # Clocks ------------------------------------------------------------------------------------------------

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    def _now(self) -> int:
        """The node's own clock, ms: it drifts, and goes on without the supply."""
        return int(1000 * self._loop_time() * (1 + self.plan.drift_ppm * 1e-6))
