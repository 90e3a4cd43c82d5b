"""Sessions of the hub: joins, restarts, counters, places, presence."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from petiole import frame as frames
from petiole import join, manifest, wire
from petiole.items import Encoded
from petiole_gateway.aead import AesCcm
from petiole_gateway.hub.device import RESERVE
from petiole_gateway.hub.ports import CommandError, Place

from .memory import MANIFEST, MemoryLink, MemoryNode, Site, key_of, until, with_site
from .virtual_time import now_ms, turns


def kinds(sent: list[bytes]) -> list[int]:
    return [frame[0] & wire.TYPE_MASK for frame in sent]


def join_request(key: bytes, seed: int, boot: int = 1) -> bytes:
    joiner = join.Joiner(AesCcm, key)
    return joiner.start(random.Random(seed).randbytes(4), boot, 1, manifest.digest(MANIFEST), False)


# Restarts --------------------------------------------------------------------------------------------------


@with_site
async def test_an_orderly_restart_costs_not_even_a_frame(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    node.publish(1, 2)
    await until(lambda: node.is_empty)
    await site.restart()
    before = len(link.received)
    node.publish(3)
    await until(lambda: node.is_empty)
    assert len(link.received) == before + 1
    assert "replayed" not in site.hub.traffic.dropped
    assert node.endpoint.joins_total == 1


@with_site
async def test_after_a_crash_one_round_trip_tells_the_node_where_to_go_on(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    node.publish(1, 2)
    await until(lambda: node.is_empty and site.sessions.documents)
    await site.crash()
    seen: list[dict[str, Any]] = []
    site.hub.tap.publish = seen.append
    node.publish(3)
    await until(lambda: node.is_empty)
    assert [record["kind"] for entry in seen for record in entry["records"]].count("COUNTER_FLOOR") == 1
    assert node.endpoint.session is not None
    assert node.endpoint.session.send_counter > RESERVE
    assert site.uplinks.numbers("a") == [1, 2, 3]
    assert node.endpoint.joins_total == 1


@pytest.mark.parametrize("seed", range(6))
@with_site
async def test_crashes_at_any_moment_over_a_bad_link_lose_nothing_and_repeat_nothing(site: Site, seed: int) -> None:
    rng = random.Random(seed)
    link = MemoryLink(loss=0.1, seed=seed)
    node = await site.node("a", link)
    for value in range(60):
        node.publish(value)
        await asyncio.sleep(rng.random() * 0.3)
        if value % 10 == 9:
            await (site.crash() if rng.random() < 0.7 else site.restart())
    await until(lambda: node.is_empty, 300)
    assert site.uplinks.numbers("a") == list(range(1, 61))
    assert node.count("durable") == 60


@with_site
async def test_frames_wait_while_the_store_is_asked_what_it_has(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    node.publish(1)
    await until(lambda: node.is_empty)
    await site.restart()
    site.uplinks.lookup_s = 0.2  # less than a timeout of the node
    before = len(link.received)
    node.publish(2, 3)
    await until(lambda: node.is_empty)
    assert len(link.received) == before + 1, "the node had to send again"
    assert site.uplinks.numbers("a") == [1, 2, 3]


@with_site
async def test_a_store_that_does_not_answer_after_a_restart_is_asked_again(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    await site.restart()
    site.uplinks.lookup_busy = True
    node.publish(1)
    await asyncio.sleep(5)
    assert not site.uplinks.stored
    site.uplinks.lookup_busy = False
    await until(lambda: node.is_empty, 60)
    assert site.uplinks.numbers("a") == [1]


@with_site
async def test_strangers_cannot_fill_the_place_where_frames_wait(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    await site.restart()
    device = site.hub.device("a")
    rng = random.Random(1)
    for _ in range(100):
        site.hub.receive(Place(link, None), bytes([wire.DATA]) + rng.randbytes(20))
    assert len(device.stashed) <= 8
    node.publish(1)
    await until(lambda: node.is_empty)
    assert set(site.hub.traffic.dropped) <= {"not_ready", "unknown_session"}


@with_site
async def test_another_board_on_the_cable_joins_after_a_restart(site: Site) -> None:
    link = MemoryLink()
    old = await site.node("old", link)
    await until(lambda: site.sessions.documents)
    await site.crash()
    old.off()
    site.sessions.is_busy = True  # the session that was resumed can reserve nothing,
    site.uplinks.unanswered.add("old")  # and is not ready to take anything
    new = await site.node("new", link)
    new.publish(1)
    await until(lambda: new.is_empty)
    assert new.endpoint.joins_total == 1
    resumed = site.hub.device("old").current
    assert resumed is not None
    assert not resumed.is_heard


@with_site
async def test_an_unclean_boot_throws_sessions_away(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    await until(lambda: site.sessions.documents)
    await site.crash(with_sessions=False)
    assert not site.sessions.documents
    node.publish(1)
    await until(lambda: node.is_empty)
    assert node.endpoint.joins_total == 2


@with_site
async def test_a_power_cut_of_a_whole_site_gives_no_number_twice(site: Site) -> None:
    """The hub upstream may have what the disk here had not: under an old number a new reading would be a repetition."""
    first = await site.node("a", MemoryLink(), next_sequence=None)
    first.publish(*range(20))
    await until(lambda: first.is_empty)
    used = site.uplinks.numbers("a")
    first.off()
    del site.uplinks.stored[5:]
    await site.crash(with_sessions=False)
    second = await site.node("a", MemoryLink(), next_sequence=None, boot=2)
    second.publish(*range(20))
    await until(lambda: second.is_empty)
    assert len(site.uplinks.numbers("a")) == 25
    assert not set(site.uplinks.numbers("a")[5:]) & set(used)
    second.off()
    site.uplinks.stored.clear()
    await site.crash(with_sessions=False)
    third = await site.node("a", MemoryLink(), next_sequence=None, boot=3)
    third.publish(1)
    await until(lambda: third.is_empty)
    assert site.uplinks.numbers("a")[0] > max(used)


@pytest.mark.parametrize("is_restarted", [False, True])
@with_site
async def test_a_node_without_memory_begins_above_all_that_an_earlier_life_may_still_bring(
    site: Site, is_restarted: bool
) -> None:
    """What a life has sent and the store has not is up to 127 above what that life was told."""
    link = MemoryLink()
    node = await site.node("a", link, next_sequence=None)
    node.publish(*range(5))
    await until(lambda: node.is_empty)
    told = []
    for boot in range(2, 5):  # lives that end before anything of them is stored
        node.off()
        node = await site.node("a", link, next_sequence=None, boot=boot)
        device = site.hub.device("a")
        await until(lambda device=device: device.current.is_stored)  # type: ignore[misc]
        if is_restarted:
            await site.crash()
        told.append(site.hub.device("a").told_sequence)
    assert told == [5 + 127, 5 + 2 * 127, 5 + 3 * 127]
    node.publish(1)
    await until(lambda: node.is_empty)
    assert site.uplinks.numbers("a")[5:] == [told[-1] + 1]


@with_site
async def test_a_session_that_cannot_be_read_is_joined_anew(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    await site.hub.stop()
    del site.sessions.documents["a"]["send"]
    await site.start()
    assert not site.sessions.documents
    assert site.logger.events("session_unreadable")
    node.publish(1)
    await until(lambda: node.is_empty)
    assert node.endpoint.joins_total == 2


@with_site
async def test_a_manifest_that_was_not_stored_is_asked_for_after_a_restart(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    node.off()
    await until(lambda: site.registry.documents["a"]["manifest"])
    changed = manifest.encode("2.0.0", [[0, "pressure", "Pa", "f", 60]], [], [0, 0])
    site.registry.is_busy = True
    again = await site.node("a", link, boot=2, described=changed)
    await until(lambda: site.sessions.documents["a"]["boot"] == 2)
    await site.crash()
    site.registry.is_busy = False
    again.publish(1)
    await until(lambda: again.is_empty)
    assert site.uplinks.stored[0][2] == "pressure"
    assert again.endpoint.joins_total == 1


# Counters --------------------------------------------------------------------------------------------------


@with_site
async def test_a_write_whose_answer_was_lost_bounds_the_counters_all_the_same(site: Site) -> None:
    node = MemoryNode(site.hub, link := MemoryLink(), (await site.hub.add_device("a", key_of("a"))).key)
    site.nodes.append(node)
    site.sessions.is_unsure = True  # it is written, and nobody says so
    device = site.hub.device("a")
    await until(lambda: device.current and device.current.reserved_send and device.uplinks.is_open)
    bound = site.sessions.documents["a"]["send"]
    site.sessions.is_busy = True
    for number in range(300):
        assert device.current is not None
        device.current.session.send(Encoded(bytes((wire.MANIFEST_REQUEST,))))
        site.hub._downlinks.flush(device.current)
        await asyncio.sleep(0.01)
        if number > 100 and len(kinds(link.sent)) > 400:
            break
    assert device.current is not None
    assert device.current.session.send_counter <= bound
    site.sessions.is_busy = site.sessions.is_unsure = False
    await site.crash()  # the watch on nonces sees what comes now
    node.publish(1)
    await until(lambda: node.is_empty, 60)


@with_site
async def test_a_frame_beyond_the_stored_bound_is_taken_after_the_next_one_is_stored(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    device = site.hub.device("a")
    await until(lambda: device.current is not None and device.current.is_stored)
    assert node.endpoint.session is not None
    assert device.current is not None
    node.endpoint.session.send_counter += 2 * RESERVE  # all lost on the way
    site.sessions.is_busy = True
    request = node.endpoint.request("time.now", 1, 30_000, now_ms())
    node.pump()
    await asyncio.sleep(0.1)
    assert not site.requester.asked, "it could be replayed after a crash"
    assert device.current.session.replay.highest <= device.current.reserved_receive
    beyond = link.received[-1]
    site.sessions.is_busy = False
    await until(lambda: node.count("reply"), 30)
    assert request.is_done
    await site.crash()
    site.hub.receive(Place(link, None), beyond)
    await asyncio.sleep(1)
    assert len(site.requester.asked) == 1
    assert node.endpoint.joins_total == 1


@with_site
async def test_the_hub_does_not_spin_while_counters_cannot_be_stored(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    device = site.hub.device("a")
    await until(lambda: device.current is not None and device.current.is_stored)
    site.sessions.is_busy = True
    assert device.current is not None
    device.current.session.send_counter = device.current.reserved_send  # used up
    node.publish(1)
    await until(lambda: site.uplinks.stored)
    before = turns()
    await asyncio.sleep(1.0)
    assert turns() - before < 200
    site.sessions.is_busy = False
    await until(lambda: node.is_empty)


@with_site
async def test_a_session_without_counters_ends_and_the_node_joins_anew(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    device = site.hub.device("a")
    assert device.current is not None
    asked = asyncio.create_task(site.hub.command("a", "slow", [], 30))
    await until(lambda: node.executed)
    device.current.session.send_counter = device.current.reserved_send = wire.COUNTER_LIMIT
    node.publish(1)
    await until(lambda: node.is_empty, 60)
    with pytest.raises(CommandError, match="used up"):
        await asked
    assert node.endpoint.joins_total == 2


# Places and presence ---------------------------------------------------------------------------------------


@with_site
async def test_places_are_forgotten_when_nodes_have_left_them(site: Site) -> None:
    node = await site.node("a", MemoryLink("udp"), peer=0, addressed=True)
    for port in range(1, 50):
        node.move(MemoryLink("udp"), port, True)
        node.publish(port)
        await until(lambda: node.is_empty)
    assert len(site.hub.roster._places._sessions) == 1
    assert node.endpoint.joins_total == 1


@with_site
async def test_a_replayed_frame_from_elsewhere_moves_nobody(site: Site) -> None:
    link, elsewhere = MemoryLink("udp"), MemoryLink("udp")
    node = await site.node("a", link, peer=1, addressed=True)
    node.publish(1)
    await until(lambda: node.is_empty)
    for frame in list(link.received):
        site.hub.receive(Place(elsewhere, 2), frame)
    await asyncio.sleep(0.1)
    assert site.hub.device("a").current.place == Place(link, 1)  # type: ignore[union-attr]
    assert [f for f in elsewhere.sent if f[0] & wire.TYPE_MASK == wire.DATA] == []


@with_site
async def test_presence_follows_what_the_node_said_of_its_sleep(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    device = site.hub.device("a")
    assert site.hub.state(device) == "online"
    node.endpoint.sleep(600)
    node.pump()
    node.off()
    await asyncio.sleep(0.1)
    assert site.hub.state(device) == "asleep"
    for seconds, state in ((605, "asleep"), (60, "overdue"), (600, "overdue"), (1200, "offline")):
        await asyncio.sleep(seconds)
        assert site.hub.state(device) == state
    await site.restart()
    assert site.hub.state(site.hub.device("a")) == "offline", "nothing was heard of it yet"


@with_site
async def test_a_silent_node_is_offline_after_two_keep_alives(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    await asyncio.sleep(300)
    assert site.hub.state(site.hub.device("a")) == "online", "it sends PING"
    node.off()
    await asyncio.sleep(75)
    assert site.hub.state(site.hub.device("a")) == "offline"
    with pytest.raises(CommandError, match="offline") as raised:
        await site.hub.command("a", "led", [True], 5)
    assert raised.value.code == 503


@with_site
async def test_after_stop_nothing_is_sent_and_no_timer_runs(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    site.uplinks.is_held = True
    node.publish(1)
    await until(lambda: site.uplinks.submitted)
    asked = asyncio.create_task(site.hub.command("a", "slow", [], 30))
    await until(lambda: node.executed)
    hub = site.hub
    await hub.stop()
    with pytest.raises(CommandError, match="stops"):
        await asked
    sent = len(link.sent)
    hub.durable([("a", 1)])
    hub.receive(Place(link, None), link.received[-1])
    await asyncio.sleep(0.1)
    assert len(link.sent) == sent
    assert hub.device("a").timer is None
    assert isinstance(frames.split(link.sent[-1]), frames.Split)
