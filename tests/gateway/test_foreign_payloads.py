"""Whatever others send on the subjects that a gateway hears, or leave in the streams that it reads: it lives, its tasks
run, it is started again, and works."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from petiole_gateway.foreign_json import JsonError, parse
from petiole_gateway.nats.subjects import document_subject

from .real_time import until
from .whole import SITE, World

PER_SUBJECT = 200
# One of these in the place of a value that is right.
VALUES = [
    *("null", "true", "-1", "0", "1.5", "1e999", "-1e999", "NaN", "Infinity", "18446744073709551616", "9" * 5000),
    *('""', '"x"', '"a.b"', '"*"', '"\\ud800"', '"\\u0000"', '"' + "x" * 9000 + '"', '"9999-12-31T23:59:59+14:00"'),
    *("[]", "{}", "[[]]", "[1,2,3]", '[["hub",1e999]]', '[["site",-1]]', '[["moon",1]]', '{"a":1,"a":2}'),
    *("[" * depth + "]" * depth for depth in (8, 9, 32, 33, 200, 900, 940, 980, 3000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (33, 940)),
]
# What is right, by the pattern of the subject.
ITEM = {"command": '"led"', "arguments": "[true]", "id": '"it"'}
RECORD = {
    "id": '"it"',
    "device": '"dev"',
    "command": '"led"',
    "state": '"pending"',
    "at": '"2026-01-01T00:00:00.000Z"',
    "queued_at": '"2026-01-01T00:00:00.000Z"',
    "expires_at": '"2099-01-01T00:00:00.000Z"',
    "attempts": "0",
    "priority": "5",
    "key": '"k"',
    "sources": '[["site",5]]',
    "reply_to": '"_INBOX.x.y"',
    "arguments": "[true]",
}
RIGHT: list[tuple[str, dict[str, str]]] = [
    (r"\$KV\.mailbox\.", RECORD),
    (r"\$KV\.presence\.", {"device": '"dev"', "state": '"online"', "gateway": '"other"', "since_at": "null"}),
    (r"(down|out)\.|local\.mail\.", ITEM),
    (r"local\.gateways\.", {"gateway": '"other"', "kind": '"changed"', "device": '"dev"'}),
    (r"gw\..*policy", {"name": '"dev"', "period_s": "60", "spacing_s": "1", "awake_s": "0"}),
    (r"gw\.", {"name": '"dev"', "key": '"00"', "after": '""', "limit": "1", "for_s": "1", "port": '"x"'}),
    (r"", {"on": "true"}),
]
HEADERS = {
    "Nats-Msg-Id": ["it", "", "a b", "x" * 300, "\u00e4"],
    "Petiole-Expires": ["2099-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "soon", "9" * 40, "2099-01-01T00:00:00"],
    "Petiole-Priority": ["0", "9", "10", "-1", "\u00b2", "x"],
    "Petiole-Reply-To": ["_INBOX.a.b", "up.site1.a.b", "_INBOX..x", "_INBOX.*", "x" * 300],
    "Petiole-Timeout": ["nan", "inf", "-1", "1e999", "x", "0.05"],
    "Petiole-Queue": ["60", "nan", "inf", "-inf", "x"],
    "Nats-Sequence": ["1", "-1", "x", "9" * 30],
    "Nats-Time-Stamp": ["2026-01-01T00:00:00Z", "x"],
    "Nats-Service-Error-Code": ["x", "\u00b2", "500"],
    "Status": ["503", "x", "404"],
}


class Sender:
    """Payloads and headers that are arbitrary, or right but for a little."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def payload(self, subject: str) -> bytes:
        rng = self._random
        if rng.random() < 0.2:
            return rng.randbytes(rng.choice([0, 1, 7, 200]))
        if rng.random() < 0.2:
            return rng.choice(VALUES).encode()
        right = next(fields for pattern, fields in RIGHT if re.match(pattern, subject))
        fields = {name: rng.choice(VALUES) if rng.random() < 0.25 else text for name, text in right.items()}
        if rng.random() < 0.2:
            del fields[rng.choice(list(fields))]
        text = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text))]
        return text.encode()

    def headers(self, subject: str) -> dict[str, str] | None:
        rng = self._random
        headers = {name: rng.choice(values) for name, values in HEADERS.items() if rng.random() < 0.3}
        if rng.random() < 0.7:
            headers["Nats-Msg-Id"] = f"i{rng.randrange(10**9)}"
        if "Nats-Sequence" in headers:
            headers["Nats-Subject"] = rng.choice([f"out.{SITE}.dev.q", f"out.{SITE}.dev.c", "", "x"])
        return headers if rng.random() < 0.9 else None

    def subject(self, heard: str) -> str:
        """One of those that a subscription hears."""
        rng = self._random
        names = ["dev", "dev", "nobody", "q", "c", "k", "it", "x" * 40]
        words = [rng.choice(names) if word in ("*", ">") else word for word in heard.split(".")]
        return ".".join(words)


