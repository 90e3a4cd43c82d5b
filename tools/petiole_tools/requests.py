"""A command of a device: request and reply, now or when the device wakes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from nats.aio.msg import Msg

from petiole_gateway.health import span
from petiole_tools.arguments import command_arguments, seconds
from petiole_tools.client import ERROR_CODE, ERROR_TEXT, Client, checked_name, connected, parsed
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options
from petiole_tools.output import note, say_json

# The gateway gives up first and says why; only then does this end wait no longer.
GRACE_S = 2.0
TIMEOUT_HEADER = "Petiole-Timeout"  # seconds
QUEUE_HEADER = "Petiole-Queue"  # seconds
QUEUED_HEADER = "Petiole-Queued"  # id


async def request(
    options: Options, device: str, command: str, words: list[str], patience: str, wait: str | None
) -> None:
    """Run `command` of `device` and print the result. With `wait`, a device that sleeps gets it when it wakes."""
    checked_name("device name", device)
    checked_name("command name", command)
    arguments = command_arguments(words)
    timeout_s = seconds("--timeout", patience)
    wait_s = None if wait is None else seconds("--wait", wait)
    async with connected(options) as client:
        site = checked_name("site", client.site)
        nobody = CliError(
            f"no gateway of site {site!r} answers at {client.target.url}",
            "`petiole gateway run` starts one; another site is named with --site",
        )
        subject = f"dev.{site}.{device}.{command}"
        headers = {TIMEOUT_HEADER: f"{timeout_s:g}"}
        if wait_s is None:
            result = await client.ask(subject, arguments, timeout_s + GRACE_S, nobody, headers)
        else:
            headers[QUEUE_HEADER] = f"{wait_s:g}"
            result = await _late(client, device, subject, arguments, headers, timeout_s, wait_s, nobody)
    say_json(result)


async def _late(
    client: Client,
    device: str,
    subject: str,
    arguments: Any,
    headers: dict[str, str],
    timeout_s: float,
    wait_s: float,
    nobody: CliError,
) -> Any:
    from petiole_tools.mailbox import result_of  # noqa: PLC0415 - the gateway's parts take a tenth of a second

    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.connection.new_inbox()
    await client.connection.subscribe(inbox, cb=answers.put)
    payload = b"" if arguments is None else json.dumps(arguments).encode()
    await client.connection.publish(subject, payload, reply=inbox, headers=headers)
    try:
        first = await asyncio.wait_for(answers.get(), timeout_s + GRACE_S)
    except TimeoutError as error:
        hint = "`petiole status` shows whether the gateway is well"
        raise CliError(f"no answer within {timeout_s:g} s", hint) from error
    said = first.headers or {}
    if said.get("Status") == "503":
        raise nobody
    if ERROR_CODE in said:
        raise ServiceError(int(said[ERROR_CODE]), said.get(ERROR_TEXT, "refused"))
    receipt = parsed(first)
    if QUEUED_HEADER not in said:
        return receipt
    wakes = receipt.get("next_wake_s")
    known = "" if wakes is None else f", next wake in {span(wakes)}"
    note(f"{device} is {receipt['availability']}{known}; queued as {receipt['queued']}")
    return result_of(await _end(client, answers, device, receipt["queued"], wait_s), device)


async def _end(client: Client, answers: asyncio.Queue[Msg], device: str, id: str, wait_s: float) -> dict[str, Any]:
    """What became of the item."""
    later = CliError(f"{device} has not answered within {span(wait_s)}", f"`petiole mailbox {device}` shows {id}")
    end = time.monotonic() + wait_s + GRACE_S
    lost = asyncio.create_task(client.lost.wait())
    try:
        while True:
            heard = asyncio.create_task(answers.get())
            done, _ = await asyncio.wait(
                {heard, lost}, timeout=max(0.0, end - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
            if heard not in done:
                heard.cancel()
                if lost in done:
                    raise CliError("the connection is lost", f"the command stays queued: `petiole mailbox {device}`")
                raise later
            document = parsed(heard.result())
            if isinstance(document, dict) and document.get("id") == id:
                return document
    except asyncio.CancelledError:
        note(f"the command stays queued: `petiole mailbox {device}` shows {id}, and --cancel {id} takes it back")
        raise
    finally:
        lost.cancel()
