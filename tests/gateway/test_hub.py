"""The hub with nodes' endpoints, its ports in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os

import pytest

from petiole import frame as frames
from petiole import wire
from petiole_gateway.aead import AesCcm
from petiole_gateway.hub.ports import CommandError, Place

from .memory import MANIFEST, MemoryLink, MemoryNode, Site, until, with_site


@with_site
async def test_readings_are_stored_once_in_order_over_a_bad_link(site: Site) -> None:
    link = MemoryLink(loss=0.1, seed=3)
    node = await site.node("a", link)
    node.publish(*range(150))
    await until(lambda: node.is_empty, 60)
    assert site.uplinks.numbers("a") == list(range(1, 151))
    documents = [json.loads(payload) for _, _, _, payload in site.uplinks.stored]
    assert [document["value"] for document in documents] == list(range(150))
    assert documents[0]["name"] == "temperature"
    assert documents[0]["unit"] == "Cel"


@with_site
async def test_no_ack_leaves_before_a_reading_is_durable(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    site.uplinks.is_held = True
    node.publish(1)
    await until(lambda: site.uplinks.submitted.get("a") == 1)
    await asyncio.sleep(0.1)
    assert not node.is_empty
    site.uplinks.is_held = False
    await until(lambda: node.is_empty)


@with_site
async def test_a_busy_store_loses_nothing_and_tells_the_node(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    site.uplinks.is_busy = True
    node.publish(1, 2, 3)
    session = node.endpoint.session
    assert session is not None
    await until(lambda: session.paused_until > 0)
    site.uplinks.is_busy = False
    await until(lambda: node.is_empty)
    assert site.uplinks.numbers("a") == [1, 2, 3]


@with_site
async def test_a_store_that_takes_readings_and_moves_none_costs_a_pause_and_no_join(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    node.publish(1)
    await until(lambda: node.is_empty)
    site.uplinks.is_held = True
    node.publish(*range(2, 40))
    session = node.endpoint.session
    assert session is not None
    await until(lambda: session.paused_until > 0)
    await asyncio.sleep(60)
    assert node.is_online
    assert await site.hub.command("a", "led", [True], 5) == {"led": [True]}
    site.uplinks.is_held = False
    await until(lambda: node.is_empty)
    assert node.endpoint.joins_total == 1
    assert site.uplinks.numbers("a") == list(range(1, 40))


@with_site
async def test_a_store_that_is_slow_but_moves_slows_no_node(site: Site) -> None:
    site.uplinks.commit_s = 0.45
    node = await site.node("a", MemoryLink())
    node.publish(*range(100))
    session = node.endpoint.session
    assert session is not None
    await until(lambda: node.is_empty)
    assert session.paused_until == 0
    assert site.uplinks.numbers("a") == list(range(1, 101))


@with_site
async def test_a_command_is_answered_or_says_why_not(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    assert await site.hub.command("a", "led", [True], 5) == {"led": [True]}
    for name, command, arguments, code in (
        ("b", "led", [True], 404),
        ("a", "fly", [], 404),
        ("a", "led", [], 400),
        ("a", "led", [1], 400),
        ("a", "led", {"on": True, "x": 1}, 400),
        ("a", "led", 7, 400),
        ("a", "slow", [], 408),
    ):
        with pytest.raises(CommandError) as raised:
            await site.hub.command(name, command, arguments, 0.2)
        assert raised.value.code == code, (command, arguments)
    assert node.executed == [(0, [True]), (1, [])]


@with_site
async def test_a_device_that_never_joined_or_sleeps_is_not_asked(site: Site) -> None:
    await site.hub.add_device("a")
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "led", [True], 1)
    assert raised.value.code == 503
    node = await site.node("b", MemoryLink())
    node.endpoint.sleep(60)
    node.pump()
    with pytest.raises(CommandError, match="asleep, next wake in") as raised:
        await site.hub.command("b", "led", [True], 1)
    assert raised.value.code == 503
    node.publish(1)  # it is awake again
    await until(lambda: node.is_empty)
    assert await site.hub.command("b", "led", [True], 5) == {"led": [True]}


@with_site
async def test_an_open_command_fails_when_the_node_starts_anew(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    asked = asyncio.create_task(site.hub.command("a", "slow", [], 30))
    await until(lambda: node.executed)
    node.off()
    await site.node("a", link, boot=2)
    with pytest.raises(CommandError, match="joined anew") as raised:
        await asked
    assert raised.value.code == 503


@with_site
async def test_a_ninth_open_command_is_refused(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    asked = [asyncio.create_task(site.hub.command("a", "slow", [], 1)) for _ in range(8)]
    await until(lambda: len(node.executed) == 8)
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "slow", [], 1)
    assert raised.value.code == 429
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [getattr(result, "code", None) for result in results] == [408] * 8


@with_site
async def test_a_node_asks_a_service(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    asked = {"time.now": 0, "nobody.here": 404, "$SYS.REQ": 403, "gw.home.status": 403, "event.home.a.x": 403}
    items = {node.endpoint.request(subject, [1], 5000, 0): subject for subject in asked}
    for item in items:
        item.expires_at = 1 << 60
    node.pump()
    await until(lambda: node.count("reply") == len(asked))
    assert {items[event[1]]: event[2] for event in node.events if event[0] == "reply"} == asked  # type: ignore[index]
    assert site.requester.asked == [("time.now", [1]), ("nobody.here", [1])]


@with_site
async def test_a_restart_keeps_sessions_and_takes_nothing_twice(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    node.publish(*range(5))
    await until(lambda: node.is_empty and site.sessions.documents)
    recorded = list(link.received)
    await site.restart()
    for frame in recorded:
        site.hub.receive(Place(link, None), frame)
    node.publish(*range(5, 10))
    await until(lambda: node.is_empty)
    assert site.uplinks.numbers("a") == list(range(1, 11))
    assert node.endpoint.joins_total == 1
    assert site.hub.traffic.dropped["replayed"] >= len(recorded) - 1


@with_site
async def test_counters_never_repeat_across_a_restart(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    for _ in range(3):
        for _ in range(20):
            await site.hub.command("a", "led", [True], 5)
        await until(lambda: site.sessions.documents)
        await site.restart()
        node.publish(1)
        await until(lambda: node.is_empty)
    tags = [frame[-8:] for frame in link.sent if frame[0] & wire.TYPE_MASK == wire.DATA]
    assert len(tags) == len(set(tags))


@with_site
async def test_a_store_that_is_busy_stops_sending_before_counters_run_out(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    device = site.hub.device("a")
    await until(lambda: device.current is not None and device.current.reserved_send)
    site.sessions.is_busy = True
    sent = len(link.sent)
    asked = 0
    assert device.current is not None
    with contextlib.suppress(CommandError):
        for _ in range(600):
            await site.hub.command("a", "led", [True], 0.3)
            asked += 1
    assert asked < 600
    assert device.current.session.send_counter <= device.current.reserved_send
    data = [frame for frame in link.sent[sent:] if frame[0] & wire.TYPE_MASK == wire.DATA]
    assert 100 < len(data) <= 256
    site.sessions.is_busy = False
    await until(lambda: device.current is not None and device.current.reserved_send > 300)
    assert await site.hub.command("a", "led", [False], 5) == {"led": [False]}
    assert node.endpoint.joins_total == 1


@with_site
async def test_without_stored_sessions_nodes_join_anew_by_themselves(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    node.publish(1, 2)
    await until(lambda: node.is_empty)
    await site.restart(with_sessions=False)
    node.publish(3)
    await until(lambda: node.is_empty)
    assert site.uplinks.numbers("a") == [1, 2, 3]
    assert node.endpoint.joins_total == 2


@with_site
async def test_a_manifest_is_asked_for_once_and_readings_wait_for_it(site: Site) -> None:
    link = MemoryLink()
    device = await site.hub.add_device("a")
    node = MemoryNode(site.hub, link, device.key)
    site.nodes.append(node)
    node.publish(21.5)
    await until(lambda: node.is_empty)
    assert site.uplinks.stored[0][2] == "temperature"
    assert site.registry.documents["a"]["manifest"]["fw"] == "1.2.3"
    node.off()
    await site.restart()
    again = await site.node("a", link, boot=2, next_sequence=2)
    again.publish(22.5)
    await until(lambda: again.is_empty)
    assert len(site.logger.events("manifest_received")) == 1


@with_site
async def test_live_readings_pass_without_an_ack(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    await asyncio.sleep(0.05)
    before = len(link.sent)
    node.endpoint.publish(1, True, 0, False)
    node.pump()
    await until(lambda: site.requester.live)
    device, channel, payload = site.requester.live[0]
    assert (device, channel, json.loads(payload)["value"]) == ("a", "door", True)
    assert len(link.sent) == before


@with_site
async def test_somebody_who_looks_on_sees_names_and_values(site: Site) -> None:
    seen: list[dict[str, object]] = []
    node = await site.node("a", MemoryLink())
    site.hub.tap.publish = seen.append
    node.publish(21.5)
    await until(lambda: node.is_empty)
    site.hub.receive(Place(MemoryLink("x"), None), b"\x00rubbish")
    up = next(entry for entry in seen if entry["records"])
    assert up["records"][0]["channel"] == "temperature"  # type: ignore[index]
    assert up["records"][0]["value"] == 21.5  # type: ignore[index]
    assert any(entry["dropped"] == "unknown_type" for entry in seen)


@with_site
async def test_any_bytes_are_counted_and_disturb_nobody(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    recorded = [frame for frame in link.received if len(frame) > 20]
    for i in range(3000):
        data = bytearray(os.urandom(i % 260))
        if i % 3 == 0 and recorded:
            data = bytearray(recorded[i % len(recorded)])
            data[i % len(data)] ^= 1 << i % 8
        site.hub.receive(Place(link, None), bytes(data))
    node.publish(*range(10))
    await until(lambda: node.is_empty)
    assert site.uplinks.numbers("a") == list(range(1, 11))
    assert sum(site.hub.traffic.dropped.values()) > 2000
    known = {
        "empty", "short", "oversize", "unknown_type", "reserved_bits", "address_form", "unknown_session", "tag",
        "replayed", "unknown_device", "version", "join_rate", "unexpected",
    }  # fmt: skip
    assert set(site.hub.traffic.dropped) <= known


@with_site
async def test_rejects_are_few(site: Site) -> None:
    link = MemoryLink()
    for _ in range(100):
        site.hub.receive(Place(link, 1), bytes([wire.DATA]) + os.urandom(20))
    rejects = [frame for frame in link.sent if frame[0] & wire.TYPE_MASK == wire.REJECT]
    assert 1 <= len(rejects) <= 4
    assert isinstance(frames.split(rejects[0]), frames.Split)
    assert AesCcm is not None
    assert MANIFEST
