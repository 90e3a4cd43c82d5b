"""Mail to devices over real servers: who accepts it, what becomes of it, and who is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from mailbox_rig import OTHER, MailRig
from nats_rig import SITE, until

from petiole_gateway.hub import mailbox_states as states
from petiole_gateway.hub.mailbox import MAX_ATTEMPTS
from petiole_gateway.hub.mailbox_states import FINAL
from petiole_gateway.hub.ports import CommandError
from petiole_gateway.nats.errors import ConfigError
from petiole_gateway.nats.mailbox_client import MailboxClient
from petiole_gateway.nats.mailbox_errors import MailboxFullError, UnknownSiteError
from petiole_gateway.nats.mailbox_streams import BOX_SIZE

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOUR_S = 3600.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MailRig]:
    """One hub, two sites, for all tests of this file: each has devices of its own."""
    rig = MailRig(tmp_path_factory.mktemp("mail"))
    try:
        await rig.start_mail(other=True)
        yield rig
    finally:
        await rig.stop()


async def test_a_command_for_a_sleeping_device_is_kept_delivered_and_answered(rig: MailRig) -> None:
    device = rig.device("led")
    events = await rig.listen(rig.hub_connection, f"event.{SITE}.led.mailbox")
    inbox = rig.hub_connection.client.new_inbox()
    replies = await rig.listen(rig.hub_connection, inbox)
    receipt = await rig.at_hub.send(SITE, "led", "set", [True], expires_in_s=HOUR_S, reply_to=inbox)
    await device.mail(1)
    assert "led" in rig.announced
    (item,) = device.fetch()
    assert (item.id, item.command, item.arguments) == (receipt.id, "set", b"[true]")
    device.answer(item, 0, {"was": False})
    device.sleep()
    told = await rig.at_hub.wait(receipt, timeout_s=10)
    assert (told["state"], told["status"], told["value"]) == (states.DELIVERED, 0, {"was": False})
    assert (await replies.end(receipt.id))["value"] == {"was": False}
    await rig.emptied("led")
    assert events.states(receipt.id) == [states.PENDING, states.DELIVERED]
    assert device.fetch() == []


async def test_a_handler_that_fails_and_one_that_never_answers_are_told_apart(rig: MailRig) -> None:
    device = rig.device("grumpy")
    failing = await rig.at_hub.send(SITE, "grumpy", "a", expires_in_s=HOUR_S)
    silent = await rig.at_hub.send(SITE, "grumpy", "b", expires_in_s=HOUR_S)
    await device.mail(2)
    device.answer(device.fetch()[0], 500, "burnt out")
    device.sleep()
    for _ in range(MAX_ATTEMPTS - 1):
        assert [item.id for item in device.fetch()] == [silent.id]
        device.sleep()
    assert device.fetch() == []
    failed = await rig.at_hub.wait(failing, timeout_s=10)
    assert (failed["state"], failed["status"], failed["value"]) == (states.FAILED, 500, "burnt out")
    given_up = await rig.at_hub.wait(silent, timeout_s=10)
    assert (given_up["state"], given_up["status"], given_up["attempts"]) == (states.FAILED, 508, MAX_ATTEMPTS)
    await rig.emptied("grumpy")


async def test_items_are_delivered_by_priority_and_in_the_order_of_sending(rig: MailRig) -> None:
    device = rig.device("ordered")
    for id, priority in (("a", 5), ("b", 5), ("first", 9), ("c", 5), ("last", 1)):
        await rig.at_hub.send(SITE, "ordered", "x", expires_in_s=HOUR_S, id=id, priority=priority)
    await device.mail(5)
    assert device.wake() == ["first", "a", "b", "c", "last"]
    await rig.emptied("ordered")


async def test_a_newer_item_of_a_key_replaces_the_one_that_waits(rig: MailRig) -> None:
    device = rig.device("keyed")
    receipts = [await rig.at_hub.send(SITE, "keyed", "level", [n], expires_in_s=HOUR_S, key="level") for n in range(50)]
    await until(lambda: bool(rig.store_.mailbox.find("keyed", receipts[-1].id)), "the last item")
    assert await rig.boxed(device="keyed") == 1
    assert device.wake() == [receipts[-1].id]
    for receipt in receipts[:-1]:
        assert (await rig.at_hub.wait(receipt, timeout_s=10))["state"] == states.REPLACED
    await rig.emptied("keyed")


async def test_an_item_that_nobody_fetches_expires_and_its_sender_is_told(rig: MailRig) -> None:
    device = rig.device("absent")
    receipt = await rig.at_hub.send(SITE, "absent", "x", expires_in_s=1)
    told = await rig.at_hub.wait(receipt, timeout_s=10)
    assert told["state"] == states.EXPIRED
    assert device.fetch() == []
    await rig.emptied("absent")


async def test_a_cancelled_item_is_not_delivered(rig: MailRig) -> None:
    device = rig.device("cancelled")
    kept = await rig.at_hub.send(SITE, "cancelled", "x", expires_in_s=HOUR_S)
    unwanted = await rig.at_hub.send(SITE, "cancelled", "y", expires_in_s=HOUR_S)
    await device.mail(2)
    await rig.at_hub.cancel(SITE, "cancelled", unwanted.id)
    assert (await rig.at_hub.wait(unwanted, timeout_s=10))["state"] == states.CANCELLED
    assert device.wake() == [kept.id]
    # One that has ended, and one that never was: the request goes away again.
    await rig.at_hub.cancel(SITE, "cancelled", kept.id)
    await rig.at_site.cancel(SITE, "cancelled", "nobody")
    await rig.emptied("cancelled")
    assert (await rig.at_hub.wait(kept, timeout_s=10))["state"] == states.DELIVERED


async def test_a_full_box_refuses_and_one_that_was_emptied_takes_again(rig: MailRig) -> None:
    device = rig.device("flooded")
    for index in range(BOX_SIZE):
        await rig.at_hub.send(SITE, "flooded", "x", expires_in_s=HOUR_S, id=f"f{index}")
    with pytest.raises(MailboxFullError) as caught:
        await rig.at_hub.send(SITE, "flooded", "x", expires_in_s=HOUR_S)
    assert "flooded" in str(caught.value)
    assert caught.value.hint
    # Others are not affected, nor are newest-wins items.
    await rig.at_hub.send(SITE, "neighbour", "x", expires_in_s=HOUR_S, id="n1")
    await rig.at_hub.send(SITE, "flooded", "x", expires_in_s=HOUR_S, id="fk", key="k")
    await device.mail(BOX_SIZE + 1)
    neighbour = rig.device("neighbour")
    await neighbour.mail(1)
    assert neighbour.wake() == ["n1"]
    assert device.wake() == [*(f"f{index}" for index in range(BOX_SIZE)), "fk"]
    await rig.emptied("flooded")
    await rig.at_hub.send(SITE, "flooded", "x", expires_in_s=HOUR_S, id="after")
    await device.mail(1)
    assert device.wake() == ["after"]


async def test_one_sender_with_many_keys_fills_one_box_and_no_other(rig: MailRig) -> None:
    device, neighbour = rig.device("greedy"), rig.device("modest")
    before = rig.store_.metrics.ended_total
    receipts = [
        await rig.at_hub.send(SITE, "greedy", "x", expires_in_s=HOUR_S, key=f"k{index}", id=f"g{index}")
        for index in range(100)
    ]
    await rig.at_hub.send(SITE, "modest", "x", expires_in_s=HOUR_S, id="m")
    await neighbour.mail(1)
    await device.mail(64)
    await until(lambda: rig.store_.metrics.ended_total == before + 36, "36 are dropped")
    told = await rig.at_hub.wait(receipts[64], timeout_s=10)
    assert told["state"] == states.DROPPED
    assert told["reason"] == "64 of its sender wait already, and 64 places are kept for others"
    assert device.wake() == [f"g{index}" for index in range(64)]
    assert neighbour.wake() == ["m"]
    await rig.emptied("greedy")


async def test_mail_for_a_device_that_is_not_there_is_dropped_with_a_reason(rig: MailRig) -> None:
    rig.known = lambda device: device != "nobody"
    try:
        receipt = await rig.at_hub.send(SITE, "nobody", "x", expires_in_s=HOUR_S)
        told = await rig.at_hub.wait(receipt, timeout_s=10)
    finally:
        rig.known = lambda device: True
    assert (told["state"], told["reason"]) == (states.DROPPED, "there is no device nobody")
    await rig.emptied("nobody")


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires_in_s": 0.5},
        {"expires_in_s": 31 * 86400},
        {"priority": 10},
        {"key": "a.b"},
        {"id": "a b"},
        {"arguments": object()},
        {"arguments": "x" * 20_000},
    ],
)
async def test_what_can_never_be_an_item_is_refused_before_it_is_sent(rig: MailRig, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        await rig.at_hub.send(SITE, "led", "x", **{"expires_in_s": HOUR_S, **wrong})  # type: ignore[arg-type]
    assert caught.value.hint


async def test_an_unknown_site_is_said_to_be_unknown(rig: MailRig) -> None:
    for client in (rig.at_hub, rig.at_site, await rig.at_other()):
        with pytest.raises(UnknownSiteError, match="atlantis"):
            await client.send("atlantis", "led", "x", expires_in_s=HOUR_S)
    with pytest.raises(UnknownSiteError, match="atlantis"):
        await rig.at_hub.items("atlantis", "led")


async def test_mail_from_the_sites_own_leaf_and_from_another_site(rig: MailRig) -> None:
    device, other = rig.device("popular"), await rig.at_other()
    local = await rig.at_site.send(SITE, "popular", "x", expires_in_s=HOUR_S)
    foreign = await other.send(SITE, "popular", "y", expires_in_s=HOUR_S)
    assert (local.stream, foreign.stream) == ("OUT", f"DOWN_{SITE}")
    await device.mail(2)
    assert sorted(device.wake()) == sorted([local.id, foreign.id])
    for client, receipt in ((rig.at_site, local), (rig.at_hub, local), (other, foreign), (rig.at_hub, foreign)):
        assert (await client.wait(receipt, timeout_s=10))["state"] == states.DELIVERED
    await rig.emptied("popular")


async def test_a_site_may_send_to_nobody_that_it_was_not_allowed_to(rig: MailRig) -> None:
    with pytest.raises(UnknownSiteError):
        await rig.at_site.send(OTHER, "led", "x", expires_in_s=HOUR_S)
    assert await rig.boxed(f"DOWN_{OTHER}") == 0


async def test_the_same_id_is_one_item(rig: MailRig) -> None:
    device = rig.device("once")
    first = await rig.at_hub.send(SITE, "once", "x", expires_in_s=HOUR_S, id="same")
    again = await rig.at_hub.send(SITE, "once", "x", expires_in_s=HOUR_S, id="same")
    await rig.at_site.send(SITE, "once", "x", expires_in_s=HOUR_S, id="same")
    assert (first.is_duplicate, again.is_duplicate) == (False, True)
    await until(lambda: len(rig.store_.mailbox.items("once")[0].sources) == 2, "both ways are known")
    assert device.wake() == ["same"]
    await rig.emptied("once")
    # Before everything about it is forgotten, a third one finds it ended.
    assert device.fetch() == []


async def test_a_list_shows_what_waits_and_what_became_of_the_rest(rig: MailRig) -> None:
    device = rig.device("listed")
    done = await rig.at_hub.send(SITE, "listed", "x", expires_in_s=HOUR_S, id="done")
    await device.mail(1)
    device.wake()
    await rig.at_hub.wait(done, timeout_s=10)
    await rig.at_hub.send(SITE, "listed", "y", expires_in_s=HOUR_S, id="waits", key="k", priority=7)
    await rig.at_site.send(SITE, "listed", "z", expires_in_s=HOUR_S, id="local")
    await device.mail(2)

    async def states_at(client: MailboxClient) -> dict[str, str]:
        return {each["id"]: each["state"] for each in await client.items(SITE, "listed")}

    everything = {"done": "delivered", "waits": "pending", "local": "pending"}

    async def complete() -> bool:
        return await states_at(rig.at_hub) == everything

    await until(complete, "the hub has all documents")
    found = await rig.at_hub.items(SITE, "listed")
    assert [each["id"] for each in found] == ["done", "waits", "local"]
    assert (found[1]["key"], found[1]["priority"], found[1]["command"]) == ("k", 7, "y")

    async def same_at_site() -> bool:
        return await states_at(rig.at_site) == everything

    await until(same_at_site, "whoever asks at the site is told the same")
    assert (await rig.at_site.status(SITE, "listed", "done"))["state"] == "delivered"  # type: ignore[index]
    device.wake()
    await rig.emptied("listed")


async def test_unreadable_mail_is_taken_out_and_holds_up_nobody(rig: MailRig) -> None:
    device, before = rig.device("garbled"), rig.store_.metrics.unreadable_total
    hub = rig.hub_connection.client
    for subject, payload, headers in (
        ("q", b"not json", {"Nats-Msg-Id": "b1"}),
        ("q", b'{"command":"x"}', {}),
        ("q", b'{"command":"x y"}', {"Nats-Msg-Id": "b2"}),
        ("q", b'{"command":"x"}', {"Nats-Msg-Id": "b3", "Petiole-Expires": "tomorrow"}),
        ("c", b"[]", {}),
        ("z.z", b'{"command":"x"}', {"Nats-Msg-Id": "b4"}),
    ):
        await hub.request(f"down.{SITE}.garbled.{subject}", payload, headers=headers or None, timeout=5)
    await rig.at_hub.send(SITE, "garbled", "x", expires_in_s=HOUR_S, id="good")
    await device.mail(1)
    await until(lambda: rig.store_.metrics.unreadable_total == before + 6, "six were unreadable")
    assert device.wake() == ["good"]
    await rig.emptied("garbled")


async def test_the_gateway_queues_for_its_own_device(rig: MailRig) -> None:
    device = rig.device("self")
    id = await rig.store_.queue("self", "x", [1], expires_in_s=60)
    await device.mail(1)
    assert device.wake() == [id]
    with pytest.raises(CommandError) as caught:
        await rig.store_.queue("self", "x", [1], expires_in_s=0)
    assert caught.value.code == 400
    for _ in range(BOX_SIZE):
        await rig.store_.queue("full", "x", [1], expires_in_s=60)
    with pytest.raises(CommandError) as caught:
        await rig.store_.queue("full", "x", [1], expires_in_s=60)
    assert caught.value.code == 429
    full = rig.device("full")
    await full.mail(BOX_SIZE)
    full.wake()
    await rig.emptied("full")


async def test_nothing_is_left_behind(rig: MailRig) -> None:
    """After all tests of this file: streams, records and memory are empty."""
    await until(lambda: len(rig.store_.settlement) == 0, "everything is settled")
    assert len(rig.store_.mailbox) == 0
    assert await rig.boxed() == 0
    assert await rig.boxed("OUT", at_leaf=True) == 0
    await until(lambda: rig.store_._records.pending == 0, "what is settled says so")
    left = await rig.records()
    assert not [each for each in left if each["state"] not in FINAL or "sources" in each], "nothing is left to do"
    assert rig.store_._desk.held == {"hub": {}, "site": {}}
