"""A fleet that sleeps, for a day, against the real gateway and a real server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gateway.memory import NullLogger
from tests.gateway.real_time import until

from petiole_tools.sim.sleepy_fleet import FleetPlan, Summary, fleet, run_fleet
from petiole_tools.sim.virtual_loop import run, running

# Late by the radio (15 ms), rounded twice, and 20 ppm of the time that a reading waited: no longer than an hour here.
TIME_ERROR_MS = 15 + 2 + 72


def life(folder: Path, plan: FleetPlan, durability: str = "crash") -> Summary:
    return run(run_fleet(plan, folder, NullLogger(), durability=durability))


def assert_all_is_there(summary: Summary) -> None:
    assert (summary.lost, summary.duplicated, summary.out_of_order, summary.foreign) == (0, 0, 0, 0)
    assert summary.stored == summary.accepted > 0
    assert summary.worst_time_error_ms <= TIME_ERROR_MS
    assert summary.answers_given_up == 0


def test_a_day_of_300_sleepy_nodes_puts_every_reading_into_the_stream_once_in_order_with_its_time(
    tmp_path: Path,
) -> None:
    summary = life(tmp_path, FleetPlan(nodes=300, days=1, period_s=600, seed=1, loss=0.02, cut_every_s=400_000))
    assert_all_is_there(summary)
    assert 42_500 < summary.wakes < 43_900
    assert summary.counts["power_cuts"] > 0
    # One frame each way is the whole wake, but for what is lost and for joins.
    assert summary.frames_per_wake < 2.2
    assert summary.round_trips_per_wake < 1.1


def test_the_same_seed_gives_the_same_frames_and_another_one_others(tmp_path: Path) -> None:
    plan = {"nodes": 40, "days": 0.15, "loss": 0.1, "readings": 2, "cut_every_s": 20_000.0}
    first, again = (life(tmp_path / name, FleetPlan(seed=3, **plan)) for name in ("first", "again"))  # type: ignore[arg-type]
    other = life(tmp_path / "other", FleetPlan(seed=4, **plan))  # type: ignore[arg-type]
    assert_all_is_there(first)
    assert first.repeatable() == again.repeatable()
    assert first.trace != other.trace


def test_the_disk_is_waited_for_and_changes_nothing_of_the_order(tmp_path: Path) -> None:
    plan = FleetPlan(nodes=20, days=0.05, loss=0.05, seed=2)
    first, again = (life(tmp_path / name, plan, "power-loss") for name in ("first", "again"))
    assert_all_is_there(first)
    assert first.repeatable() == again.repeatable()


def test_a_leaf_that_is_killed_in_the_night_costs_no_reading(tmp_path: Path) -> None:
    async def main() -> Summary:
        loop = running()
        async with fleet(FleetPlan(nodes=30, days=0.05, seed=5), tmp_path, NullLogger()) as made:

            async def kill() -> None:
                await asyncio.sleep(1500)
                leaf = made.gateway.leaf
                assert leaf is not None
                with loop.real():  # the server starts in its own time
                    epoch = made.gateway.connection.epoch
                    await leaf.kill()
                    await until(lambda: made.gateway.connection.epoch > epoch and made.gateway.store.is_healthy)

            killing = asyncio.create_task(kill())
            await made.live(86_400 * made.plan.days, lambda seconds, fleet: None)
            await killing
            summary = made.summary(0, 0)
            with loop.real():
                await made.check(summary)
            return summary

    summary = run(main())
    assert (summary.lost, summary.duplicated, summary.out_of_order) == (0, 0, 0)
    assert summary.stored == summary.accepted > 0


def test_after_a_power_cut_all_of_2000_sleepy_nodes_have_joined_within_minutes(tmp_path: Path) -> None:
    async def main() -> tuple[float, Summary]:
        loop = running()
        plan = FleetPlan(nodes=2000, days=1200 / 86_400, period_s=600, spread=0.001, loss=0.02, seed=6)
        async with fleet(plan, tmp_path, NullLogger()) as made:
            start, joined_s = loop.time(), 0.0

            async def watch() -> None:
                nonlocal joined_s
                while not all(node.has_session for node in made.nodes):  # noqa: ASYNC110 - virtual time costs nothing
                    await asyncio.sleep(0.1)
                joined_s = loop.time() - start

            watching = asyncio.create_task(watch())
            await made.live(86_400 * plan.days, lambda seconds, fleet: None)
            await watching
            summary = made.summary(0, 0)
            with loop.real():
                await made.check(summary)
            return joined_s, summary

    joined_s, summary = run(main())
    assert_all_is_there(summary)
    assert joined_s < 60
    assert summary.gateway_dropped.get("join_rate", 0) == 0


def assert_mail_is_right(summary: Summary) -> None:
    mail = summary.mail
    assert mail.wrong == []
    assert mail.sent == sum(mail.states.values()) > 0
    assert mail.states["delivered"] > 0.85 * mail.sent
    assert mail.again > 0, "power was lost in commands, which came again and were told so"
    assert set(mail.states) <= {"delivered", "expired", "replaced"}


def test_commands_to_sleepy_nodes_are_carried_out_once_or_known_to_come_again(tmp_path: Path) -> None:
    plan = FleetPlan(nodes=40, days=0.2, seed=9, loss=0.1, cut_every_s=20_000, mail_every_s=2000, dies=0.1)
    first, again = (life(tmp_path / name, plan) for name in ("first", "again"))
    assert_all_is_there(first)
    assert_mail_is_right(first)
    assert first.repeatable() == again.repeatable()


def test_nodes_that_wake_every_few_seconds_lose_nothing_between_their_wakes(tmp_path: Path) -> None:
    """A gateway takes a node for asleep after ten seconds of silence; these are never silent for so long."""
    plan = FleetPlan(nodes=12, days=0.01, period_s=2, seed=6, loss=0.2, mail_every_s=30)
    summary = life(tmp_path, plan)
    assert_all_is_there(summary)
    assert summary.mail.wrong == []
    assert summary.mail.sent == sum(summary.mail.states.values()) > 200
    assert summary.mail.again > 10, "a wake was over before a command had ended"
    assert summary.mail.states["delivered"] > 0.9 * summary.mail.sent


# On two cores with eight other programs each took 12 to 14 minutes.
@pytest.mark.timeout(1800)
@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_of_mail_for_2000_sleepy_nodes(tmp_path: Path, seed: int) -> None:
    plan = FleetPlan(nodes=2000, seed=seed, loss=0.05, cut_every_s=200_000, mail_every_s=14_400, dies=0.05)
    summary = life(tmp_path, plan)
    assert_all_is_there(summary)
    assert_mail_is_right(summary)


def test_ctrl_c_ends_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "petiole_tools", "sim", "--virtual", "--nodes", "50", "--days", "300"]
    with subprocess.Popen(
        command, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        assert "wakes" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
