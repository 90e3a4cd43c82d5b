"""Thousands of sleepy nodes and one real gateway with its real server, in virtual time; and what came of it.

What is the same in every run of a seed: every frame, its bytes and its virtual time, every reading and its place and
time in the stream; as long as the server answers each question within `virtual_loop.PATIENCE_S` of real time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy

from petiole_gateway.app import Gateway
from petiole_gateway.hub.ports import Logger
from petiole_gateway.nats.leaf_access import read_access
from petiole_gateway.nats.subjects import UPLINK_STREAM
from petiole_gateway.settings.config import Config
from petiole_tools.sim.fleet_mail import FleetMail, MailSummary
from petiole_tools.sim.sleepy_node import AWAKE_BUDGET_MS, Air, NodePlan, SleepyNode
from petiole_tools.sim.virtual_loop import running
from petiole_tools.sim.virtual_world import WALL_MS, Answers, now_ms, wall_ms

SITE = "sim"
ADDED_AT_ONCE = 32
# Progress is told so often in virtual time; what asks for it decides what it shows.
PROGRESS_S = 600.0
# Wakes for what is left in outboxes at the end: each lost with the square of the loss at most.
LAST_WAKES = 20


@dataclass(frozen=True)
class FleetPlan:
    """A fleet by its numbers. `drift_ppm`: the worst crystal's; `cut_every_s`: between losses of power of one node;
    `spread`: the share of a period over which the first wakes are spread, nearly 0 after a power cut of the site;
    `mail_every_s`: between two commands to a node, 0: none; `dies`: the chance
    that a node's power is lost in one."""

    nodes: int = 300
    days: float = 1.0
    period_s: float = 600.0
    seed: int = 1
    loss: float = 0.0
    jitter: float = 0.02
    drift_ppm: float = 20.0
    readings: int = 1
    cut_every_s: float = 0.0
    spread: float = 1.0
    mail_every_s: float = 0.0
    dies: float = 0.0

    def node(self, number: int) -> NodePlan:
        luck = random.Random(f"{self.seed}/{number}")  # noqa: S311 - luck that can be repeated
        return NodePlan(
            name=f"node-{number}",
            seed=str(self.seed),
            period_s=self.period_s,
            phase_s=self.period_s * self.spread * luck.random(),
            jitter=self.jitter,
            loss=self.loss,
            drift_ppm=self.drift_ppm * (2 * luck.random() - 1),
            readings=self.readings,
            cut_every_s=self.cut_every_s,
            # Else a wake that finds nobody would still be awake at the next.
            awake_budget_ms=min(AWAKE_BUDGET_MS, int(600 * self.period_s)),
            dies=self.dies,
        )


@dataclass
class Summary:
    """`stored`, `lost`, `duplicated`, `out_of_order`, `foreign` and `worst_time_error_ms` are what the stream says.
    `trace`: a hash of when every reading was taken and of the frames and bytes of every wake."""

    plan: dict[str, Any]
    virtual_s: float = 0.0
    real_s: float = 0.0
    waited_s: float = 0.0  # of `real_s`, for the server and the disk
    wakes: int = 0
    accepted: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    foreign: int = 0
    worst_time_error_ms: int = 0
    frames_per_wake: float = 0.0
    bytes_per_wake: float = 0.0
    round_trips_per_wake: float = 0.0
    awake_ms_per_wake: float = 0.0
    answers_given_up: int = 0
    trace: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    gateway_dropped: dict[str, int] = field(default_factory=dict)
    mail: MailSummary = field(default_factory=MailSummary)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def repeatable(self) -> dict[str, Any]:
        """What is the same in every run of the seed."""
        machine = {"real_s", "waited_s", "answers_given_up"}
        return {name: value for name, value in asdict(self).items() if name not in machine}


