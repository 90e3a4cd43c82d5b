"""Items, cancels and documents ↔ what NATS carries.

    <down|out>.<site>.<device>.q          an item
    <down|out>.<site>.<device>.q.<sender> the same under the name of its sender, who has places of his own
    <down|out>.<site>.<device>.k.<key>    an item that replaces older ones of its key
    <down|out>.<site>.<device>.c          cancels an item
An item is JSON `{"command": …, "arguments": …}`; a cancel `{"id": …}`. Headers: `Nats-Msg-Id` is the item's id,
`Petiole-Expires` its deadline (RFC 3339), `Petiole-Priority` 0 to 9, `Petiole-Reply-To` a subject for the result,
`Petiole-Sender` the name of who sends an item with a key, `Petiole-Replaces` the ids of items in whose place it is
stored, newest first: of those that no gateway has seen this is all that is left.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..foreign_json import JsonError, parse, parse_object
from ..hub.mailbox_item import DEFAULT_PRIORITY, HIGHEST_PRIORITY, Change, Item
from ..hub.mailbox_states import QUEUED, REPLACED
from ..hub.readings import timestamp
from .api import Document
from .errors import ConfigError
from .mailbox_streams import MAX_MAIL, MAX_RECORD
from .subjects import checked_token, is_token, mail_filter

EXPIRES_HEADER = "Petiole-Expires"
PRIORITY_HEADER = "Petiole-Priority"
REPLY_HEADER = "Petiole-Reply-To"
SENDER_HEADER = "Petiole-Sender"
REPLACES_HEADER = "Petiole-Replaces"
ID_HEADER = "Nats-Msg-Id"
TTL_HEADER = "Nats-TTL"

LEAF = "site"  # origin of items that are stored on the leaf
HUB = "hub"

# Five are the end, but for those that were cut short by an end of the gateway.
MAX_TOLD_ATTEMPTS = 1000

MIN_EXPIRES_S = 1.0
MAX_EXPIRES_S = 30 * 86_400.0
# An item outlives its deadline where it is stored, so that a gateway that comes late can say that it expired.
MAX_GRACE_S = 3600.0
MAX_REPLY_SUBJECT = 256
# Ids of 32 characters, which with the other headers stay below _HEADERS_ROOM. Older ones are told of by nobody.
MAX_REPLACES = 16
# What the server adds of headers, and the longest of ours.
_HEADERS_ROOM = 1024
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 10


class UnreadableError(Exception):
    """A stored message that is no item and no cancel."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody does not want an item any more."""

    device: str
    id: str
    source: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Mail:
    """A message ready to publish."""

    subject: str
    payload: bytes
    headers: dict[str, str]


