"""What devices say and are told: readings, requests, manifests; and that nothing they say can hurt."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from petiole import cbor, manifest, wire
from petiole.items import Encoded, Request
from petiole_gateway.hub.ports import CommandError, Place

from .memory import MemoryLink, MemoryNode, Site, until, with_site
from .virtual_time import now_ms

REASONS = {
    "empty", "short", "oversize", "cobs", "base64", "unknown_type", "reserved_bits", "address_form", "unknown_session",
    "tag", "replayed", "unknown_device", "version", "join_rate", "unexpected", "malformed_record", "unknown_extension",
    "malformed_fragment", "fragment_timeout", "sequence_range", "echo", "not_ready",
}  # fmt: skip
DEVICE_REASONS = REASONS | {"no_manifest", "malformed_manifest", "queue_full"}


def say(node: MemoryNode, data: bytes) -> None:
    """Send records as they are."""
    assert node.endpoint.session is not None
    node.endpoint.session.send(Encoded(data))
    node.pump()


def record(kind: int, value: Any) -> bytes:
    return bytes((kind,)) + cbor.encode(value)


async def ask(node: MemoryNode, subject: str, arguments: Any = None, timeout_ms: int = 5000) -> tuple[Any, Any]:
    """Status and value of the answer."""
    item = node.endpoint.request(subject, arguments, timeout_ms, now_ms())
    node.pump()
    await until(lambda: outcome(node, item), 120)
    event = outcome(node, item)
    assert event is not None
    return (event[2], event[3]) if event[0] == "reply" else ("failed", event[2])


def outcome(node: MemoryNode, item: Request) -> tuple[Any, ...] | None:
    """The event that ended a request."""
    return next((e for e in node.events if e[0] in ("reply", "failed") and e[1] is item), None)


# Readings --------------------------------------------------------------------------------------------------


@with_site
async def test_what_a_busy_store_did_not_take_is_not_acknowledged_and_stored_later(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    site.uplinks.is_busy = True
    node.publish(1, 2, 3)
    await asyncio.sleep(20)
    assert len(node.endpoint.outbox.items) == 3
    assert node.endpoint.session is not None
    assert node.endpoint.session.paused_until > now_ms() - 5000, "it is told as long as it lasts"
    site.uplinks.is_busy = False
    await until(lambda: node.is_empty, 30)
    assert site.uplinks.numbers("a") == [1, 2, 3]


@with_site
async def test_a_long_reading_survives_a_busy_store(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    site.uplinks.is_busy = True
    node.publish("x" * 700, "y")
    await asyncio.sleep(5)
    site.uplinks.is_busy = False
    await until(lambda: node.is_empty, 60)
    values = [json.loads(payload)["value"] for _, _, _, payload in site.uplinks.stored]
    assert values == ["x" * 700, "y"]
    assert node.endpoint.joins_total == 1


@with_site
async def test_readings_that_another_gateway_has_stored_are_not_stored_again(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    node.publish(1)
    await until(lambda: node.is_empty)
    for number in (2, 3):
        site.uplinks.stored.append(("a", number, "temperature", b"by another gateway"))
    node.publish(2, 3, 4)
    await until(lambda: node.is_empty, 30)
    assert site.uplinks.numbers("a") == [1, 2, 3, 4]


@with_site
async def test_a_floor_closes_a_gap_of_any_width_in_one_frame(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link, next_sequence=5000)
    before = len(link.received)
    node.publish(1, 2)
    await until(lambda: node.is_empty)
    assert site.uplinks.numbers("a") == [5000, 5001]
    assert len(link.received) == before + 1
    assert "sequence_range" not in site.hub.device("a").dropped


@with_site
async def test_readings_held_for_a_manifest_get_its_names(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    node.off()
    changed = manifest.encode("2.0.0", [[0, "pressure", "Pa", "f", 60]], [], [0, 0])
    device = site.hub.device("a")
    again = MemoryNode(site.hub, link, device.key, boot=2, described=changed)
    site.nodes.append(again)
    again.publish(1, 2)  # go out with the very first frame, before the gateway can ask
    await until(lambda: again.is_empty)
    assert [(channel, json.loads(payload)["unit"]) for _, _, channel, payload in site.uplinks.stored] == [
        ("pressure", "Pa")
    ] * 2
    assert device.manifest is not None
    assert device.manifest["fw"] == "2.0.0"


@pytest.mark.parametrize(
    "described",
    [
        5,
        {},
        {"fw": 1},
        {"fw": "1", "ch": 5},
        {"fw": "1", "ch": None},
        {"fw": "1", "ch": {"a": 1}},
        {"fw": "1", "ch": [[0, "a.b", "", "f", 1]]},
        {"fw": "1", "ch": [[0, "a", "", "ff", 1]]},
        {"fw": "1", "ch": [[0, "a", "", [], 1]]},
        {"fw": "1", "cmd": 7},
        {"fw": "1", "cmd": [[0, "go", [["x", [], True]]]]},
        {"fw": "1", "cmd": [[0, "go", [["x y", "i", True]]]]},
        {"fw": "1", "cmd": [[0, "go", 3]]},
        {"fw": "1", "p": "no"},
    ],
)
@with_site
async def test_a_manifest_that_is_none_is_refused_and_its_readings_get_numbers(site: Site, described: Any) -> None:
    device = await site.hub.add_device("a")
    node = MemoryNode(site.hub, MemoryLink(), device.key, described=cbor.encode(described))
    site.nodes.append(node)
    node.publish(7)
    await until(lambda: node.is_empty)
    assert site.uplinks.stored[0][2] == "ch0"
    assert device.dropped["malformed_manifest"] == 1
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "go", [1], 5)
    assert raised.value.code == 404


# Requests of nodes -----------------------------------------------------------------------------------------


@with_site
async def test_requests_get_answers_or_codes(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    assert await ask(node, "time.now", {"zone": "utc"}) == (0, {"echo": {"zone": "utc"}})
    for subject, code in (("nobody.here", 404), ("slow.one", 408), ("big.one", 413), ("odd.one", 500)):
        assert (await ask(node, subject, timeout_ms=90_000))[0] == code, subject
    for subject in ("$SYS.REQ", "_INBOX.x", "up.home.a.x", "dev.home.b.led", "a..b", "a.*", "a b", "", "x" * 201):
        assert (await ask(node, subject))[0] == 403, subject


@with_site
async def test_a_ninth_open_request_gets_429_and_a_new_session_begins_at_none(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    for id in range(1000, 1009):
        say(node, record(wire.REQUEST, [id, "slow.one", None, 60_000]))
    await until(lambda: len(site.requester.asked) == 8)
    node.off()
    again = await site.node("a", link, boot=2)
    assert await ask(again, "time.now") == (0, {"echo": None})


@with_site
async def test_a_request_that_comes_twice_is_carried_out_once(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    for _ in range(3):
        say(node, record(wire.REQUEST, [1000, "time.now", None]))
    await asyncio.sleep(1)
    assert len(site.requester.asked) == 1


@with_site
async def test_a_request_that_may_have_run_before_a_crash_does_not_run_again(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    await until(lambda: site.sessions.documents)
    link.is_cut = True
    item = node.endpoint.request("time.now", 1, 60_000, now_ms())
    node.pump()
    frame = link.received[-1]
    site.hub.receive(Place(link, None), frame)  # it arrives, and its ack does not
    await until(lambda: site.requester.asked)
    await site.crash()
    link.is_cut = False
    await until(lambda: outcome(node, item), 60)
    assert len(site.requester.asked) == 1
    assert outcome(node, item)[2] == 503  # type: ignore[index]


@with_site
async def test_a_request_made_after_an_orderly_restart_runs(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    await ask(node, "time.now")
    await site.restart()
    assert (await ask(node, "time.now"))[0] == 0


@with_site
async def test_an_answer_of_an_ended_session_is_not_sent(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    item = node.endpoint.request("slow.one", None, 3000, now_ms())
    node.pump()
    await until(lambda: site.requester.asked)
    node.off()
    again = await site.node("a", link, boot=2)
    await asyncio.sleep(5)
    assert not again.count("reply")
    assert again.endpoint.dropped.get("unexpected", 0) == 0
    assert item.id is not None


# Commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[1 << 70], ["\ud800"], {"a": 1 << 70}, [[[[[[[[[[1]]]]]]]]]]])
@with_site
async def test_arguments_that_cbor_cannot_hold_are_the_callers_fault(site: Site, arguments: Any) -> None:
    described = manifest.encode("1", [], [[0, "set", [["a", "a", True]]]], [0, 0])
    await site.node("a", MemoryLink(), described=described)
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "set", arguments, 5)
    assert raised.value.code == 400


@with_site
async def test_arguments_too_long_for_a_message_get_413(site: Site) -> None:
    described = manifest.encode("1", [], [[0, "set", [["a", "s", True]]]], [0, 0])
    node = await site.node("a", MemoryLink(), described=described)
    for length, code in ((5000, 413), (4096, 413), (4000, 0)):
        if not code:
            assert await site.hub.command("a", "set", ["x" * length], 20) == {"led": ["x" * length]}
            continue
        with pytest.raises(CommandError) as raised:
            await site.hub.command("a", "set", ["x" * length], 5)
        assert raised.value.code == code
    assert len(node.executed) == 1


@with_site
async def test_bytes_travel_as_base64_outside_and_as_bytes_on_the_wire(site: Site) -> None:
    described = manifest.encode("1", [], [[0, "put", [["data", "x", True]]]], [0, 0])
    node = await site.node("a", MemoryLink(), described=described)
    text = base64.b64encode(bytes(range(256))[:30]).decode()
    await site.hub.command("a", "put", {"data": text}, 5)
    assert node.executed[0][1] == {"data": bytes(range(30))}
    for wrong in ("not base64!", 5, None):
        with pytest.raises(CommandError, match="base64") as raised:
            await site.hub.command("a", "put", [wrong], 5)
        assert raised.value.code == 400


@with_site
async def test_an_error_of_a_node_reaches_the_caller_with_a_code_that_is_one(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    node.handlers.clear()
    for status, text, code in ((403, "no", 403), (500, b"\xff", 500), (-7, "odd", 500), (10**12, "odd", 500)):
        asked = asyncio.create_task(site.hub.command("a", "slow", [], 5))
        await until(lambda: node.count("command"))
        event = next(e for e in node.events if e[0] == "command")
        node.events.clear()
        node.endpoint.reply(event[1], status, text)  # type: ignore[arg-type]
        node.pump()
        with pytest.raises(CommandError) as raised:
            await asked
        assert raised.value.code == code


@with_site
async def test_many_commands_and_requests_leave_nothing_behind(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    for number in range(100):
        await site.hub.command("a", "led", [bool(number % 2)], 5)
        await ask(node, "time.now")
    device = site.hub.device("a")
    assert device.current is not None
    assert not device.open_requests
    assert not device.current.session.queue
    assert node.endpoint.joins_total == 1


@with_site
async def test_a_command_fails_at_once_when_the_gateway_says_so(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    asked = asyncio.create_task(site.hub.command("a", "slow", [], 30))
    await until(lambda: node.executed)
    site.hub.fail_commands("the gateway stops")
    with pytest.raises(CommandError, match="stops") as raised:
        await asked
    assert raised.value.code == 503


# Looking on ------------------------------------------------------------------------------------------------


@with_site
async def test_whoever_looks_on_sees_joins_acks_and_drops_of_both_directions(site: Site) -> None:
    seen: list[dict[str, Any]] = []
    site.hub.tap.publish = seen.append
    link = MemoryLink()
    node = await site.node("a", link)
    node.publish(1)
    await until(lambda: node.is_empty)
    say(node, record(wire.REQUEST, [b"id", [b"target"], b"\x00"]))
    site.hub.receive(Place(link, None), next(f for f in link.received if f[0] & wire.TYPE_MASK == wire.DATA))
    await until(lambda: any(entry["dropped"] == "replayed" for entry in seen))
    down = [entry["frame"] for entry in seen if entry["direction"] == "down"]
    assert down == [frame.hex() for frame in link.sent]
    assert {entry["type"] for entry in seen} >= {"JOIN_REQUEST", "JOIN_ACCEPT", "DATA", "ACK"}
    replayed = next(entry for entry in seen if entry["dropped"] == "replayed")
    assert replayed["device"] == "a"
    assert json.dumps(seen)
