"""Devices that sleep: what a wake costs, what reaches them, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from petiole import cbor, wire
from petiole.items import Encoded
from petiole_gateway.hub.ports import CommandError

from .memory import MemoryLink, MemoryNode, MemoryRecords, Site, until, with_site
from .sleepers import PERIOD_S, MemoryMail, Sleeper, SlowLink, sleeper


def with_mail(site: Site) -> MemoryMail:
    mail = MemoryMail()
    site.options["mail"] = mail
    return mail


async def start(site: Site, link: MemoryLink | None = None, **options: Any) -> tuple[MemoryMail, Sleeper, MemoryLink]:
    mail = with_mail(site)
    await site.restart()
    link = link or MemoryLink()
    node = await sleeper(site, "a", link, **options)
    link.sent.clear()
    link.received.clear()
    return mail, node, link


def carry_out(node: MemoryNode) -> None:
    """The node, which is awake, does the first thing that has come by mail, and says so."""
    event: Any = next(event for event in node.events if event[0] == "mail")
    node.endpoint.finish(event[1], 0, None)
    node.pump()


async def wake_in_vain(node: Sleeper, *values: float, awake_s: float, asleep_s: float) -> None:
    """A wake whose handlers are cut short by its end."""
    node.wake(*values)
    await asyncio.sleep(awake_s)
    node.endpoint.mail.interrupt()
    node.sleep()
    await asyncio.sleep(asleep_s)


@with_site
async def test_a_wake_costs_one_frame_each_way(site: Site) -> None:
    _, node, link = await start(site)
    await asyncio.sleep(PERIOD_S)
    await node.cycle(21.5)
    await asyncio.sleep(60)
    assert (len(link.received), len(link.sent)) == (1, 1)
    assert len(link.sent[0]) == 9, "an ACK frame, and no byte more"
    assert site.uplinks.numbers("a") == [1]
    assert site.hub.state(site.hub.device("a")) == "asleep"


@with_site
async def test_mail_travels_with_the_ack(site: Site) -> None:
    mail, node, link = await start(site)
    item = mail.put("a", "led", b"[true]")
    site.hub.mail_arrived("a")
    await asyncio.sleep(PERIOD_S)
    assert link.sent == [], "nothing is sent to a device that sleeps"
    await node.cycle(21.5)
    assert len(link.sent) == 2, "ack with mail, and the ack of the answer"
    assert len(link.received) == 2
    assert node.mailed == [(item.number, 0, [True], False)]
    await until(lambda: mail.ends(item))
    assert mail.ends(item) == [("delivered", 0, {"got": [True]})]


@with_site
async def test_an_empty_wake_gets_mail_too(site: Site) -> None:
    mail, node, _ = await start(site)
    item = mail.put("a", "led", b"[false]")
    await node.cycle()
    await until(lambda: mail.ends(item))
    assert len(node.mailed) == 1


@pytest.mark.parametrize("number", [5, 30])
@with_site
async def test_what_does_not_fit_a_frame_keeps_the_node_awake(site: Site, number: int) -> None:
    mail, node, _ = await start(site)
    items = [mail.put("a", "text", b'["' + b"x" * 100 + b'"]') for _ in range(number)]
    await node.cycle(1.0)
    await until(lambda: all(mail.ends(item) for item in items))
    assert node.wakes == 1
    assert [number for number, *_ in node.mailed] == [item.number for item in items], "in order"


@with_site
async def test_on_a_slow_link_the_node_waits_for_all_that_was_announced(site: Site) -> None:
    mail, node, _ = await start(site, SlowLink())
    items = [mail.put("a", "text", b'["' + b"x" * 180 + b'"]') for _ in range(3)]
    await node.cycle(1.0)
    assert [number for number, *_ in node.mailed] == [item.number for item in items]


@with_site
async def test_while_a_handler_is_at_work_more_can_come(site: Site) -> None:
    mail, node, _ = await start(site)
    node.answers = False
    first = mail.put("a", "text", b'["slow"]')
    node.wake()
    await asyncio.sleep(3)
    second = mail.put("a", "led", b"[true]")
    site.hub.mail_arrived("a")
    await asyncio.sleep(1)
    assert [number for number, *_ in node.mailed] == [first.number, second.number]
    for item in (first, second):
        node.endpoint.finish(item.number, 0, None)
    node.pump()
    await until(lambda: mail.ends(first) and mail.ends(second))
    assert first.attempts == second.attempts == 1


@with_site
async def test_an_answer_that_is_lost_is_told_at_the_next_wake(site: Site) -> None:
    mail, node, link = await start(site)
    item = mail.put("a", "led", b"[true]")

    node.answers = False
    node.wake()
    await until(lambda: node.mailed)
    link.is_cut = True
    node.endpoint.finish(item.number, 0, "done")
    node.pump()
    node.sleep()
    await asyncio.sleep(30)
    link.is_cut = False
    await node.cycle()
    await until(lambda: mail.ends(item))
    assert mail.ends(item) == [("delivered", 0, "done")]
    assert len(node.mailed) == 1, "carried out once"


@with_site
async def test_a_device_that_was_reset_in_the_middle_gets_the_item_again(site: Site) -> None:
    mail, node, link = await start(site)
    node.answers = False
    item = mail.put("a", "led", b"[true]")
    node.wake()
    await until(lambda: node.mailed)
    node.off()
    await asyncio.sleep(30)
    again = await sleeper(site, "a", link, boot=2)
    await until(lambda: again.mailed or again.is_asleep)
    await until(lambda: mail.ends(item))
    assert again.mailed == [(item.number, 0, [True], True)], "and it is told so"


@with_site
async def test_a_stuck_item_holds_up_no_other(site: Site) -> None:
    mail, node, _ = await start(site)
    stuck = mail.put("a", "text", b'["stuck"]')
    good = [mail.put("a", "led", b"[true]") for _ in range(3)]
    finish = node.endpoint.finish

    def refuse(item: int, status: int, value: Any) -> None:
        if item != stuck.number:
            finish(item, status, value)

    node.endpoint.finish = refuse  # type: ignore[method-assign]
    for _ in range(6):
        await wake_in_vain(node, awake_s=3, asleep_s=PERIOD_S)
    assert all(mail.ends(item)[0][0] == "delivered" for item in good)
    assert mail.ends(stuck) == [("failed", 508, "no answer to 5 attempts")]
    assert sum(item[0] == stuck.number for item in node.mailed) == 5


@with_site
async def test_mail_that_the_device_cannot_carry_out_never_travels(site: Site) -> None:
    mail, node, link = await start(site)
    items = [
        mail.put("a", "nonsense"),
        mail.put("a", "led", b'["on"]'),
        mail.put("a", "led", b"{not json"),
        mail.put("a", "led"),
        mail.put("a", "text", b'["' + b"x" * 5000 + b'"]'),
    ]
    await node.cycle(1.0)
    assert [mail.ends(item)[0][:2] for item in items] == [
        ("failed", 404), ("failed", 400), ("failed", 400), ("failed", 400), ("failed", 413),
    ]  # fmt: skip
    assert len(link.sent) == 1
    assert node.mailed == []


@with_site
async def test_an_awake_device_gets_its_mail_at_once(site: Site) -> None:
    mail = with_mail(site)
    await site.restart()
    node = await site.node("b", MemoryLink())
    item = mail.put("b", "led", b"[true]")
    site.hub.mail_arrived("b")
    await until(lambda: node.count("mail"))
    carry_out(node)
    await until(lambda: mail.ends(item))
    assert mail.ends(item) == [("delivered", 0, None)]


@with_site
async def test_mail_for_a_device_that_went_away_waits_for_it(site: Site) -> None:
    mail = with_mail(site)
    await site.restart()
    link = MemoryLink()
    node = await site.node("b", link)
    link.is_cut = True
    item = mail.put("b", "led", b"[true]")
    site.hub.mail_arrived("b")
    await asyncio.sleep(200)
    assert item.state == "pending"
    link.is_cut = False
    await until(lambda: node.count("mail"), 60)
    carry_out(node)
    await until(lambda: mail.ends(item))


@with_site
async def test_a_request_to_a_sleeper_says_when_it_wakes(site: Site) -> None:
    _, node, _ = await start(site)
    await node.cycle()
    await asyncio.sleep(100)
    with pytest.raises(CommandError, match=r"a is asleep, next wake in (499|500) s") as raised:
        await site.hub.command("a", "led", [True], 5)
    assert raised.value.code == 503


@with_site
async def test_sleep_for_another_time_than_the_period(site: Site) -> None:
    _, node, link = await start(site)
    node.is_asleep = False
    node.endpoint.link_up(0, False)
    node.endpoint.sleep(3600, True)
    await node.cycle(1.0)
    assert len(link.received) == 1, "it fits the frame of the reading"
    device = site.hub.device("a")
    await asyncio.sleep(3600)
    assert site.hub.state(device) == "asleep"
    await asyncio.sleep(400)
    assert site.hub.state(device) == "overdue"


@with_site
async def test_a_sleeper_that_dies_in_its_wake_is_not_talked_to_for_long(site: Site) -> None:
    mail, node, link = await start(site)
    mail.put("a", "led", b"[true]")
    node.wake(1.0)
    node.off()
    await asyncio.sleep(60)
    sent = len(link.sent)
    assert sent <= 8
    await asyncio.sleep(PERIOD_S)
    assert len(link.sent) == sent


@pytest.mark.parametrize("seed", range(6))
@with_site
async def test_on_a_bad_link_every_item_is_carried_out_once_and_every_reading_stored(site: Site, seed: int) -> None:
    mail, node, _ = await start(site, MemoryLink(loss=0.3, seed=seed))
    items = []
    for wake in range(40):
        if wake < 30:
            items += [mail.put("a", "text", b'["%d"]' % (wake * 10 + i)) for i in range(wake % 4)]
        node.wake(wake)
        try:
            await until(lambda: node.is_asleep, 8)
        except TimeoutError:
            node.sleep()  # its budget has ended
        await asyncio.sleep(60)
    assert [mail.ends(item)[-1][0] for item in items] == ["delivered"] * len(items)
    assert len(node.mailed) == len(items), "each once"
    assert [number for number, *_ in node.mailed] == [item.number for item in items]
    await until(lambda: site.uplinks.numbers("a") == list(range(1, 41)))


def deafen(node: Sleeper) -> Callable[[], None]:
    """The node sends and hears nothing, until what is returned is called."""
    hear = node.receive
    node.receive = lambda frame: None  # type: ignore[method-assign]

    def end() -> None:
        node.receive = hear  # type: ignore[method-assign]

    return end


@with_site
async def test_what_a_device_slept_through_is_said_at_its_next_wake_however_soon_that_is(site: Site) -> None:
    """Its period may be shorter than a gateway takes it for listening, and than a timer that backs off."""
    site.options["wake_policies"] = MemoryRecords()
    _, node, _ = await start(site)
    await site.hub.wake_policies.ask(site.hub.device("a"), period_s=3)
    hear = deafen(node)
    for value in range(4):
        node.wake(value)
        await asyncio.sleep(0.2)
        node.sleep()
        await asyncio.sleep(2.8)
    hear()
    await node.cycle()
    assert node.period_s == 3


@with_site
async def test_a_request_that_met_a_device_falling_asleep_is_answered_at_its_next_wake(site: Site) -> None:
    _, node, _ = await start(site)
    hear = deafen(node)
    node.wake(1.0)
    answer = asyncio.create_task(site.hub.command("a", "led", [True], 9))
    await asyncio.sleep(0.2)
    node.sleep()
    hear()
    await asyncio.sleep(4)
    assert not answer.done()
    await node.cycle()
    assert await asyncio.wait_for(answer, 0.1) == {"led": [True]}


@with_site
async def test_an_item_that_was_cut_short_is_brought_again_however_soon_the_next_wake_is(site: Site) -> None:
    mail, node, link = await start(site)
    node.answers = False
    item = mail.put("a", "text", b'["long"]')
    for _ in range(2):
        await wake_in_vain(node, 1.0, awake_s=1, asleep_s=2)
    link.sent.clear()
    node.answers = True
    await node.cycle(2.0)
    assert [again for *_, again in node.mailed] == [False, True, True]
    assert len(link.sent) == 2, "it travels with the ack"
    await until(lambda: mail.ends(item))
    assert mail.ends(item) == [("delivered", 0, {"got": ["long"]})]


@with_site
async def test_an_item_that_is_cut_short_each_time_ends_however_short_the_period_is(site: Site) -> None:
    mail, node, _ = await start(site)
    node.answers = False
    item = mail.put("a", "text", b'["stuck"]')
    for _ in range(6):
        await wake_in_vain(node, awake_s=1, asleep_s=2)
    assert mail.ends(item) == [("failed", 508, "no answer to 5 attempts")]
    assert len(node.mailed) == 5


@with_site
async def test_mail_that_an_awake_device_had_no_room_for_comes_again(site: Site) -> None:
    mail = with_mail(site)
    await site.restart()
    node = await site.node("b", MemoryLink())
    item = mail.put("b", "led", b"[true]")
    site.hub.mail_arrived("b")
    await until(lambda: node.count("mail"))
    node.endpoint.mail.forget(item.number)
    node.pump()
    await until(lambda: node.count("mail") == 2, 15)
    carry_out(node)
    await until(lambda: mail.ends(item))
    assert mail.ends(item) == [("delivered", 0, None)]


@with_site
async def test_mail_is_given_back_by_a_number_and_by_nothing_else(site: Site) -> None:
    mail, node, _ = await start(site)
    node.answers = False
    mail.put("a", "text", b'["long"]')
    node.wake()
    await asyncio.sleep(1)
    for value in (None, "1", [1], True):
        node.endpoint.session.send(Encoded(bytes((wire.MAIL_RETURN,)) + cbor.encode(value)))
    node.pump()
    await asyncio.sleep(1)
    assert len(node.mailed) == 1
    assert site.hub.device("a").dropped["malformed_record"] == 4
