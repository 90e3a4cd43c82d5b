"""Readings as they come: from the leaf as they are stored, or from the hub's stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsClientError
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from petiole_gateway.nats.subjects import UPLINK_STREAM
from petiole_tools.arguments import seconds
from petiole_tools.client import Client, checked_name, connected, follow
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options
from petiole_tools.output import clean, local_time, note, paint, say, say_json, value_text

_NAME_WIDTH = 14


class Viewer:
    """What is shown of a stream of messages, until it was enough. `done` is set at the end, whatever caused it.

    The NATS library keeps exceptions of its callbacks to itself, so they are kept here and raised by `watched`.
    """

    def __init__(self, count: int | None) -> None:
        self.done = asyncio.Event()
        self._left = count
        self._error: Exception | None = None

    async def receive(self, message: Msg) -> None:
        """Callback of a subscription."""
        if self.done.is_set():
            return
        try:
            if not self.show(message):
                return
        except Exception as error:
            self._error = error
            self.done.set()
            return
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.done.set()

    def show(self, message: Msg) -> bool:
        """Print a message; False if it does not count."""
        raise NotImplementedError

    async def watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it ends or enough was shown. The exception of either is raised."""
        task = asyncio.ensure_future(work)
        end = asyncio.ensure_future(self.done.wait())
        try:
            await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for each in (task, end):
                each.cancel()
            await asyncio.gather(task, end, return_exceptions=True)
        if self._error is not None:
            raise self._error


class DeviceViewer(Viewer):
    """Messages of which each is a JSON object about a device: those of one device, or of all."""

    def __init__(self, what: str, device: str | None, count: int | None) -> None:
        """`what`: the noun for a message, in the note about one that cannot be read."""
        super().__init__(count)
        self._what = what
        self._device = device

    def show(self, message: Msg) -> bool:
        """What is no JSON object is said and passed over."""
        try:
            document = json.loads(message.data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            note(f"{clean(message.subject)}: not a {self._what}")
            return False
        if self._device is not None and document.get("device") != self._device:
            return False
        return self.put(document)

    def put(self, document: dict[str, Any]) -> bool:
        """Print an object; False if it does not count."""
        raise NotImplementedError


class Readings(Viewer):
    """Prints readings."""

    def __init__(self, as_json: bool, count: int | None) -> None:
        super().__init__(count)
        self._as_json = as_json

    def show(self, message: Msg) -> bool:
        """What is no reading is said and passed over."""
        try:
            reading = json.loads(message.data)
            device, name = reading["device"], reading["name"]
        except (ValueError, KeyError, TypeError, RecursionError):
            note(f"{clean(message.subject)}: not a reading")
            return False
        if self._as_json:
            say_json(reading, indent=None)
        else:
            say(line(reading, str(device), str(name)))
        return True


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
    viewer = Readings(options.as_json, count)
    if from_hub:
        back_s = None if since is None else seconds("--since", since)
        work = _watch_hub(options, device, back_s, viewer)
    else:
        work = follow(options, _listener(device, viewer), _report)
    await viewer.watched(work)


def _report(lost: CliError) -> None:
    note(f"{lost.problem}; {lost.hint}")


def _listener(device: str | None, viewer: Viewer) -> Callable[[Client], Any]:
    async def listen(client: Client) -> None:
        site = checked_name("site", client.site)
        if device is not None:
            await _check_known(client, device)
        for purpose in ("up", "live"):
            await client.connection.subscribe(f"{purpose}.{site}.{device or '*'}.*", cb=viewer.receive)
        await client.connection.flush()

    return listen


async def _check_known(client: Client, device: str) -> None:
    """CliError for a device that the gateway does not know. Without a gateway the leaf may still be looked at."""
    try:
        await client.gateway("device.show", {"name": device})
    except ServiceError:
        raise
    except CliError as error:
        note(f"{error.problem}; {error.hint}")


async def _watch_hub(options: Options, device: str | None, back_s: float | None, viewer: Viewer) -> None:
    start: dict[str, Any] = {"deliver_policy": DeliverPolicy.NEW}
    if back_s is not None:
        moment = datetime.now(UTC) - timedelta(seconds=back_s)
        start = {"deliver_policy": DeliverPolicy.BY_START_TIME, "opt_start_time": moment}
    subject = f"up.{options.site or '*'}.{device or '*'}.*"
    async with connected(options) as client:
        stream = client.connection.jetstream()
        try:
            await stream.subscribe(
                subject, stream=UPLINK_STREAM, cb=viewer.receive, ordered_consumer=True, config=ConsumerConfig(**start)
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