def new_id() -> str:
    """Fifty random bits that people can read out."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def item_mail(
    purpose: str,
    site: str,
    device: str,
    command: str,
    arguments: Any,
    *,
    now: int,
    expires_in_s: float,
    id: str,
    key: str | None = None,
    priority: int = DEFAULT_PRIORITY,
    reply_to: str | None = None,
    sender: str | None = None,
    replaces: Sequence[str] = (),
) -> Mail:
    """An item as it is published. ConfigError for what can never be an item."""
    if not MIN_EXPIRES_S <= expires_in_s <= MAX_EXPIRES_S:
        raise ConfigError("expires_in", expires_in_s, "must be from 1 second to 30 days")
    if not 0 <= priority <= HIGHEST_PRIORITY:
        raise ConfigError("priority", priority, f"must be from 0 to {HIGHEST_PRIORITY}, higher is sent first")
    body = {"command": checked_token("command", command), "arguments": arguments}
    try:
        payload = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        parse(payload)  # what a gateway would not take is refused here, where its sender hears of it
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError("arguments", type(arguments).__name__, f"cannot be sent: {error}") from error
    if len(payload) > MAX_MAIL - _HEADERS_ROOM:
        raise ConfigError("arguments", len(payload), f"must be at most {MAX_MAIL - _HEADERS_ROOM} bytes of JSON")
    headers = {
        ID_HEADER: checked_token("id", id),
        EXPIRES_HEADER: timestamp(now + int(expires_in_s * 1000)),
        TTL_HEADER: str(int(expires_in_s + min(expires_in_s, MAX_GRACE_S)) + 1),
    }
    if priority != DEFAULT_PRIORITY:
        headers[PRIORITY_HEADER] = str(priority)
    if reply_to is not None:
        headers[REPLY_HEADER] = reply_to
    box = mail_filter(purpose, site, device).removesuffix(">")
    if key is None:
        return Mail(f"{box}q" if sender is None else f"{box}q.{checked_token('sender', sender)}", payload, headers)
    if sender is not None:
        headers[SENDER_HEADER] = checked_token("sender", sender)
    headers["Nats-Rollup"] = "sub"
    if replaces:
        headers[REPLACES_HEADER] = " ".join(replaces[:MAX_REPLACES])
    return Mail(f"{box}k.{checked_token('key', key)}", payload, headers)


def cancel_mail(purpose: str, site: str, device: str, id: str) -> Mail:
    """A cancel as it is published."""
    subject = mail_filter(purpose, site, device).removesuffix(">") + "c"
    payload = json.dumps({"id": checked_token("id", id)}, separators=(",", ":")).encode()
    return Mail(subject, payload, {ID_HEADER: f"cancel.{id}"})


def parse_mail(
    source: tuple[str, int], subject: str, headers: Mapping[str, str], payload: bytes, queued_at: int
) -> Item | Cancel:
    """What a stored message says. UnreadableError if it says nothing that can be done."""
    parts = subject.split(".")
    if len(parts) < 4 or not all(map(is_token, parts)):
        raise UnreadableError(f"subject {subject[:100]!r}")
    device, kind = parts[2], parts[3]
    try:
        body = parse_object(payload)
    except JsonError as error:
        raise UnreadableError(f"the payload: {error}") from error
    if kind == "c" and len(parts) == 4:
        return Cancel(device, _token(body.get("id"), "id"), source)
    if not (kind == "q" and len(parts) <= 5) and not (kind == "k" and len(parts) == 5):
        raise UnreadableError(f"subject {subject[:100]!r}")
    reply_to = headers.get(REPLY_HEADER)
    return Item(
        _token(headers.get(ID_HEADER), "Nats-Msg-Id"),
        device,
        _token(body.get("command"), "command"),
        _compact(body.get("arguments")),
        expires_at=_expires_at(headers, queued_at),
        queued_at=queued_at,
        sources=[source],
        priority=_priority(headers.get(PRIORITY_HEADER)),
        key=parts[4] if kind == "k" else None,
        sender=_sender(parts, headers),
        reply_to=reply_to if reply_to and _is_inbox(reply_to) else None,
        replaces=_ids(headers.get(REPLACES_HEADER, "").split(" ")) if kind == "k" else (),
    )


def milliseconds(text: str) -> int:
    """RFC 3339 → ms since 1970. ValueError, also without a time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return int(moment.timestamp() * 1000)


# Documents ---------------------------------------------------------------------------------------------------------


def document(change: Change) -> Document:
    """What people are told of an item."""
    item = change.item
    told: Document = {
        "id": item.id,
        "device": item.device,
        "command": item.command,
        "state": change.state,
        "at": timestamp(change.at),
        "queued_at": timestamp(item.queued_at),
        "expires_at": timestamp(item.expires_at),
        "attempts": item.attempts,
        "priority": item.priority,
    }
    optional = {"key": item.key, "sender": item.sender, "status": change.status, "reason": change.reason}
    told.update({name: value for name, value in optional.items() if value is not None})
    if change.status is not None:
        told["value"] = change.value
    return told


def waiting_document(item: Item) -> Document:
    """The same of an item that no gateway has said anything about."""
    return document(Change(item, QUEUED, item.queued_at))


def replaced_document(by: Item, id: str) -> Document:
    """The same of an item whose place another took before a gateway saw it. Nobody has its command and its times."""
    told: Document = {"id": id, "device": by.device, "state": REPLACED, "at": timestamp(by.queued_at), "attempts": 0}
    return {**told, "key": by.key, "reason": f"by {by.id}, before a gateway saw it"}


def record(change: Change) -> Document:
    """The same for the leaf's own bucket, with all that is needed to go on after a restart."""
    item = change.item
    kept = {**document(change), "sources": item.sources, "reply_to": item.reply_to}
    if item.is_final:
        return kept
    return {**kept, "arguments": json.loads(item.arguments), "replaces": item.replaces}


