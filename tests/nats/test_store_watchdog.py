"""A disk that was full: the leaf server takes readings again as soon as there is room, and none is lost or twice.

Stood in for by a limit on the size of files, which the real server meets as it meets a full disk.
"""

from __future__ import annotations

import asyncio
import itertools
import resource

import pytest
from nats_rig import SITE, Fleet, Rig, until

from petiole_gateway.nats import store_watchdog
from petiole_gateway.nats.store_watchdog import StoreWatchdog
from petiole_gateway.nats.streams import DEFAULT_MAX_BYTES
from petiole_gateway.nats.uplink_admission import Admission, StoreMetrics
from petiole_gateway.nats.uplink_eviction import StoreSpace


def limit(rig: Rig, size: int) -> None:
    assert rig.leaf.pid is not None
    resource.prlimit(rig.leaf.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def fill(rig: Rig, fleet: Fleet) -> None:
    """Until the server cannot write."""
    limit(rig, 8192)
    await until(lambda: bool(rig.leaf.write_problem), "the server says what it cannot write")
    assert rig.leaf.write_problem == "UP: file too large"
    assert fleet.durable_total < sum(following - 1 for following in fleet.next.values())


async def test_a_store_that_could_not_be_written_takes_readings_again_when_there_is_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_watchdog, "ROOM", 1 << 60)
    await rig.start(with_hub=False, store_poll_s=0.1)
    fleet = Fleet(5)
    store = await rig.store(fleet, with_hub=False)
    sending = asyncio.create_task(fleet.send(store, 100))
    await fill(rig, fleet)
    await sending
    await until(lambda: store.waiting_s > 1, "what is not stored is seen to wait")
    pid = rig.leaf.pid
    limit(rig, resource.RLIM_INFINITY)
    await asyncio.sleep(0.5)  # five looks
    assert (rig.leaf.pid, rig.leaf.write_restarts_total) == (pid, 0), "without room a restart would help nobody"
    assert rig.leaf.write_problem

    monkeypatch.setattr(store_watchdog, "ROOM", 1 << 20)
    await fleet.all_durable(store)
    assert rig.leaf.write_restarts_total == 1
    assert "[ERR] started again: it could not write (UP: file too large), and its disk has room" in rig.leaf_log
    assert not any(line.startswith("[1") or line.startswith("20") for line in rig.leaf_log), "their times are the log's"
    await until(lambda: not rig.leaf.write_problem, "it can write")
    assert store.waiting_s == 0
    for device, sequences in fleet.durable.items():
        assert sequences == list(range(1, 101)), device
    info = await rig.api.request("STREAM.INFO.UP", {"subjects_filter": f"up.{SITE}.>"})
    assert info["state"]["subjects"] == {f"up.{SITE}.{device}.t": 100 for device in fleet.next}


async def test_a_disk_that_fails_for_another_reason_costs_ever_fewer_restarts(rig: Rig) -> None:
    await rig.start(with_hub=False, store_poll_s=3600)
    fleet = Fleet(5)
    store = await rig.store(fleet, with_hub=False)
    restarts: list[float] = []

    async def in_vain() -> None:
        restarts.append(asyncio.get_running_loop().time())

    monitor_port = int(rig.leaf.access.monitor_url.rpartition(":")[2])
    watchdog = StoreWatchdog(monitor_port, rig.leaf.store_dir, restart=in_vain, poll_s=0.1)
    watching = asyncio.create_task(watchdog.run())
    sending = asyncio.create_task(fleet.send(store, 100))
    limit(rig, 8192)
    await until(lambda: len(restarts) == 4, "four restarts")
    gaps = [after - before for before, after in itertools.pairwise(restarts)]
    assert all(gap >= least for gap, least in zip(gaps, (0.2, 0.4, 0.8), strict=True)), gaps
    watching.cancel()
    limit(rig, resource.RLIM_INFINITY)
    await rig.leaf.restart()
    await sending
    await fleet.all_durable(store)


async def test_a_server_that_does_not_answer_is_not_one_that_cannot_write(rig: Rig) -> None:
    await rig.start(with_hub=False, store_poll_s=0.05)
    await rig.leaf.kill()
    await until(lambda: rig.leaf.restarts_total == 1, "it is started again")
    assert (rig.leaf.write_problem, rig.leaf.write_restarts_total) == ("", 0)


async def test_a_store_in_which_one_reading_becomes_durable_does_not_stand_still() -> None:
    admission = Admission(SITE, StoreSpace(DEFAULT_MAX_BYTES), StoreMetrics(), max_pending=10)
    admission.accepting = True
    first, second = (Fleet(1).uplink("dev00", number) for number in (1, 2))
    admission.admit(first)
    admission.admit(second)
    admission._moved_at -= 1000
    assert admission.waiting_s >= 1000
    admission.release([first])
    assert admission.waiting_s < 1000
    admission.release([second])
    assert admission.waiting_s == 0
