"""Items, cancels and documents ↔ what NATS carries.

    <down|out>.<site>.<device>.q          an item
    <down|out>.<site>.<device>.k.<key>    an item that replaces older ones of its key
    <down|out>.<site>.<device>.c          cancels an item
An item is JSON `{"command": …, "arguments": …}`; a cancel `{"id": …}`. Headers: `Nats-Msg-Id` is the item's id,
`Petiole-Expires` its deadline (RFC 3339), `Petiole-Priority` 0 to 9, `Petiole-Reply-To` a subject for the result.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..hub.mailbox_item import DEFAULT_PRIORITY, HIGHEST_PRIORITY, Change, Item
from ..hub.mailbox_states import QUEUED
from ..hub.readings import timestamp
from .api import Document
from .errors import ConfigError
from .mailbox_streams import MAX_MAIL
from .subjects import checked_token, is_token, mail_filter

EXPIRES_HEADER = "Petiole-Expires"
PRIORITY_HEADER = "Petiole-Priority"
REPLY_HEADER = "Petiole-Reply-To"
ID_HEADER = "Nats-Msg-Id"
TTL_HEADER = "Nats-TTL"

MIN_EXPIRES_S = 1.0
MAX_EXPIRES_S = 30 * 86_400.0
# An item outlives its deadline where it is stored, so that a gateway that comes late can say that it expired.
MAX_GRACE_S = 3600.0
MAX_REPLY_SUBJECT = 256
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
) -> Mail:
    """An item as it is published. ConfigError for what can never be an item."""
    if not MIN_EXPIRES_S <= expires_in_s <= MAX_EXPIRES_S:
        raise ConfigError("expires_in", expires_in_s, "must be from 1 second to 30 days")
    if not 0 <= priority <= HIGHEST_PRIORITY:
        raise ConfigError("priority", priority, f"must be from 0 to {HIGHEST_PRIORITY}, higher is sent first")
    body = {"command": checked_token("command", command), "arguments": arguments}
    try:
        payload = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError("arguments", type(arguments).__name__, f"cannot be JSON: {error}") from error
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
        return Mail(f"{box}q", payload, headers)
    headers["Nats-Rollup"] = "sub"
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
        body = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("the payload is not JSON") from error
    if not isinstance(body, dict):
        raise UnreadableError("the payload is not a JSON object")
    if kind == "c" and len(parts) == 4:
        return Cancel(device, _token(body.get("id"), "id"), source)
    if not (kind == "q" and len(parts) == 4) and not (kind == "k" and len(parts) == 5):
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
        reply_to=reply_to if reply_to and _is_inbox(reply_to) else None,
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
    optional = {"key": item.key, "status": change.status, "reason": change.reason}
    told.update({name: value for name, value in optional.items() if value is not None})
    if change.status is not None:
        told["value"] = change.value
    return told


def waiting_document(item: Item) -> Document:
    """The same of an item that no gateway has said anything about."""
    return document(Change(item, QUEUED, item.queued_at))


def record(change: Change) -> Document:
    """The same for the leaf's own bucket, with all that is needed to go on after a restart."""
    item = change.item
    kept = {**document(change), "sources": item.sources, "reply_to": item.reply_to}
    return kept if item.is_final else {**kept, "arguments": json.loads(item.arguments)}


def recorded_item(kept: Document) -> Item:
    """The item of a record that is not final. KeyError, ValueError or TypeError if it is none."""
    return Item(
        str(kept["id"]),
        str(kept["device"]),
        str(kept["command"]),
        _compact(kept["arguments"]),
        expires_at=milliseconds(kept["expires_at"]),
        queued_at=milliseconds(kept["queued_at"]),
        sources=sources_of(kept),
        priority=int(kept["priority"]),
        key=kept.get("key"),
        reply_to=kept.get("reply_to"),
        attempts=int(kept["attempts"]),
    )


def sources_of(kept: Document) -> list[tuple[str, int]]:
    """Where the item of a record is stored upstream."""
    return [(str(origin), int(sequence)) for origin, sequence in kept["sources"]]


def encoded(told: Document) -> bytes:
    """JSON of a document."""
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def _compact(arguments: object) -> bytes:
    return json.dumps(arguments, separators=(",", ":"), ensure_ascii=False).encode()


def _token(value: object, what: str) -> str:
    if not isinstance(value, str) or not is_token(value):
        raise UnreadableError(f"{what} is not 1 to 32 characters of A-Z a-z 0-9 _ -")
    return value


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
