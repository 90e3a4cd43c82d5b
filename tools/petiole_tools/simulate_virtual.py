"""A fleet of sleepy nodes with a gateway and a server of its own, in virtual time: days in minutes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from petiole_gateway.log import configure
from petiole_gateway.monitoring.health import span
from petiole_tools.arguments import seconds, share
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import note, say_fields, say_json
from petiole_tools.sim.sleepy_fleet import FleetPlan, SleepyFleet, Summary, run_fleet

# Two-byte addresses are 15 bits; and a node takes 50 kB of this process.
MAX_NODES = 20_000
DEFAULT_NODES = 300
DEFAULT_PERIOD = "600s"
# A wake has six tenths of it, in which the first timeout of a second has to run down.
MIN_PERIOD_S = 2.0
_PROGRESS_S = 2.0
MAX_NAMED = 10


def plan(
    nodes: int | None, days: float, period: str | None, seed: int, loss: str, mail: str | None = None
) -> FleetPlan:
    """What the options mean. CliError."""
    nodes = nodes or DEFAULT_NODES
    if nodes > MAX_NODES:
        raise CliError(f"--nodes {nodes}: at most {MAX_NODES} in a process", "start several simulations")
    period_s = seconds("--period", period or DEFAULT_PERIOD)
    if period_s < MIN_PERIOD_S:
        raise CliError(f"--period {period}: sleepy nodes need {MIN_PERIOD_S:g} s or more", "for example 600s")
    mail_every_s = 0.0 if mail is None else seconds("--mail", mail)
    return FleetPlan(
        nodes=nodes,
        days=days,
        period_s=period_s,
        seed=seed,
        loss=share("--loss", loss),
        mail_every_s=mail_every_s,
    )


async def simulate_virtual(options: Options, wanted: FleetPlan) -> None:
    """Run a fleet for its days, then say what came of it. CliError if a reading was lost, stored twice or misplaced."""
    if not options.as_json:
        note(f"{wanted.nodes} sleepy nodes and a gateway of their own, {wanted.days:g} days; Ctrl-C ends it")
    progress = _Progress(wanted, is_told=not options.as_json)
    with tempfile.TemporaryDirectory(prefix="petiole-virtual-") as folder:
        summary = await run_fleet(wanted, Path(folder), configure("error", "auto"), progress.tell)
    if options.as_json:
        say_json(summary.document())
    else:
        say_fields(_fields(summary))
    wrong = summary.lost + summary.duplicated + summary.out_of_order + summary.foreign
    if wrong:
        raise CliError(f"{wrong} readings are not in the stream as they should be", f"again with --seed {wanted.seed}")
    if summary.mail.wrong:
        problem = f"{len(summary.mail.wrong)} commands did not end as they should"
        raise CliError(problem, f"again with --seed {wanted.seed}", summary.mail.wrong[:MAX_NAMED])


class _Progress:
    """A line every few seconds of real time."""

    def __init__(self, wanted: FleetPlan, *, is_told: bool) -> None:
        self._wanted = wanted
        self._is_told = is_told
        self._started_at = self._told_at = time.monotonic()

    def tell(self, passed_s: float, fleet: SleepyFleet) -> None:
        now = time.monotonic()
        if not self._is_told or now - self._told_at < _PROGRESS_S:
            return
        self._told_at = now
        part = passed_s / (86_400 * self._wanted.days)
        wakes = sum(len(node.wakes) for node in fleet.nodes)
        left_s = (now - self._started_at) * (1 - part) / part
        note(f"{part:4.0%}: {span(passed_s)}, {wakes} wakes, {span(left_s)} to go")


def _fields(summary: Summary) -> list[tuple[str, str]]:
    counts = summary.counts
    return [
        ("time", f"{span(summary.virtual_s)} in {span(summary.real_s)}"),
        ("wakes", f"{summary.wakes}, {counts.get('gave_up', 0)} without an answer, {counts.get('joins', 0)} joins"),
        ("readings", f"{summary.accepted} taken, {summary.stored} in the stream"),
        ("wrong", f"{summary.lost} lost, {summary.duplicated} twice, {summary.out_of_order} out of order"),
        ("worst time", f"{summary.worst_time_error_ms} ms off"),
        ("frames a wake", f"{summary.frames_per_wake:.2f}, {summary.bytes_per_wake:.1f} bytes"),
        ("round trips a wake", f"{summary.round_trips_per_wake:.2f}"),
        ("awake a wake", f"{summary.awake_ms_per_wake:.0f} ms"),
        ("frames lost", f"{counts.get('lost_up', 0)} to the gateway, {counts.get('lost_down', 0)} to nodes"),
        *_mail_fields(summary),
        ("trace", summary.trace),
    ]


def _mail_fields(summary: Summary) -> list[tuple[str, str]]:
    mail = summary.mail
    if not summary.plan["mail_every_s"]:
        return []
    ends = ", ".join(f"{count} {state}" for state, count in mail.states.items())
    return [("commands", f"{mail.sent} sent, {mail.refused} refused; {ends}; {mail.again} begun again")]
