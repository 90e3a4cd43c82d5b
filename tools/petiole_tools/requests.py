"""A command of a device: request and reply, now or when the device wakes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from nats.aio.msg import Msg

from petiole import wire
from petiole_gateway.monitoring.health import span
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
            try:
                result = await client.ask(subject, arguments, timeout_s + GRACE_S, nobody, headers)
            except ServiceError as error:
                if error.code != wire.NOT_NOW:
                    raise
                raise CliError(error.problem, "`--wait 10m` has it carried out when the device comes") from error
        else:
            headers[QUEUE_HEADER] = f"{wait_s:g}"
            result = await _late(options, client, device, command, arguments, headers, timeout_s, wait_s)
    say_json(result)


async def _late(
    options: Options,
    client: Client,
    device: str,
    command: str,
    arguments: Any,
    headers: dict[str, str],
    timeout_s: float,
    wait_s: float,
) -> Any:
    from petiole_tools.mailbox import result_of  # noqa: PLC0415 - the gateway's parts take a tenth of a second

    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.connection.new_inbox()
    await client.connection.subscribe(inbox, cb=answers.put)
    payload = b"" if arguments is None else json.dumps(arguments).encode()
    await client.connection.publish(f"dev.{client.site}.{device}.{command}", payload, reply=inbox, headers=headers)
    try:
        first = await asyncio.wait_for(answers.get(), timeout_s + GRACE_S)
    except TimeoutError as error:
        hint = "`petiole status` shows whether the gateway is well"
        raise CliError(f"no answer within {timeout_s:g} s", hint) from error
    said = first.headers or {}
    if said.get("Status") == "503":
        return await _without_gateway(options, device, command, arguments, wait_s)
    if ERROR_CODE in said:
        raise ServiceError(int(said[ERROR_CODE]), said.get(ERROR_TEXT, "refused"))
    receipt = parsed(first)
    if QUEUED_HEADER not in said:
        return receipt
    wakes = receipt.get("next_wake_s")
    known = "" if wakes is None else f", next wake in {span(wakes)}"
    note(f"{device} is {receipt['availability']}{known}; queued as {receipt['queued']}")
    return result_of(await _end(client, answers, device, receipt["queued"], wait_s), device)


async def _without_gateway(options: Options, device: str, command: str, arguments: Any, wait_s: float) -> Any:
    """No gateway of the site answers here, perhaps because its link is down: what is queued waits for it, too."""
    from petiole_tools.mailbox import mailbox_of, result_of  # noqa: PLC0415 - as above

    async with mailbox_of(options) as (client, _, site):
        receipt = await client.send(site, device, command, arguments, expires_in_s=wait_s)
        note(f"no gateway of site {site} answers now; queued as {receipt.id}")
        try:
            ended = await client.wait(receipt, timeout_s=wait_s + GRACE_S)
        except TimeoutError as error:
            hint = f"`petiole mailbox {device}` shows {receipt.id}"
            raise CliError(f"{device} has not answered within {span(wait_s)}", hint) from error
        except asyncio.CancelledError:
            _tell_kept(device, receipt.id)
            raise
    return result_of(ended, device)


def _tell_kept(device: str, id: str) -> None:
    note(f"the command stays queued: `petiole mailbox {device}` shows {id}, and --cancel {id} takes it back")


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
        _tell_kept(device, id)
        raise
    finally:
        lost.cancel()