def heard_by(world: World) -> list[str]:
    """Every subject that the gateway subscribes, and those of the streams that it reads."""
    subscribed = {sub._subject for sub in world.gateway.connection.client._subs.values()}
    stored = {f"out.{SITE}.dev.{rest}" for rest in ("q", "c", "k.it", "x", "k.it.y")}
    stored |= {f"out.{SITE}.nobody.q", document_subject(SITE, "dev.it"), f"$KV.presence.{SITE}.dev"}
    return sorted(subscribed | stored)


async def answers(world: World) -> bool:
    """Whether the gateway has done what it was asked so far; while it has its hands full it says 429."""
    return (await world.ask("status")).get("code") != 429


async def check_it_works(world: World, node: Any, number: int) -> None:
    node.publish(number)
    await until(lambda: node.is_empty)
    assert (await world.stored())[-1] == ("a", number + 1, number)
    assert await world.command("a", "led", [True]) == (0, {"led": [True]})
    ended = []

    async def hear(message: Any) -> None:
        ended.append(json.loads(message.data)["state"])

    inbox = world.client.new_inbox()
    await world.client.subscribe(inbox, cb=hear)
    headers = {"Nats-Msg-Id": f"check{number}", "Petiole-Reply-To": inbox}
    item = json.dumps({"command": "led", "arguments": [True]}).encode()
    await world.client.request(f"out.{SITE}.a.q", item, timeout=10, headers=headers)
    await until(lambda: ended == ["delivered"])


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_that_others_send_ends_a_task_or_keeps_the_gateway_from_starting(world: World, seed: int) -> None:
    node = await world.node("a")
    await world.ask("device.add", {"name": "dev"})
    sender = Sender(seed)
    await check_it_works(world, node, 0)
    sent = 0
    for heard in heard_by(world):
        for _ in range(PER_SUBJECT):
            subject = sender.subject(heard)
            reply = world.client.new_inbox() if sender._random.random() < 0.5 else ""
            payload = sender.payload(subject)[:30_000]
            await world.client.publish(subject, payload, reply=reply, headers=sender.headers(subject))
            sent += 1
        await until(lambda: answers(world))
        assert world.gateway.supervisor.failures == {}, heard
    assert sent >= 20 * PER_SUBJECT
    await check_it_works(world, node, 1)
    assert world.gateway.supervisor.failures == {}
    await world.stop()
    await world.start()
    assert world.gateway.supervisor.failures == {}
    await check_it_works(world, node, 2)
    assert world.gateway.unreadable.total["mail"] > 0  # records that were written beside the gateway


@pytest.mark.parametrize("depth", [33, 900, 940, 960])
async def test_arguments_too_deep_to_be_written_back_are_refused_and_nothing_is_kept_of_them(
    world: World, depth: int
) -> None:
    node = await world.node("a")
    deep = "[" * depth + "]" * depth
    body = f'{{"command":"led","arguments":{deep}}}'.encode()
    await world.client.request(f"out.{SITE}.a.q", body, timeout=10, headers={"Nats-Msg-Id": "deep"})
    mail = world.gateway.mail
    assert mail is not None
    await until(lambda: mail.metrics.unreadable_total == 1 and not len(mail.settlement))
    reply = await world.request(f"dev.{SITE}.a.led", None)
    assert json.loads(reply.data)["code"] == 400  # it lacks its argument
    raw = await world.client.request(f"dev.{SITE}.a.led", deep.encode(), timeout=10)
    assert (raw.headers or {})["Nats-Service-Error-Code"] == "400"
    assert "deep" in (raw.headers or {})["Nats-Service-Error"]
    await world.stop()
    await world.start()
    await check_it_works(world, node, 0)


