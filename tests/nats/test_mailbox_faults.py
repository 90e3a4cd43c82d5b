"""Mail while links are cut and servers and gateways are killed: three hub servers, two sites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from mailbox_rig import MailRig
from nats_rig import SITE, until

from petiole_gateway.hub import mailbox_states as states
from petiole_gateway.hub.mailbox_states import FINAL
from petiole_gateway.nats.errors import LinkError
from petiole_gateway.nats.mailbox_client import MailboxClient, Receipt
from petiole_gateway.nats.mailbox_errors import SiteAwayError

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOUR_S = 3600.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MailRig]:
    """Three hub servers for all tests of this file, because they take seconds to start."""
    rig = MailRig(tmp_path_factory.mktemp("mail"), hub_size=3)
    try:
        await rig.start_mail(other=True)
        yield rig
    finally:
        await rig.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(cluster: MailRig) -> AsyncIterator[MailRig]:
    """The cluster as every test finds it, and leaves it."""
    await until(lambda: cluster.store_.is_hub_reached, "the gateway has read the hub's box")
    yield cluster
    cluster.proxy.restore()


async def sent(client: MailboxClient, device: str, id: str, **options: object) -> Receipt:
    """Send until it is accepted: a cluster that elects a leader takes nothing for a moment."""
    while True:
        try:
            settings = {"expires_in_s": HOUR_S, **options}
            return await client.send(SITE, device, "x", [id], id=id, **settings)  # type: ignore[arg-type]
        except LinkError:
            await asyncio.sleep(0.05)


async def end(client: MailboxClient, receipt: Receipt) -> str:
    return str((await client.wait(receipt, timeout_s=60))["state"])


async def test_mail_is_accepted_while_the_link_is_cut_and_delivered_after_it(rig: MailRig) -> None:
    device, other = rig.device("cut"), await rig.at_other()
    await rig.cut()
    early = await rig.at_hub.send(SITE, "cut", "x", expires_in_s=HOUR_S)
    foreign = await other.send(SITE, "cut", "x", expires_in_s=HOUR_S)
    assert [each["state"] for each in await rig.at_hub.items(SITE, "cut")] == [states.QUEUED] * 2
    assert device.fetch() == []
    await rig.restore()
    assert device.wake() == [early.id, foreign.id]
    assert await end(rig.at_hub, early) == await end(other, foreign) == states.DELIVERED
    await rig.emptied("cut")


async def test_mail_is_accepted_while_the_link_is_frozen(rig: MailRig) -> None:
    device = rig.device("frozen")
    rig.proxy.freeze()
    frozen = await rig.at_hub.send(SITE, "frozen", "x", expires_in_s=HOUR_S)
    local = await rig.at_site.send(SITE, "frozen", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    assert device.wake() == [local.id]
    await until(lambda: not rig.leaf.link_up, "the leaf notices the black hole")
    rig.proxy.restore()
    await device.mail(1)
    assert device.wake() == [frozen.id]
    assert await end(rig.at_hub, frozen) == await end(rig.at_hub, local) == states.DELIVERED
    await rig.emptied("frozen")


async def test_a_freeze_that_nobody_noticed_loses_nothing(rig: MailRig) -> None:
    device = rig.device("hiccup")
    rig.proxy.freeze()
    receipts = [await rig.at_hub.send(SITE, "hiccup", "x", expires_in_s=HOUR_S) for _ in range(5)]
    rig.proxy.restore()
    await device.mail(5)
    assert device.wake() == [receipt.id for receipt in receipts]
    await rig.emptied("hiccup")


async def test_a_site_without_its_link_delivers_what_was_sent_there_and_tells_the_hub_later(rig: MailRig) -> None:
    device = rig.device("island")
    known = await rig.at_hub.send(SITE, "island", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    await rig.cut()
    local = await rig.at_site.send(SITE, "island", "x", expires_in_s=HOUR_S)
    await device.mail(2)
    assert device.wake() == [known.id, local.id]
    assert await end(rig.at_site, local) == states.DELIVERED
    with pytest.raises(SiteAwayError):
        await rig.at_site.send("elsewhere", "d", "x", expires_in_s=HOUR_S)
    # The hub does not know yet, and keeps the item.
    assert await rig.boxed(device="island") == 1
    await rig.restore()
    assert await end(rig.at_hub, known) == await end(rig.at_hub, local) == states.DELIVERED
    await rig.emptied("island")
    assert device.fetch() == []


async def test_an_item_that_was_replaced_while_the_link_was_down_is_not_delivered(rig: MailRig) -> None:
    device = rig.device("replaced")
    seen = await rig.at_hub.send(SITE, "replaced", "x", expires_in_s=HOUR_S, key="k")
    await device.mail(1)
    await rig.cut()
    unseen = await rig.at_hub.send(SITE, "replaced", "x", expires_in_s=HOUR_S, key="k")
    newest = await rig.at_hub.send(SITE, "replaced", "x", expires_in_s=HOUR_S, key="k")
    assert await end(rig.at_hub, unseen) == states.REPLACED
    await rig.restore()
    assert device.wake() == [newest.id]
    assert await end(rig.at_hub, seen) == states.REPLACED
    await rig.emptied("replaced")


async def test_what_no_gateway_saw_before_it_was_replaced_is_told_for_good(rig: MailRig) -> None:
    heard = await rig.listen(rig.connection, f"event.{SITE}.unseen.mailbox")
    device = rig.device("unseen")
    seen = await rig.at_hub.send(SITE, "unseen", "x", expires_in_s=HOUR_S, key="k")
    await device.mail(1)
    await rig.cut()
    unseen = [await rig.at_hub.send(SITE, "unseen", "x", expires_in_s=HOUR_S, key="k") for _ in range(3)]
    newest = await rig.at_hub.send(SITE, "unseen", "x", expires_in_s=HOUR_S, key="k")
    await rig.restore()
    assert device.wake() == [newest.id]
    await rig.emptied("unseen")
    # The newest is in no box any more that could show that it came in their place.
    for receipt in (seen, *unseen):
        assert await end(rig.at_hub, receipt) == await end(rig.at_site, receipt) == states.REPLACED
        assert (await heard.end(receipt.id))["state"] == states.REPLACED
    assert heard.states(newest.id) == [states.PENDING, states.DELIVERED]
    assert [each["reason"] for each in heard.documents if each["id"] == unseen[0].id] == [
        f"by {newest.id}, before a gateway saw it"
    ]
    listed = {each["id"]: each["state"] for each in await rig.at_hub.items(SITE, "unseen")}
    assert listed == {**{each.id: states.REPLACED for each in (seen, *unseen)}, newest.id: states.DELIVERED}


async def test_what_was_delivered_stays_so_if_a_newer_one_takes_its_place_before_the_hub_hears_of_it(
    rig: MailRig,
) -> None:
    device = rig.device("crossed")
    done = await rig.at_hub.send(SITE, "crossed", "x", expires_in_s=HOUR_S, key="k")
    await device.mail(1)
    await rig.cut()
    assert device.wake() == [done.id]
    newer = await rig.at_hub.send(SITE, "crossed", "x", expires_in_s=HOUR_S, key="k")
    await rig.crash_mail()
    await rig.open_mail()
    await rig.restore()
    await device.mail(1)
    assert device.wake() == [newer.id]
    await rig.emptied("crossed")
    assert await end(rig.at_hub, done) == await end(rig.at_hub, newer) == states.DELIVERED


async def test_senders_of_one_key_at_the_same_moment_leave_nobody_untold(rig: MailRig) -> None:
    device = rig.device("crowd")
    await rig.cut()
    sent = await asyncio.gather(*(rig.at_hub.send(SITE, "crowd", "x", expires_in_s=HOUR_S, key="k") for _ in range(8)))
    await rig.restore()
    delivered = device.wake()
    await rig.emptied("crowd")
    ends = {receipt.id: await end(rig.at_hub, receipt) for receipt in sent}
    assert ends == {receipt.id: states.DELIVERED if receipt.id in delivered else states.REPLACED for receipt in sent}
    assert len(delivered) == 1


async def test_an_item_that_was_cancelled_while_the_link_was_down_is_not_delivered(rig: MailRig) -> None:
    device = rig.device("cancelled")
    seen = await rig.at_hub.send(SITE, "cancelled", "x", expires_in_s=HOUR_S)
    await device.mail(1)
    await rig.cut()
    unseen = await rig.at_hub.send(SITE, "cancelled", "x", expires_in_s=HOUR_S)
    later = await rig.at_hub.send(SITE, "cancelled", "x", expires_in_s=HOUR_S)
    await rig.at_hub.cancel(SITE, "cancelled", seen.id)
    await rig.at_hub.cancel(SITE, "cancelled", unseen.id)
    # From the site, of an item that the site has never seen.
    await rig.at_site.cancel(SITE, "cancelled", later.id)
    await until(lambda: len(rig.store_._desk.open_cancels) == 1, "the cancel waits for its item")
    await rig.restore()
    for receipt in (seen, unseen, later):
        assert await end(rig.at_hub, receipt) == states.CANCELLED
    assert device.fetch() == []
    await rig.emptied("cancelled")


async def test_items_that_arrive_after_their_deadline_are_said_to_be_expired(rig: MailRig) -> None:
    device = rig.device("late")
    seen = await rig.at_hub.send(SITE, "late", "x", expires_in_s=1.5)
    await device.mail(1)
    await rig.cut()
    unseen = await rig.at_hub.send(SITE, "late", "x", expires_in_s=1.5)
    # Until the item is gone from the device's box; the one that the gateway never saw has the same deadline.
    await until(lambda: rig.store_.waiting("late") == 0, "the first expires without a link")
    await until(lambda: rig.store_._wall() > unseen.expires_at, "the deadline of the second")
    await rig.restore()
    assert await end(rig.at_hub, seen) == await end(rig.at_hub, unseen) == states.EXPIRED
    assert (await rig.at_hub.status(SITE, "late", unseen.id))["attempts"] == 0  # type: ignore[index]
    assert device.fetch() == []
    await rig.emptied("late")


async def test_a_killed_gateway_goes_on_where_it_was(rig: MailRig) -> None:
    device = rig.device("restart")
    receipts = [await rig.at_hub.send(SITE, "restart", "x", [n], expires_in_s=HOUR_S) for n in range(4)]
    local = await rig.at_site.send(SITE, "restart", "x", expires_in_s=HOUR_S)
    await device.mail(5)
    answered, sent_only = device.fetch()[:2]
    device.answer(answered, 0, "done")
    await rig.crash_mail()
    await rig.open_mail()
    await until(lambda: rig.store_.is_hub_reached, "the hub's box is read")
    # The end may not have been recorded: then the item is sent again, and the device answers from memory.
    done = device.wake()
    assert set(done) >= {receipt.id for receipt in receipts[1:]} | {local.id, sent_only.id}
    for receipt in (*receipts, local):
        assert await end(rig.at_hub, receipt) == states.DELIVERED
    await rig.emptied("restart")


async def test_a_gateway_that_starts_without_a_link_has_its_mail(rig: MailRig) -> None:
    device = rig.device("offline")
    receipts = [await rig.at_hub.send(SITE, "offline", "x", [n], expires_in_s=HOUR_S, priority=n) for n in range(3)]
    await device.mail(3)
    await until(lambda: rig.store_._records.pending == 0, "the records are on the leaf")
    await rig.cut()
    local = await rig.at_site.send(SITE, "offline", "x", expires_in_s=HOUR_S, priority=9)
    await rig.crash_mail()
    await rig.open_mail()
    assert rig.store_.waiting("offline") == 4
    assert device.wake() == [local.id, *(receipt.id for receipt in reversed(receipts))]
    ended = rig.store_.settlement._unsettled
    await until(lambda: len(ended) == 4 and all(end.is_recorded for end in ended), "the ends are on the leaf")
    # Ended, not told, and started again: nothing is delivered twice, everything is told.
    await rig.crash_mail()
    await rig.open_mail()
    assert device.fetch() == []
    await rig.restore()
    for receipt in (*receipts, local):
        assert await end(rig.at_hub, receipt) == states.DELIVERED
    await rig.emptied("offline")
    assert device.fetch() == []


async def test_a_killed_leaf_loses_nothing(rig: MailRig) -> None:
    device = rig.device("leafless")
    receipts = [await sent(rig.at_hub, "leafless", f"l{n}") for n in range(3)]
    receipts += [await sent(rig.at_site, "leafless", f"s{n}") for n in range(3)]
    await device.mail(6)
    (first, *_) = device.fetch()
    device.answer(first)
    device.sleep()
    await rig.leaf.kill()
    receipts.append(await sent(rig.at_hub, "leafless", "during"))
    receipts.append(await sent(rig.at_site, "leafless", "after"))
    await device.mail(7)
    assert set(device.wake()) == {receipt.id for receipt in receipts[1:]}
    for receipt in receipts:
        assert await end(rig.at_hub, receipt) == states.DELIVERED
    await rig.emptied("leafless")
    assert device.fetch() == []


async def test_hub_servers_that_are_killed_one_after_another_lose_nothing(rig: MailRig) -> None:
    device, receipts = rig.device("rolling"), []
    for index in range(3):
        receipts.append(await sent(rig.at_hub, "rolling", f"before{index}"))
        await rig.hub.kill(index)
        receipts.append(await sent(rig.at_hub, "rolling", f"during{index}"))
        await device.mail(2)
        assert len(device.wake()) == 2
        await rig.hub.restart(index)
    for receipt in receipts:
        assert await end(rig.at_hub, receipt) == states.DELIVERED
    await rig.emptied("rolling")
    assert device.given == [receipt.id for receipt in receipts], "each once, in order"


async def test_all_hub_servers_killed_at_once_lose_nothing(rig: MailRig) -> None:
    device = rig.device("blackout")
    receipts = [await sent(rig.at_hub, "blackout", f"b{n}") for n in range(3)]
    await device.mail(3)
    (first, *_) = device.fetch()
    for index in range(3):
        await rig.hub.kill(index)
    device.answer(first)
    device.sleep()
    receipts.append(await sent(rig.at_site, "blackout", "local"))
    await device.mail(3)
    for index in range(3):
        await rig.hub.restart(index, wait=False)
    receipts.append(await sent(rig.at_hub, "blackout", "after"))
    await device.mail(4)
    device.wake()
    for receipt in receipts:
        assert await end(rig.at_hub, receipt) == states.DELIVERED
    await rig.emptied("blackout")
    assert sorted(set(device.given)) == sorted(receipt.id for receipt in receipts)


async def test_many_items_over_a_bad_link_each_have_one_end(rig: MailRig) -> None:
    """Everything at once; what was delivered was delivered once, whatever was killed."""
    names = [f"many{n}" for n in range(8)]
    devices = {name: rig.device(name) for name in names}
    receipts: list[Receipt] = []

    async def send() -> None:
        for n in range(20):
            for name in names:
                receipts.append(await sent(rig.at_site if n % 4 == 0 else rig.at_hub, name, f"{name}-{n}"))

    async def fetch() -> None:
        while True:
            for device in devices.values():
                for item in device.fetch():
                    device.answer(item)
                device.sleep()
            await asyncio.sleep(0.005)

    async def disturb() -> None:
        for _ in range(3):
            rig.proxy.cut()
            await asyncio.sleep(0.3)
            rig.proxy.restore()
            await until(lambda: rig.store_.is_hub_reached, "the hub is reached")
        await rig.leaf.kill()

    fetching = asyncio.create_task(fetch())
    await asyncio.gather(send(), disturb())
    for receipt in receipts:
        assert await end(rig.at_hub, receipt) == states.DELIVERED
    fetching.cancel()
    for name, device in devices.items():
        await rig.emptied(name)
        assert sorted(device.given) == sorted(receipt.id for receipt in receipts if receipt.device == name)


async def test_nothing_is_left_behind(rig: MailRig) -> None:
    await until(lambda: len(rig.store_.settlement) == 0, "everything is settled")
    assert len(rig.store_.mailbox) == 0
    assert await rig.boxed() == 0
    await until(lambda: rig.store_._records.pending == 0, "what is settled says so")
    left = await rig.records()
    assert not [each for each in left if each["state"] not in FINAL or "sources" in each], "nothing is left to do"
    assert rig.store_._desk.held == {"hub": {}, "site": {}}
    assert not rig.logger.seen("mailbox_leaf_failed") or rig.leaf.restarts_total > 0
