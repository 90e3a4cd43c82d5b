"""Readings as they come: from the leaf as they are stored, or from the hub's stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsClientError
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from petiole_gateway.nats.subjects import UPLINK_STREAM
from petiole_tools.arguments import seconds
from petiole_tools.client import Client, checked_name, connected, follow
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import clean, local_time, note, paint, say, say_json, value_text

_NAME_WIDTH = 14


class Printer:
    """Prints readings, and ends with `done` after `count` of them."""

    def __init__(self, as_json: bool, count: int | None) -> None:
        self.done = asyncio.Event()
        self._as_json = as_json
        self._left = count

    async def show(self, message: Msg) -> None:
        """One reading. What is no reading is said and passed over."""
        if self._left == 0:
            return
        try:
            reading = json.loads(message.data)
            device, name = reading["device"], reading["name"]
        except (ValueError, KeyError, TypeError):
            note(f"{clean(message.subject)}: not a reading")
            return
        if self._as_json:
            say_json(reading, indent=None)
        else:
            say(line(reading, str(device), str(name)))
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.done.set()


def line(reading: dict[str, Any], device: str, name: str) -> str:
    """A reading as one line: time, device, channel, value, sequence number or "live"."""
    sequence = reading.get("sequence")
    kind = paint("live", "dim") if sequence is None else paint(f"#{sequence}", "dim")
    value = value_text(reading.get("value"), reading.get("unit"))
    return (
        f"{paint(local_time(reading.get('at')), 'dim')}  {paint(clean(device).ljust(_NAME_WIDTH), 'cyan')}  "
        f"{clean(name).ljust(_NAME_WIDTH)}  {paint(value.rjust(12), 'bold')}  {kind}"
    )


async def watch(options: Options, device: str | None, *, from_hub: bool, since: str | None, count: int | None) -> None:
    """Print until cancelled, or until `count` readings were printed."""
    if device is not None:
        checked_name("device name", device)
    if since is not None and not from_hub:
        raise CliError("--since needs --hub: only a stream has a past", "petiole watch --hub --since 1h")
    if from_hub and options.server is None:
        hint = "for example --server nats://hub.example.com:4222 --creds application.creds"
        raise CliError("--hub needs the address of the hub", hint)
    printer = Printer(options.as_json, count)
    if from_hub:
        back_s = None if since is None else seconds("--since", since)
        work = _watch_hub(options, device, back_s, printer)
    else:
        work = follow(options, _listener(device, printer), _report)
    await until(work, printer.done)


async def until(work: Any, done: asyncio.Event) -> None:
    """Run `work` until it ends or `done` is set. Its exception is raised."""
    task = asyncio.ensure_future(work)
    end = asyncio.ensure_future(done.wait())
    try:
        await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for each in (task, end):
            each.cancel()
        await asyncio.gather(task, end, return_exceptions=True)


def _report(lost: CliError) -> None:
    note(f"{lost.problem}; {lost.hint}")


def _listener(device: str | None, printer: Printer) -> Callable[[Client], Any]:
    async def listen(client: Client) -> None:
        site = checked_name("site", client.site)
        for purpose in ("up", "live"):
            await client.connection.subscribe(f"{purpose}.{site}.{device or '*'}.*", cb=printer.show)
        await client.connection.flush()

    return listen


async def _watch_hub(options: Options, device: str | None, back_s: float | None, printer: Printer) -> None:
    start: dict[str, Any] = {"deliver_policy": DeliverPolicy.NEW}
    if back_s is not None:
        moment = datetime.now(UTC) - timedelta(seconds=back_s)
        start = {"deliver_policy": DeliverPolicy.BY_START_TIME, "opt_start_time": moment}
    subject = f"up.{options.site or '*'}.{device or '*'}.*"
    async with connected(options) as client:
        stream = client.connection.jetstream()
        try:
            await stream.subscribe(
                subject, stream=UPLINK_STREAM, cb=printer.show, ordered_consumer=True, config=ConsumerConfig(**start)
            )
        except NotFoundError as error:
            hint = "`petiole hub site DIR SITE` lets the hub take a site's readings"
            raise CliError(f"the hub at {client.target.url} has no stream {UPLINK_STREAM}", hint) from error
        except (NatsClientError, TimeoutError) as error:
            hint = "is it the hub, and may these credentials use JetStream?"
            raise CliError(
                f"the stream {UPLINK_STREAM} at {client.target.url} cannot be read: {error}", hint
            ) from error
        await client.lost.wait()
        raise CliError(f"the connection to {client.target.url} is lost", "start again with --since to close the gap")