def parse_record(name: str, payload: bytes) -> Document:
    """The record of the item `<device>.<id>`. UnreadableError."""
    try:
        kept = parse_object(payload, most=MAX_RECORD)
    except JsonError as error:
        raise UnreadableError(str(error)) from error
    if f"{kept.get('device')}.{kept.get('id')}" != name or not all(map(is_token, name.split("."))):
        raise UnreadableError("it is of another item")
    if not isinstance(kept.get("state"), str):
        raise UnreadableError("it has no state")
    return kept


def recorded_item(kept: Document) -> Item:
    """The item of a record that is not final. UnreadableError if it is none."""
    key, sender, arguments = kept.get("key"), kept.get("sender"), kept.get("arguments")
    try:
        times = [milliseconds(kept[name]) for name in ("queued_at", "expires_at")]
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise UnreadableError("it has not its times") from error
    return Item(
        _token(kept.get("id"), "id"),
        _token(kept.get("device"), "device"),
        _token(kept.get("command"), "command"),
        _compact(arguments),
        expires_at=times[1],
        queued_at=times[0],
        sources=sources_of(kept),
        priority=_number(kept, "priority", HIGHEST_PRIORITY),
        key=None if key is None else _token(key, "key"),
        sender=None if sender is None else _token(sender, "sender"),
        reply_to=reply_to_of(kept),
        attempts=attempts_of(kept),
        replaces=_ids(kept.get("replaces")),
    )


def sources_of(kept: Document) -> list[tuple[str, int]]:
    """Where the item of a record is stored upstream. UnreadableError."""
    found = kept.get("sources")
    if not isinstance(found, list) or not found:
        raise UnreadableError("it does not say where it comes from")
    for each in found:
        is_pair = isinstance(each, list) and len(each) == 2
        if not is_pair or each[0] not in (LEAF, HUB) or type(each[1]) is not int:
            raise UnreadableError("it does not say where it comes from")
    return [(origin, sequence) for origin, sequence in found]


def reply_to_of(kept: Document) -> str | None:
    """Who waits for the end of the item of a record."""
    reply_to = kept.get("reply_to")
    return reply_to if isinstance(reply_to, str) and _is_inbox(reply_to) else None


def attempts_of(kept: Document) -> int:
    """How often the item of a record was sent. UnreadableError."""
    return min(_number(kept, "attempts", 2**64), MAX_TOLD_ATTEMPTS)


def _number(kept: Document, name: str, most: int) -> int:
    value = kept.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise UnreadableError(f"{name} is no number from 0 to {most}")
    return value


def encoded(told: Document) -> bytes:
    """JSON of a document."""
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def _compact(arguments: object) -> bytes:
    return json.dumps(arguments, separators=(",", ":"), ensure_ascii=False).encode()


def _token(value: object, what: str) -> str:
    if not isinstance(value, str) or not is_token(value):
        raise UnreadableError(f"{what} is not 1 to 32 characters of A-Z a-z 0-9 _ -")
    return value


def _ids(found: object) -> tuple[str, ...]:
    """What is an id of it."""
    listed = found[:MAX_REPLACES] if isinstance(found, list) else ()
    return tuple(each for each in listed if isinstance(each, str) and is_token(each))


def _sender(parts: list[str], headers: Mapping[str, str]) -> str | None:
    """Of an item with a key in a header, for all items of a key have one subject. A wrong name is none."""
    if parts[3] == "q":
        return parts[4] if len(parts) == 5 else None
    name = headers.get(SENDER_HEADER, "")
    return name if is_token(name) else None


def _priority(text: str | None) -> int:
    if text is None or not text.isdigit() or len(text) > 1:
        return DEFAULT_PRIORITY
    return int(text)


def _expires_at(headers: Mapping[str, str], queued_at: int) -> int:
    """The deadline, no later than the longest life allows, whoever wrote it."""
    latest = queued_at + int(MAX_EXPIRES_S * 1000)
    try:
        return min(milliseconds(headers[EXPIRES_HEADER]), latest)
    except KeyError:
        return latest
    except (ValueError, OverflowError) as error:
        raise UnreadableError(f"{EXPIRES_HEADER} is no time") from error


def _is_inbox(text: str) -> bool:
    """Where somebody waits for an answer. Anything else would let a sender publish with the gateway's rights."""
    if len(text) > MAX_REPLY_SUBJECT or any(char <= " " or char in "*>" for char in text):
        return False
    return text.startswith("_INBOX.") and all(text.split("."))
