"""What a message says, whoever wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petiole_gateway.hub.mailbox_item import Change, Item, item_number
from petiole_gateway.hub.mailbox_states import PENDING
from petiole_gateway.nats.mailbox_items import (
    EXPIRES_HEADER,
    MAX_EXPIRES_S,
    Cancel,
    UnreadableError,
    cancel_mail,
    item_mail,
    new_id,
    parse_mail,
    record,
    recorded_item,
)

NOW = 1_800_000_000_000
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


def parsed(subject: str, payload: bytes, **headers: str) -> Item | Cancel:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse_mail(("hub", 7), subject, names, payload, NOW)


def test_an_item_says_what_its_sender_said() -> None:
    mail = item_mail(
        "down", "s", "d", "led", [True], now=NOW, expires_in_s=60, id="a1", key="k", priority=7, reply_to="_INBOX.x"
    )
    assert mail.subject == "down.s.d.k.k"
    assert mail.headers["Nats-Rollup"] == "sub"
    assert mail.headers["Nats-TTL"] == "121"
    item = parse_mail(("hub", 7), mail.subject, mail.headers, mail.payload, NOW + 5)
    assert isinstance(item, Item)
    assert (item.id, item.device, item.command, item.arguments) == ("a1", "d", "led", b"[true]")
    assert (item.expires_at, item.queued_at) == (NOW + 60_000, NOW + 5)
    assert (item.key, item.priority, item.reply_to, item.sources) == ("k", 7, "_INBOX.x", [("hub", 7)])
    assert item.number == item_number("a1")


def test_a_cancel_names_its_item() -> None:
    mail = cancel_mail("out", "s", "d", "a1")
    assert mail.subject == "out.s.d.c"
    assert parse_mail(("site", 3), mail.subject, mail.headers, mail.payload, NOW) == Cancel("d", "a1", ("site", 3))


def test_a_record_brings_an_item_back() -> None:
    mail = item_mail("down", "s", "d", "led", {"a": 1}, now=NOW, expires_in_s=60, id="a1", key="k", priority=0)
    item = parse_mail(("hub", 7), mail.subject, mail.headers, mail.payload, NOW)
    assert isinstance(item, Item)
    item.state, item.attempts = PENDING, 3
    again = recorded_item(json.loads(json.dumps(record(Change(item, PENDING, NOW)))))
    for name in ("id", "device", "command", "arguments", "expires_at", "queued_at", "key", "priority", "attempts"):
        assert getattr(again, name) == getattr(item, name), name
    assert again.sources == item.sources


def test_no_deadline_is_later_than_the_longest_life() -> None:
    latest = NOW + int(MAX_EXPIRES_S * 1000)
    for headers in ({}, {"Petiole_Expires": "9999-12-31T23:59:59Z"}):
        item = parsed("down.s.d.q", b'{"command":"x"}', Nats_Msg_Id="i", **headers)
        assert isinstance(item, Item)
        assert item.expires_at == latest


@pytest.mark.parametrize("reply_to", ["$JS.API.STREAM.DELETE.UP", "a.>", "*", "a b", "", "a..b", ".a", "x" * 300])
def test_a_result_goes_to_no_subject_of_the_server_and_to_no_wildcard(reply_to: str) -> None:
    item = parsed("down.s.d.q", b'{"command":"x"}', Nats_Msg_Id="i", Petiole_Reply_To=reply_to)
    assert isinstance(item, Item)
    assert item.reply_to is None


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b"{}", b'{"command":1}', b'{"command":"x","arguments":NaN}', b"[" * 5000, b"\xff"]
)
def test_what_says_nothing_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableError):
        parsed("down.s.d.q", payload, Nats_Msg_Id="i")


@pytest.mark.parametrize("text", ["tomorrow", "2026-01-01", "2026-01-01T00:00:00", ""])
def test_a_deadline_that_is_no_time_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError, match=EXPIRES_HEADER):
        parsed("down.s.d.q", b'{"command":"x"}', Nats_Msg_Id="i", Petiole_Expires=text)


_SUBJECTS = st.lists(st.sampled_from(["down", "s", "d", "q", "k", "c", "", "*", "é"]), max_size=6).map(".".join)
_HEADERS = st.dictionaries(
    st.sampled_from(["Nats-Msg-Id", "Petiole-Expires", "Petiole-Priority", "Petiole-Reply-To"]), st.text(max_size=30)
)
_BODIES = st.binary(max_size=40) | st.fixed_dictionaries(
    {}, optional={"command": JSON, "arguments": JSON, "id": JSON}
).map(lambda body: json.dumps(body).encode())


@given(_SUBJECTS, _HEADERS, _BODIES)
def test_any_message_is_an_item_a_cancel_or_unreadable(subject: str, headers: dict[str, Any], payload: bytes) -> None:
    try:
        mail = parse_mail(("hub", 1), subject, headers, payload, NOW)
    except (UnreadableError, ValueError):
        return
    assert mail.device == "d" or mail.device


def test_ids_of_the_project_are_short_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {10}