async def test_what_is_stored_and_cannot_be_read_is_told_and_passed_over(world: World) -> None:
    node = await world.node("a")
    await world.ask("device.add", {"name": "lost"})
    item = json.dumps({"command": "led", "arguments": [True]}).encode()
    assert world.gateway.mail is not None
    assert (await world.ask("device.policy", {"name": "lost", "period_s": 60}))["wake_policy"]["period_s"] == 60
    deep = "[" * 940 + "]" * 940
    kept = {name: json.loads(value) for name, value in RECORD.items()} | {"device": "lost"}
    damaged = json.dumps(kept)[:-1] + f',"arguments":{deep}}}'
    await world.client.publish(document_subject(SITE, "lost.it"), damaged.encode())
    await world.client.publish("$KV.devices.lost", b"\x01 what a failing card makes of it")
    await world.client.publish("$KV.wake.a", b"\x01 the same")
    await world.client.flush()
    await world.stop()
    await world.start()
    assert sorted(world.gateway.hub.roster.devices) == ["a"]
    status = await world.ask("status")
    assert status["unreadable"] == {"devices": 1, "wake": 1, "mail": 1}
    health = world.gateway.status.health()
    assert [each.code for each in health.findings].count("documents_unreadable") == 3
    assert health.is_live
    assert health.is_ready
    for event, name in [("device", "lost"), ("wake_policy", "a"), ("mail_record", "lost.it")]:
        assert name in [each["name"] for each in world.logger.events(f"{event}_unreadable")]
    await check_it_works(world, node, 0)
    # What is written anew is read again, and a damaged record stands in nobody's way.
    await world.ask("device.add", {"name": "lost"})
    await world.client.request(f"out.{SITE}.lost.q", item, timeout=10, headers={"Nats-Msg-Id": "it"})
    mail = world.gateway.mail
    assert mail is not None
    await until(lambda: world.waiting("lost") == 1 and not mail._records.pending)
    await world.stop()
    await world.start()
    assert "lost" in world.gateway.hub.roster.devices
    assert world.waiting("lost") == 1
    assert (await world.ask("device.show", {"name": "lost"}))["wake_policy"]["period_s"] == 60, "kept meanwhile"
    assert world.gateway.unreadable.total == {"wake": 1}


def test_every_value_of_the_fuzz_is_taken_or_refused_as_a_whole() -> None:
    for text in VALUES:
        try:
            json.dumps(parse(text.encode()), allow_nan=False)
        except JsonError:
            continue


async def test_a_message_at_which_the_gateway_itself_fails_keeps_no_other_from_being_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await world.node("a")
    mail = world.gateway.mail
    assert mail is not None
    take = mail._desk._take

    def fails(item: Any) -> None:
        if item.id == "poison":
            raise RuntimeError("a defect")
        take(item)

    monkeypatch.setattr(mail._desk, "_take", fails)
    item = json.dumps({"command": "led", "arguments": [True]}).encode()
    await world.client.request(f"out.{SITE}.a.q", item, timeout=10, headers={"Nats-Msg-Id": "poison"})
    await check_it_works(world, node, 0)
    assert world.gateway.supervisor.failures["mail: one message"].total >= 1
    assert world.gateway.supervisor.failures.keys() == {"mail: one message"}
    assert world.gateway.unreadable.total["mail"] >= 1


@pytest.mark.parametrize("most", [0, 10_000])
async def test_cancels_of_items_that_nobody_knows_do_not_pile_up(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("petiole_gateway.nats.mailbox_desk.MAX_CANCELS", most)
    await world.ask("device.add", {"name": "a"})
    mail = world.gateway.mail
    assert mail is not None
    for device in ("a", "nobody"):
        for number in range(5):
            cancel = json.dumps({"id": f"x{number}"}).encode()
            await world.client.request(
                f"out.{SITE}.{device}.c", cancel, timeout=10, headers={"Nats-Msg-Id": device + str(number)}
            )
    dropped = 10 if most == 0 else 5
    await until(lambda: mail.metrics.cancels_dropped_total == dropped and not mail._desk.open_cancels)
    await until(lambda: len(mail.settlement) == 0)
    assert mail._desk._open_cancels == 0
