"""Uplinks reach the hub exactly once and in order, whatever fails in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from nats_rig import PATIENCE_S, Fleet, Rig, assert_once_and_in_order, until

from petiole_gateway.nats.barrier import Barrier, Durability
from petiole_gateway.nats.errors import BarrierError, ConfigError, SequenceError, StoreBusy
from petiole_gateway.nats.uplink_lane import Uplink


async def test_every_uplink_reaches_the_hub_once_with_least_privilege(rig: Rig) -> None:
    """More than 10,000: without the right to flow control as many pass as may be unacknowledged, and then nothing."""
    fleet = Fleet(20)
    await rig.start()
    store = await rig.store(fleet)
    await rig.source()
    await rig.linked()
    await fleet.send(store, 600)
    await fleet.all_durable(store)
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)
    assert_once_and_in_order(fleet.durable, fleet)
    assert store.metrics.duplicates_total == 0
    assert 0 < store.metrics.barrier_total < 1200

    async def acknowledged() -> bool:
        consumer = await rig.api.consumer_info("UP", "hub")
        assert consumer is not None
        return consumer["num_ack_pending"] == 0 and consumer["ack_floor"]["consumer_seq"] > 0

    await until(acknowledged, "the leaf knows what the hub has, so it may evict it", timeout_s=15)


async def test_a_leaf_without_hub_stores_and_the_hub_gets_all_later(rig: Rig) -> None:
    fleet = Fleet(5)
    await rig.start(with_hub=False)
    store = await rig.store(fleet)
    await fleet.send(store, 100)
    await fleet.all_durable(store)
    assert not rig.leaf.link_up
    await rig.start_hub()
    await rig.source()
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)


async def test_a_cut_link_delays_and_loses_nothing(rig: Rig) -> None:
    fleet = Fleet(10)
    await rig.start()
    store = await rig.store(fleet)
    await rig.source()
    await rig.linked()
    await fleet.send(store, 50)
    rig.proxy.cut()
    await rig.linked(False)
    await fleet.send(store, 200)
    await fleet.all_durable(store)
    rig.proxy.restore()
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)


async def test_a_frozen_link_is_noticed_and_loses_nothing(rig: Rig) -> None:
    fleet = Fleet(10)
    await rig.start()
    store = await rig.store(fleet)
    await rig.source()
    await rig.linked()
    rig.proxy.freeze()
    await fleet.send(store, 200)
    await fleet.all_durable(store)
    await rig.linked(False)
    rig.proxy.restore()
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)


async def test_killing_the_leaf_while_publishing_keeps_order_and_loses_nothing(rig: Rig) -> None:
    fleet = Fleet(20)
    chance = random.Random(7)
    await rig.start()
    store = await rig.store(fleet)
    await rig.source()
    sending = asyncio.create_task(fleet.send(store, 300))
    for _ in range(3):
        stored = store.metrics.stored_total + chance.randrange(200, 900)
        await until(lambda stored=stored: store.metrics.stored_total > stored, "uplinks flow")
        await rig.leaf.kill()
        await until(lambda: not store.is_healthy, "the store notices")
    await sending
    await fleet.all_durable(store)
    assert rig.leaf.restarts_total == 3
    assert store.metrics.retried_total > 0
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)
    assert_once_and_in_order(fleet.durable, fleet)


async def test_killing_all_hubs_delays_and_loses_nothing(cluster_rig: Rig) -> None:
    rig = cluster_rig
    fleet = Fleet(10)
    await rig.start()
    store = await rig.store(fleet)
    await rig.source()
    await rig.linked()
    await fleet.send(store, 100)
    sending = asyncio.create_task(fleet.send(store, 200))
    for index in range(3):
        await rig.hub.kill(index)
    await sending
    await fleet.all_durable(store)
    for index in range(3):
        await rig.hub.restart(index, wait=False)
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)


async def test_a_new_gateway_process_knows_what_is_stored(rig: Rig) -> None:
    fleet = Fleet(20)
    await rig.start()
    await rig.source()
    for _ in range(3):
        store = await rig.store(fleet)
        await fleet.resend(store)
        sending = asyncio.create_task(fleet.send(store, 40))
        await until(lambda store=store: store.metrics.durable_total > 100, "uplinks flow")
        await rig.crash_store(store)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    store = await rig.store(fleet)
    await fleet.resend(store)
    await fleet.all_durable(store)
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)
    for device, following in fleet.next.items():
        assert await store.last_sequence(device) == following - 1


async def test_a_repetition_after_days_is_recognised_by_its_sequence(rig: Rig) -> None:
    """The store is asked nothing first, and message ids are of no help: they are forgotten in minutes."""
    fleet = Fleet(1)
    await rig.start(with_hub=False)
    store = await rig.store(fleet, with_hub=False)
    await fleet.send(store, 10)
    await fleet.all_durable(store)
    await store.stop()
    await rig.api.request(
        "STREAM.UPDATE.UP",
        {**(await rig.api.stream_info("UP"))["config"], "duplicate_window": 100_000_000},  # type: ignore[index]
    )
    await rig.leaf.restart()
    await until(lambda: rig.leaf.restarts_total == 1 and rig.connection.epoch == 2, "the leaf is back")
    fleet.durable.clear()
    store = await rig.store(fleet, with_hub=False)
    for sequence in range(1, 13):
        store.submit(fleet.uplink("dev00", sequence))
    await fleet.all_durable(store)
    assert fleet.durable["dev00"] == list(range(1, 13))
    info = await rig.api.stream_info("UP")
    assert info is not None
    assert info["state"]["messages"] == 12


async def test_a_frozen_leaf_makes_the_store_busy_and_recovers(rig: Rig) -> None:
    fleet = Fleet(4)
    await rig.start()
    store = await rig.store(fleet)
    await rig.source()
    await fleet.send(store, 20)
    await fleet.all_durable(store)
    pid = rig.leaf.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        sending = asyncio.create_task(fleet.send(store, 20))
        await until(lambda: not store.is_healthy, "the connection is given up")
        await until(lambda: store.metrics.busy_total > 0 or sending.done(), "nodes are told busy")
    finally:
        os.kill(pid, signal.SIGCONT)
    await sending
    await fleet.all_durable(store)
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)


async def test_wrong_uplinks_are_refused_at_once(rig: Rig) -> None:
    fleet = Fleet(1)
    await rig.start(with_hub=False)
    store = await rig.store(fleet)
    store.submit(fleet.uplink("dev00", 5))
    with pytest.raises(SequenceError) as caught:
        store.submit(fleet.uplink("dev00", 5))
    assert (caught.value.device, caught.value.sequence, caught.value.last) == ("dev00", 5, 5)
    for subject in ("up.site2.dev00.t", "up.site1.dev01.t", "up.site1.dev00", "up.site1.dev00.a b", "up.site1.dev00.>"):
        with pytest.raises(ConfigError):
            store.submit(Uplink("dev00", 9, subject, b""))
    with pytest.raises(ConfigError):
        store.submit(Uplink("dev00", 9, "up.site1.dev00.t", bytes(70_000)))
    await store.stop()
    with pytest.raises(StoreBusy):
        store.submit(fleet.uplink("dev00", 10))


async def test_nothing_is_durable_before_a_barrier_that_began_after_its_puback(rig: Rig) -> None:
    fleet = Fleet(3)
    await rig.start(with_hub=False)
    store = await rig.store(fleet)
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = store._barrier._sync

    def held() -> None:
        try:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"the barrier was not let through within {PATIENCE_S:g} s") from None
        real()

    store._barrier._sync = held  # type: ignore[method-assign]
    await fleet.send(store, 5)
    await until(lambda: store.metrics.stored_total == 15, "all have their PubAck")
    assert fleet.durable_total == 0
    gate.set()
    await fleet.all_durable(store)
    assert fleet.durable_total == 15


async def test_a_failing_disk_acknowledges_nothing(tmp_path: Path) -> None:
    passed: list[int] = []
    failures: list[BarrierError] = []
    barrier = Barrier(tmp_path / "absent", Durability.POWER_LOSS, on_passed=passed.append, on_failed=failures.append)
    barrier.request()
    task = asyncio.create_task(barrier.run())
    await until(lambda: bool(failures), "the failure is reported")
    assert not passed
    assert failures[0].errno == 2
    task.cancel()
    barrier.close()


async def test_a_leaf_on_another_machine_cannot_promise_power_loss() -> None:
    with pytest.raises(ConfigError, match="crash"):
        Barrier(None, Durability.POWER_LOSS, on_passed=lambda number: None)
