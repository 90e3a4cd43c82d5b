"""Mail to devices that sleep: sending it, looking at it, taking it back, waiting for what becomes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from petiole_gateway.hub.mailbox_states import FINAL
from petiole_gateway.monitoring.health import span
from petiole_gateway.nats.connection import Connection
from petiole_gateway.nats.connection import connect as connect_for_good
from petiole_gateway.nats.errors import NotConnectedError, SecurityError
from petiole_gateway.nats.mailbox_client import MailboxClient, Receipt
from petiole_gateway.nats.mailbox_items import MAX_EXPIRES_S, MIN_EXPIRES_S
from petiole_gateway.nats.subjects import site_inbox
from petiole_tools.arguments import command_arguments, seconds
from petiole_tools.client import CONNECT_TIMEOUT_S, checked_name, no_server, not_let_in
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options
from petiole_tools.output import clean, note, paint, parse_time, say, say_json, say_table

STYLES = {
    "queued": "cyan",
    "pending": "yellow",
    "delivered": "green",
    "failed": "red",
    "expired": "red",
    "dropped": "red",
}


MAX_RESULT = 72  # characters: an error of the gateway with its hint, and still one line on most screens


class _Silent:
    def info(self, event: str, **fields: Any) -> None:
        pass

    debug = warning = error = info


@asynccontextmanager
async def mailbox_of(options: Options) -> AsyncIterator[tuple[MailboxClient, Connection, str]]:
    """A client, its connection, and the site that is meant. CliError when there is no connection to be had."""
    target = options.target()
    site = checked_name("site", target.site)
    try:
        connection = await connect_for_good(
            target.url,
            logger=_Silent(),
            user=target.user,
            password=target.password,
            credentials=target.credentials,
            inbox_prefix=site_inbox(site),
            timeout_s=CONNECT_TIMEOUT_S,
        )
    except NotConnectedError as error:
        raise no_server(target) from error
    except SecurityError as error:
        raise not_let_in(target) from error
    try:
        yield MailboxClient(connection), connection, site
    finally:
        await connection.close()


async def send(
    options: Options,
    device: str,
    command: str,
    words: list[str],
    expires_in: str,
    key: str | None,
    priority: int,
    sender: str | None,
) -> None:
    """Queue a command, wherever the device and its gateway are; print the receipt."""
    checked_name("device name", device)
    arguments = command_arguments(words)
    expires_in_s = seconds("--expires", expires_in)
    if not MIN_EXPIRES_S <= expires_in_s <= MAX_EXPIRES_S:
        raise CliError(f"--expires {expires_in}: from 1 second to 30 days", "for example --expires 12h")
    async with mailbox_of(options) as (client, _, site):
        receipt = await client.send(
            site, device, command, arguments, expires_in_s=expires_in_s, key=key, priority=priority, sender=sender
        )
    if options.as_json:
        say_json({"id": receipt.id, "device": device, "site": site, "key": key, "stream": receipt.stream})
        return
    say(f"queued for {device} as {paint(receipt.id, 'bold')}, for at most {span(expires_in_s)}")
    note(f"`petiole mailbox {device}` shows what becomes of it")


async def show(options: Options, device: str) -> None:
    """What waits for a device, and what became of the last items."""
    checked_name("device name", device)
    async with mailbox_of(options) as (client, _, site):
        items = await client.items(site, device)
    if options.as_json:
        say_json({"device": device, "items": items})
        return
    if not items:
        say(f"nothing waits for {device}, and nothing did lately")
        return
    headings = ("ID", "COMMAND", "STATE", "SINCE", "EXPIRES", "RESULT")
    say_table(headings, [row(item) for item in items])


def row(item: dict[str, Any]) -> tuple[str, ...]:
    """An item as `petiole mailbox` lists it."""
    state = str(item.get("state", ""))
    is_waiting = state in ("queued", "pending")
    left = _seconds_until(item.get("expires_at"))
    result = str(item.get("reason") or "")
    if "value" in item:
        result = clean(json.dumps(item["value"], ensure_ascii=False))
        if len(result) > MAX_RESULT:
            result = result[: MAX_RESULT - 1] + "…"  # --json has all of it
        if item.get("status"):
            result = f"{item['status']} {result}"
    return (
        str(item.get("id", "")),
        str(item.get("command", "")) + (f" [{item['key']}]" if item.get("key") else ""),
        state + (f", attempt {item['attempts']}" if is_waiting and item.get("attempts", 0) > 1 else ""),
        f"{span(-_seconds_until(item.get('at')))} ago",
        f"in {span(left)}" if is_waiting else "",
        result,
    )


def _seconds_until(at: object) -> float:
    from datetime import UTC, datetime  # noqa: PLC0415 - only here

    moment = parse_time(at)
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()


async def cancel(options: Options, device: str, id: str) -> None:
    """Take an item back; say whether that came in time."""
    checked_name("device name", device)
    checked_name("id", id)
    async with mailbox_of(options) as (client, _, site):
        known = [item for item in await client.items(site, device) if item.get("id") == id]
        if not known:
            raise CliError(f"nothing called {id} is in the mailbox of {device}", f"`petiole mailbox {device}` lists it")
        ended = known[0]
        if ended["state"] not in FINAL:
            await client.cancel(site, device, id)
            receipt = Receipt(site, device, id, 2**62, None, "", 0, False)
            try:
                ended = await client.wait(receipt, timeout_s=CANCEL_S)
            except TimeoutError:
                ended = {"id": id, "device": device, "state": "cancelling"}
    if options.as_json:
        say_json(ended)
    elif ended["state"] == "cancelled":
        say(f"{id} is cancelled")
    elif ended["state"] == "cancelling":
        say(f"{id} is cancelled as soon as the device's gateway hears of it, if it is not out by then")
    else:
        raise CliError(f"{id} is {ended['state']} already", f"`petiole mailbox {device}` shows what became of it")


# A gateway whose leaf is linked answers within milliseconds; one that is away learns it when it is back.
CANCEL_S = 2.0


def result_of(ended: dict[str, Any], device: str) -> Any:
    """The value of an item that was carried out; else ServiceError or CliError."""
    state = ended["state"]
    if state == "delivered":
        return ended.get("value")
    if state == "failed":
        raise ServiceError(int(ended.get("status", 500)), str(ended.get("value")))
    reason = f": {ended['reason']}" if ended.get("reason") else ""
    raise CliError(f"the command was {state}{reason}", f"`petiole mailbox {device}` shows the items of the device")
