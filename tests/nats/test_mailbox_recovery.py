"""Mail at a site without a hub, and after disks were lost, rolled back, or emptied by hand."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mailbox_rig import MailRig
from nats_rig import SITE, until

from petiole_gateway.hub import mailbox_states as states
from petiole_gateway.hub.mailbox_item import Change
from petiole_gateway.nats import mailbox_settlement
from petiole_gateway.nats.mailbox_client import Receipt
from petiole_gateway.nats.mailbox_streams import ensure_leaf_mailbox, remove_hub_mailbox

HOUR_S = 3600.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[MailRig]:
    rig = MailRig(tmp_path)
    yield rig
    await rig.stop()


async def ends(rig: MailRig, *receipts: Receipt) -> list[str]:
    return [str((await rig.at_hub.wait(each, timeout_s=30))["state"]) for each in receipts]


async def test_a_site_without_a_hub_has_mailboxes_and_a_hub_can_be_added_later(rig: MailRig) -> None:
    device = rig.device("alone")
    await rig.start_mail(with_hub=False)
    done = await rig.at_site.send(SITE, "alone", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    assert device.wake() == [done.id]
    assert (await rig.at_site.wait(done, timeout_s=10))["state"] == states.DELIVERED
    async with asyncio.timeout(10):  # out of its box right after it is told
        while await rig.boxed("OUT", at_leaf=True):  # noqa: ASYNC110 - the stream tells nobody
            await asyncio.sleep(0.02)
    waits = await rig.at_site.send(SITE, "alone", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    await rig.crash_mail()
    await rig.open_mail(with_hub=False)
    assert [item.id for item in rig.store_.mailbox.items("alone")] == [waits.id]
    found = {each["id"]: each["state"] for each in await rig.at_site.items(SITE, "alone")}
    assert found == {done.id: states.DELIVERED, waits.id: states.PENDING}
    # The hub.
    await rig.crash_mail()
    await rig.start_hub()
    await rig.make_boxes()
    await rig.linked()
    await rig.open_mail()
    await until(lambda: rig.store_.is_hub_reached, "the hub")
    from_hub = await rig.at_hub.send(SITE, "alone", "x", expires_in_s=HOUR_S)
    await device.mail(2)
    assert device.wake() == [waits.id, from_hub.id]
    # What ended before there was a hub is told, too.
    assert await ends(rig, done, waits, from_hub) == [states.DELIVERED] * 3
    await rig.emptied("alone")


async def test_an_end_that_was_not_deleted_before_a_crash_is_deleted_after_it_without_a_hub(rig: MailRig) -> None:
    device = rig.device("alone")
    await rig.start_mail(with_hub=False)
    receipt = await rig.at_site.send(SITE, "alone", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    deleted = rig.store_._feeds["site"].delete

    async def never(sequence: int) -> None:
        await asyncio.Event().wait()

    rig.store_._feeds["site"].delete = never  # type: ignore[method-assign]
    assert device.wake() == [receipt.id]
    assert (await rig.at_site.wait(receipt, timeout_s=10))["state"] == states.DELIVERED
    await rig.crash_mail()
    del deleted
    assert await rig.boxed("OUT", at_leaf=True) == 1
    await rig.open_mail(with_hub=False)
    assert device.fetch() == []

    async def empty() -> bool:
        return await rig.boxed("OUT", at_leaf=True) == 0

    await until(empty, "it is out of the stream")


async def test_a_new_disk_in_the_gateway_gets_all_mail_from_the_hub(rig: MailRig) -> None:
    device = rig.device("reborn")
    await rig.start_mail()
    done = await rig.at_hub.send(SITE, "reborn", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    device.wake()
    await rig.emptied("reborn")
    waits = [await rig.at_hub.send(SITE, "reborn", "x", expires_in_s=HOUR_S) for _ in range(3)]
    await device.mail(3)
    await rig.crash_mail()
    await rig.leaf.stop()
    shutil.rmtree(rig.leaf.store_dir)
    await rig.leaf.start()
    await rig.open_mail()
    await device.mail(3)
    assert device.wake() == [each.id for each in waits]
    assert await ends(rig, done, *waits) == [states.DELIVERED] * 4
    await rig.emptied("reborn")


async def test_an_end_that_the_hub_knows_and_the_disk_forgot_is_not_repeated(rig: MailRig) -> None:
    """The leaf's disk goes back to before the end; the hub has deleted the item since."""
    device = rig.device("amnesic")
    await rig.start_mail()
    receipt = await rig.at_hub.send(SITE, "amnesic", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    await until(lambda: rig.store_._records.pending == 0, "the record is on the leaf")
    await rig.leaf.stop()
    saved = rig.folder / "saved"
    shutil.copytree(rig.leaf.store_dir, saved)
    await rig.leaf.start()
    await until(lambda: rig.store_.is_hub_reached and rig.connection.is_connected, "the hub")
    device.wake()
    assert await ends(rig, receipt) == [states.DELIVERED]
    await rig.emptied("amnesic")
    await until(lambda: len(rig.store_.settlement) == 0, "settled")
    await rig.crash_mail()
    await rig.leaf.stop()
    shutil.rmtree(rig.leaf.store_dir)
    shutil.move(saved, rig.leaf.store_dir)
    await rig.leaf.start()
    await rig.open_mail()
    await until(lambda: rig.store_.is_hub_reached, "the hub")
    assert device.fetch() == []
    assert await ends(rig, receipt) == [states.DELIVERED]
    info = await rig.api.stream_info("KV_mailbox")
    assert info is not None
    assert info["state"]["messages"] == 0


async def test_what_was_taken_out_of_the_hubs_stream_by_hand_is_not_delivered(rig: MailRig) -> None:
    device = rig.device("purged")
    await rig.start_mail()
    gone = await rig.at_hub.send(SITE, "purged", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    await rig.hub_api.request(f"STREAM.PURGE.DOWN_{SITE}")
    await rig.cut()
    await rig.restore()
    assert device.fetch() == []
    assert await ends(rig, gone) == [states.CANCELLED]
    after = await rig.at_hub.send(SITE, "purged", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    assert device.wake() == [after.id]


async def test_a_stream_that_was_made_anew_on_the_hub_is_read_from_its_beginning(rig: MailRig) -> None:
    device = rig.device("anew")
    await rig.start_mail()
    for index in range(5):
        await rig.at_hub.send(SITE, "anew", "x", expires_in_s=HOUR_S, id=f"old{index}")
    await device.mail(5)
    await rig.cut()
    assert await remove_hub_mailbox(rig.hub_api, SITE)
    assert not await remove_hub_mailbox(rig.hub_api, SITE)
    await rig.make_boxes()
    await rig.at_hub.send(SITE, "anew", "x", expires_in_s=HOUR_S, id="new")
    # Numbers of the old stream are in the records, so a restart makes it no easier.
    await rig.crash_mail()
    await rig.open_mail()
    await rig.restore()
    assert device.wake() == ["new"]
    await rig.emptied("anew")


async def test_a_notice_that_was_lost_is_missed_when_the_next_one_comes(rig: MailRig) -> None:
    device = rig.device("deaf")
    await rig.start_mail()
    await until(lambda: rig.store_.is_hub_reached, "the hub")
    feed = rig.store_._feeds["hub"]
    witness = await rig.connection.client.subscribe(f"in.{SITE}.mail.>")
    await rig.connection.client.flush()
    await feed.stop()
    await rig.at_hub.send(SITE, "deaf", "x", expires_in_s=HOUR_S, id="unheard")
    await witness.next_msg(10)  # it has passed
    await feed.start()
    await rig.store_._connection.client.flush()
    await rig.at_hub.send(SITE, "deaf", "x", expires_in_s=HOUR_S, id="heard")
    await device.mail(2)
    assert device.wake() == ["unheard", "heard"]
    await rig.emptied("deaf")


async def test_two_gateways_of_a_site_have_the_same_boxes(rig: MailRig) -> None:
    device = rig.device("shared")
    await rig.start_mail()
    first = rig.store_
    await rig.open_mail()
    second = rig.store_
    try:
        events = await rig.listen(rig.hub_connection, f"event.{SITE}.shared.mailbox")
        receipts = [await rig.at_hub.send(SITE, "shared", "x", expires_in_s=HOUR_S) for _ in range(2)]
        receipts.append(await rig.at_site.send(SITE, "shared", "x", expires_in_s=HOUR_S))
        for store in (first, second):
            await until(lambda store=store: store.waiting("shared") == 3, "three items in each")
        (item, *_) = first.take("shared", 100, lambda item: 100)
        first.result("shared", item.number, 0, None)
        await until(lambda: second.waiting("shared") == 2, "the other knows that it has ended")
        assert device.wake() == [receipt.id for receipt in receipts[1:]]
        await until(lambda: first.waiting("shared") == 0, "and the reverse")
        assert await ends(rig, *receipts) == [states.DELIVERED] * 3
        await rig.emptied("shared")
        for receipt in receipts:
            assert events.states(receipt.id).count(states.DELIVERED) == 1
    finally:
        await first.stop()


async def test_a_gateway_that_is_slow_does_not_write_over_the_end_that_another_has_told(rig: MailRig) -> None:
    await rig.start_mail()
    first = rig.store_
    await rig.open_mail()
    second = rig.store_
    try:
        receipt = await rig.at_hub.send(SITE, "late", "x", expires_in_s=HOUR_S)
        for store in (first, second):
            await until(lambda store=store: store.waiting("late") == 1, "the item in each")
        (item,) = second.mailbox.items("late")
        late = Change(item, states.PENDING, item.queued_at)
        (ours,) = first.take("late", 100, lambda item: 100)
        first.result("late", ours.number, 0, None)
        assert await ends(rig, receipt) == [states.DELIVERED]
        await rig.emptied("late")
        await until(lambda: not first._records.pending and not len(first.settlement), "settled")
        second._desk.record(late)
        second._desk._tell_hub_of_pending(late)
        assert second._hub_documents is not None
        writers = (second._records, second._hub_documents)
        await until(lambda: not any(writer.pending for writer in writers), "written, or not")
        assert await ends(rig, receipt) == [states.DELIVERED]
        assert {each["id"]: each["state"] for each in await rig.records()}[receipt.id] == states.DELIVERED
        assert [writer.refused_total for writer in writers] == [0, 0]
    finally:
        await first.stop()


async def test_a_server_that_is_behind_brings_nothing_back(rig: MailRig) -> None:
    """A follower may still show what its leader has deleted."""
    device = rig.device("stale")
    await rig.start_mail()
    await rig.at_hub.send(SITE, "stale", "x", expires_in_s=HOUR_S, id="once")
    await device.mail(1)
    message = await rig.hub_api.last_message(f"DOWN_{SITE}", f"down.{SITE}.stale.q")
    assert device.wake() == ["once"]
    await rig.emptied("stale")
    await until(lambda: len(rig.store_.settlement) == 0, "settled")
    assert message is not None
    rig.store_._desk.arrived("hub", message)
    assert device.fetch() == []


async def test_a_leaf_that_lost_its_disk_under_a_running_gateway_gets_its_records_back(rig: MailRig) -> None:
    device = rig.device("swapped")
    await rig.start_mail()
    receipt = await rig.at_hub.send(SITE, "swapped", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    await until(lambda: rig.store_._records.pending == 0, "the record is on the leaf")
    await rig.leaf.stop()
    shutil.rmtree(rig.leaf.store_dir)
    await rig.leaf.start()

    async def recorded() -> bool:
        info = await rig.api.stream_info("KV_mailbox")
        return info is not None and info["state"]["messages"] == 1

    await until(recorded, "the record is written again")
    await rig.cut()
    await rig.crash_mail()
    await rig.open_mail()
    assert device.wake() == [receipt.id]
    await rig.restore()
    assert await ends(rig, receipt) == [states.DELIVERED]
    await rig.emptied("swapped")


async def test_streams_of_the_leaf_may_be_made_any_number_of_times(rig: MailRig) -> None:
    await rig.start(with_hub=False)
    assert await ensure_leaf_mailbox(rig.api, SITE)
    assert not await ensure_leaf_mailbox(rig.api, SITE)


async def test_an_end_that_was_given_up_is_not_told_as_pending_when_the_hub_is_back(
    rig: MailRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_settlement, "MAX_UNSETTLED", 3)
    await rig.start_mail()
    device = rig.device("kiln")
    await rig.cut()
    receipts = [await rig.at_site.send(SITE, "kiln", "x", expires_in_s=HOUR_S) for _ in range(6)]
    await device.mail(6)
    device.wake()
    assert rig.store_.settlement.lost_reports_total == 3
    await rig.restore()
    await until(lambda: len(rig.store_.settlement) == 0, "all that is left is settled")
    told = [await rig.at_hub.status(SITE, "kiln", receipt.id) for receipt in receipts]
    assert [each and each["state"] for each in told] == [None] * 3 + [states.DELIVERED] * 3