class SleepyFleet:
    """A gateway and its nodes. Made by `fleet`, in a `VirtualLoop`."""

    def __init__(self, plan: FleetPlan, gateway: Gateway, answers: Answers) -> None:
        self.plan = plan
        self.mail: FleetMail
        self._answers = answers
        self.gateway = gateway
        self.air = Air(gateway.hub.receive)
        self.nodes: list[SleepyNode] = []

    async def add(self) -> None:
        """Register all devices, in real time."""
        plans = [self.plan.node(number) for number in range(self.plan.nodes)]
        gate = asyncio.Semaphore(ADDED_AT_ONCE)

        async def add(plan: NodePlan) -> None:
            async with gate:
                await self.gateway.hub.add_device(plan.name, plan.key)

        await asyncio.gather(*(add(plan) for plan in plans))
        self.nodes = [SleepyNode(plan, self.air) for plan in plans]
        self.mail = FleetMail(
            self.gateway,
            self._answers,
            self.nodes,
            site=SITE,
            every_s=self.plan.mail_every_s,
            seed=self.plan.seed,
        )

    async def live(self, seconds: float, progress: Callable[[float, SleepyFleet], None]) -> None:
        """Let so much virtual time pass, and then what it takes until the outboxes are empty."""
        loop = running()
        start = loop.time()
        for node in self.nodes:
            node.start()
        sending = loop.create_task(self.mail.run()) if self.plan.mail_every_s else None
        while (left_s := start + seconds - loop.time()) > 0:
            await asyncio.sleep(min(left_s, PROGRESS_S))
            progress(loop.time() - start, self)
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        for node in self.nodes:
            node.stop()
        for _ in range(LAST_WAKES):
            await asyncio.sleep(AWAKE_BUDGET_MS / 1000 + 1)
            late = [node for node in self.nodes if node.has_readings or self.mail.has_mail(node)]
            if not late:
                break
            for node in late:
                node.wake()

    def summary(self, virtual_s: float, real_s: float) -> Summary:
        """What the nodes know."""
        loop = running()
        counts: Counter[str] = Counter()
        for node in self.nodes:
            counts.update(node.statistics())
        wakes = [wake for node in self.nodes for wake in node.wakes]
        number = max(1, len(wakes))
        dropped: Counter[str] = Counter(self.gateway.hub.traffic.dropped)
        for device in self.gateway.hub.roster.devices.values():
            dropped.update(device.dropped)
        return Summary(
            plan=asdict(self.plan),
            virtual_s=round(virtual_s, 3),
            real_s=round(real_s, 2),
            waited_s=round(loop.waited_s, 2),
            wakes=counts.pop("wakes", 0),
            accepted=sum(len(node.accepted) for node in self.nodes),
            frames_per_wake=round(sum(wake[0] + wake[2] for wake in wakes) / number, 3),
            bytes_per_wake=round(sum(wake[1] + wake[3] for wake in wakes) / number, 2),
            round_trips_per_wake=round(sum(min(wake[0], wake[2]) for wake in wakes) / number, 3),
            awake_ms_per_wake=round(sum(node.awake_ms_total for node in self.nodes) / number, 1),
            answers_given_up=loop.forgotten_total,
            trace=self._trace(),
            counts=dict(sorted(counts.items())),
            gateway_dropped=dict(sorted(dropped.items())),
        )

    def _trace(self) -> str:
        found = hashlib.sha256()
        for node in self.nodes:
            found.update(repr((node.accepted, node.executed, node.wakes, node.awake_ms_total)).encode())
        return found.hexdigest()[:16]

    async def check(self, summary: Summary) -> None:
        """Compare the stream with what the nodes had accepted."""
        nodes = {node.plan.name: node for node in self.nodes}
        seen: dict[str, dict[int, int]] = {name: {} for name in nodes}
        last: dict[str, int] = {}
        async for document in self._stored():
            name, value = document["device"], document["value"]
            if name not in nodes or not isinstance(value, int) or not 0 <= value < len(nodes[name].accepted):
                summary.foreign += 1
                continue
            summary.stored += 1
            if value in seen[name]:
                summary.duplicated += 1
            seen[name][value] = document["sequence"]
            summary.out_of_order += document["sequence"] <= last.get(name, 0) or value < max(seen[name])
            last[name] = document["sequence"]
            error_ms = abs(_time_ms(document["at"]) - WALL_MS - nodes[name].accepted[value])
            summary.worst_time_error_ms = max(summary.worst_time_error_ms, error_ms)
        summary.lost = summary.accepted - sum(len(found) for found in seen.values())
        summary.mail = await self.mail.check()

    async def _stored(self) -> AsyncIterator[dict[str, Any]]:
        access = read_access(self.gateway.config.leaf_dir)
        client = Client()
        await client.connect(access.url, user=access.user, password=access.password)
        try:
            stream = client.jetstream()
            expected = (await stream.stream_info(UPLINK_STREAM)).state.messages
            config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
            subscription = await stream.subscribe(f"up.{SITE}.>", ordered_consumer=True, config=config)
            for _ in range(expected):
                message = await subscription.next_msg(timeout=10)
                if message.data:
                    yield json.loads(message.data)
        finally:
            await client.close()


def _time_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@asynccontextmanager
async def fleet(
    plan: FleetPlan, folder: Path, logger: Logger, *, durability: str = "crash"
) -> AsyncIterator[SleepyFleet]:
    """A fleet of registered devices, its gateway started; inside of the block time is virtual. With `durability`
    "power-loss" every group of readings waits for the real disk."""
    loop = running()
    config = Config.model_validate(
        {
            "site": SITE,
            "state_dir": str(folder / "state"),
            "udp": {"enabled": False},
            "nats": {"durability": durability},
        },
        context={"base": folder},
    )
    with loop.real():
        gateway = Gateway(config, logger, ticks=now_ms, wall=wall_ms)
        await gateway.start()
        try:
            made = SleepyFleet(plan, gateway, Answers(gateway.connection.client))
            await made.add()
            loop.begin()
            try:
                yield made
            finally:
                loop.set_real(True)
                for node in made.nodes:
                    node.off()
        finally:
            await gateway.stop()


async def run_fleet(
    plan: FleetPlan,
    folder: Path,
    logger: Logger,
    progress: Callable[[float, SleepyFleet], None] = lambda seconds, fleet: None,
    *,
    durability: str = "crash",
) -> Summary:
    """A whole life of a fleet, and what came of it."""
    loop = running()
    async with fleet(plan, folder, logger, durability=durability) as made:
        started_at, start = time.monotonic(), loop.time()
        await made.live(86_400 * plan.days, progress)
        summary = made.summary(loop.time() - start, time.monotonic() - started_at)
        with loop.real():
            await made.check(summary)
        return summary
