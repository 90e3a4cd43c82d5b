"""What people want of a device's wakes reaches it, once and whatever happens in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from petiole_gateway.hub.ports import Busy, CommandError

from .memory import MemoryLink, MemoryRecords, Site, until, with_site
from .sleepers import PERIOD_S, Sleeper, sleeper


async def start(site: Site) -> tuple[MemoryRecords, Sleeper, MemoryLink]:
    kept = MemoryRecords()
    site.options["wake_policies"] = kept
    await site.restart()
    link = MemoryLink()
    node = await sleeper(site, "a", link)
    link.sent.clear()
    link.received.clear()
    return kept, node, link


def period_s(site: Site) -> Any:
    return site.hub.presences.document(site.hub.device("a"))["period_s"]


async def ask(site: Site, **wanted: int) -> None:
    await site.hub.wake_policies.ask(site.hub.device("a"), **wanted)


@with_site
async def test_a_period_travels_with_the_ack_of_the_next_wake(site: Site) -> None:
    kept, node, link = await start(site)
    await asyncio.sleep(PERIOD_S)
    await ask(site, period_s=1200)
    assert link.sent == [], "it sleeps"
    assert period_s(site) == PERIOD_S
    await node.cycle(21.5)
    await asyncio.sleep(30)
    assert node.period_s == 1200
    assert (len(link.sent), len(link.received)) == (1, 2), "ack and policy in one frame, and the ack of that"
    assert period_s(site) == 1200
    assert kept.documents["a"]["heard_at"] is not None
    await asyncio.sleep(1100)
    assert site.hub.state(site.hub.device("a")) == "asleep"
    link.sent.clear()
    await node.cycle(21.5)
    assert len(link.sent[0]) == 9, "it is told once"


@with_site
async def test_what_is_wanted_outlives_the_gateway(site: Site) -> None:
    _, node, _ = await start(site)
    await ask(site, period_s=1200, awake_s=90)
    await site.crash()
    await ask(site, spacing_ms=500)  # what was wanted before stays
    await site.crash()
    node.wake(1.0)
    await until(lambda: node.count("policy"))
    assert ("policy", 1200, 500) in node.events
    assert ("awake", 90) in node.events
    await until(lambda: node.is_asleep, 120)
    await site.crash()
    await node.cycle(2.0)
    await until(lambda: site.hub.device("a").wake_policy.heard_at)
    assert node.count("awake") == 1, "it is asked to stay awake once"
    assert period_s(site) == 1200


@with_site
async def test_a_join_makes_the_node_forget_and_the_gateway_say_it_again(site: Site) -> None:
    _, node, link = await start(site)
    await ask(site, period_s=1200)
    await node.cycle(1.0)
    node.off()
    again = await sleeper(site, "a", link, boot=2)
    await until(lambda: again.period_s == 1200)
    await asyncio.sleep(30)
    assert period_s(site) == 1200


@with_site
async def test_what_is_taken_back_is_said_and_forgotten(site: Site) -> None:
    kept, node, _link = await start(site)
    await ask(site, period_s=1200)
    await node.cycle(1.0)
    await ask(site, period_s=0)
    await node.cycle(2.0)
    await asyncio.sleep(20)
    assert node.period_s == period_s(site) == PERIOD_S
    assert kept.documents == {}
    await ask(site, awake_s=0)
    assert kept.documents == {}, "nothing was wanted, and nothing is"


@with_site
async def test_before_it_is_said_it_may_be_replaced_and_taken_back(site: Site) -> None:
    _kept, node, _link = await start(site)
    await ask(site, period_s=1200)
    await ask(site, period_s=60)
    await ask(site, awake_s=100)
    await ask(site, awake_s=0)
    await node.cycle(1.0)
    assert [event for event in node.events if event[0] in ("policy", "awake")] == [("policy", 60, 0)]


@with_site
async def test_a_device_that_did_not_hear_it_is_not_taken_for_awake(site: Site) -> None:
    _, node, link = await start(site)
    device = site.hub.device("a")
    await ask(site, awake_s=600)
    hear = node.receive
    node.receive = lambda frame: None  # type: ignore[method-assign]
    node.wake()
    await asyncio.sleep(3)
    assert link.sent
    node.sleep()
    node.receive = hear  # type: ignore[method-assign]
    await asyncio.sleep(60)
    assert site.hub.state(device) == "asleep"
    with pytest.raises(CommandError, match="asleep"):
        await site.hub.command("a", "led", [True], 5)
    node.wake()
    await until(lambda: node.count("awake"))
    await asyncio.sleep(30)
    assert await site.hub.command("a", "led", [True], 5) == {"led": [True]}


@with_site
async def test_a_device_that_stays_awake_can_be_asked_anything_until_its_time_is_over(site: Site) -> None:
    kept, node, _ = await start(site)
    await asyncio.sleep(10)
    await ask(site, awake_s=200)
    node.wake()
    await until(lambda: node.count("awake"))
    for _ in range(19):
        await asyncio.sleep(10)
        assert await site.hub.command("a", "led", [True], 5) == {"led": [True]}
    assert site.hub.state(site.hub.device("a")) == "online"
    await asyncio.sleep(30)
    assert node.is_asleep
    assert site.hub.state(site.hub.device("a")) == "asleep"
    assert kept.documents == {}


@with_site
async def test_a_device_that_was_asked_to_stay_awake_is_online_at_once(site: Site) -> None:
    _, node, _ = await start(site)
    device = site.hub.device("a")
    await asyncio.sleep(30)
    await ask(site, awake_s=60)
    assert site.hub.state(device) == "asleep"
    node.wake()
    await until(lambda: node.count("awake"))
    await until(lambda: device.wake_policy is None, 1)
    assert site.hub.state(device) == "online", "whoever waits for it hears that it is there"
    await until(lambda: node.is_asleep, 90)
    await asyncio.sleep(30)
    assert site.hub.state(device) == "asleep"


@with_site
async def test_a_device_that_was_reset_while_it_was_to_stay_awake_sleeps_when_it_is_answered(site: Site) -> None:
    _, node, link = await start(site)
    device = site.hub.device("a")
    await ask(site, awake_s=600)
    node.wake()
    await until(lambda: node.count("awake"))
    await until(lambda: device.wake_policy is None, 1)
    node.off()
    again = Sleeper(site.hub, link, device.key, boot=2)
    site.nodes.append(again)
    await until(lambda: again.is_asleep)
    await asyncio.sleep(15)
    assert site.hub.state(device) == "asleep"
    with pytest.raises(CommandError, match="asleep"):
        await site.hub.command("a", "led", [True], 5)


@with_site
async def test_a_device_that_says_it_sleeps_is_not_awake_any_more_whatever_it_was_asked(site: Site) -> None:
    _, node, link = await start(site)
    device = site.hub.device("a")
    await ask(site, awake_s=600)
    node.wake()
    await until(lambda: device.presence.awake_until > 0)
    node.endpoint.sleep(PERIOD_S, listens=True)
    node.pump()
    node.sleep()
    await asyncio.sleep(15)
    assert site.hub.state(device) == "asleep"
    sent = len(link.sent)
    with pytest.raises(CommandError, match="asleep"):
        await site.hub.command("a", "led", [True], 5)
    assert len(link.sent) == sent


@pytest.mark.parametrize("wanted", [{"period_s": 2_592_001}, {"spacing_ms": 3_600_001}, {"awake_s": 3601}])
@with_site
async def test_what_no_device_may_be_asked_is_refused(site: Site, wanted: dict[str, int]) -> None:
    kept, _, _ = await start(site)
    with pytest.raises(CommandError, match="from 0 to"):
        await ask(site, **wanted)
    assert kept.documents == {}


@with_site
async def test_a_device_that_never_sleeps_is_asked_nothing(site: Site) -> None:
    site.options["wake_policies"] = MemoryRecords()
    await site.restart()
    await site.node("a", MemoryLink())
    with pytest.raises(CommandError, match="never sleeps"):
        await ask(site, awake_s=60)


@with_site
async def test_a_store_that_is_busy_changes_nothing(site: Site) -> None:
    kept, node, _ = await start(site)
    kept.is_busy = True
    with pytest.raises(Busy):
        await ask(site, period_s=1200)
    kept.is_busy = False
    await node.cycle(1.0)
    assert node.period_s == PERIOD_S


@with_site
async def test_a_newer_wish_is_not_overwritten_by_what_the_device_heard_of_an_older_one(site: Site) -> None:
    kept, node, _ = await start(site)
    await ask(site, period_s=1200)
    put = kept.put

    async def slow(key: str, document: dict[str, Any]) -> None:
        await asyncio.sleep(1)
        await put(key, document)

    kept.put = slow  # type: ignore[method-assign]
    newer = asyncio.create_task(ask(site, period_s=60))
    await asyncio.sleep(0.1)
    await node.cycle(1.0)  # hears 1200 while 60 is being stored
    await newer
    await asyncio.sleep(5)
    assert kept.documents["a"]["period_s"] == 60
    await node.cycle(1.0)
    assert node.period_s == 60


@with_site
async def test_a_removed_device_leaves_nothing(site: Site) -> None:
    kept, _, _ = await start(site)
    await ask(site, period_s=1200)
    await site.hub.remove_device("a")
    assert kept.documents == {}


@with_site
async def test_what_went_out_in_vain_is_not_said_after_something_newer(site: Site) -> None:
    _, node, _link = await start(site)
    await ask(site, period_s=1200)
    hear = node.receive
    node.receive = lambda frame: None  # type: ignore[method-assign]
    node.wake()
    await asyncio.sleep(3)
    node.sleep()
    node.receive = hear  # type: ignore[method-assign]
    await asyncio.sleep(60)
    await ask(site, period_s=60)
    await node.cycle(1.0)
    assert [event for event in node.events if event[0] == "policy"] == [("policy", 60, 0)]
