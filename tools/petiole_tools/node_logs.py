"""What nodes say, through their gateway: the last lines, and those that follow."""

from __future__ import annotations

import asyncio
from typing import Any

from petiole_tools.client import Client, checked_name, connected, follow
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import clean, local_time, note, paint, say, say_json
from petiole_tools.watching import DeviceViewer

# As `petiole tap`: the gateway publishes for so long after it was last asked.
FOR_S = 30
AGAIN_S = 10
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red"}


class Lines(DeviceViewer):
    """Prints lines of one device, or of all."""

    def __init__(self, options: Options, device: str | None, count: int | None = None) -> None:
        super().__init__("line", device, count)
        self._as_json = options.as_json

    def put(self, line: dict[str, Any]) -> bool:
        if self._as_json:
            say_json(line, indent=None)
            return True
        name = "" if self._device is not None else f" {line.get('device') or line.get('link') or '-'}"
        text = clean(str(line.get("text", "")))
        style = _STYLES.get(str(line.get("level")))
        say(f"{paint(local_time(line.get('at')), 'dim')}{name}  {paint(text, style) if style else text}")
        return True


async def logs(options: Options, device: str | None, *, is_followed: bool, count: int | None) -> None:
    """Print the last `count` lines; go on with those that come, until cancelled, if `is_followed`."""
    if device is not None:
        checked_name("device name", device)
    arguments = {} if device is None else {"name": device}
    viewer = Lines(options, device)
    if not is_followed:
        async with connected(options) as client:
            lines = (await client.gateway("log", arguments | {"for_s": 0.1}))["lines"]
        for line in lines if count is None else lines[-count:] if count else []:
            viewer.put(line)
        return
    armed: list[asyncio.Task[None]] = []
    has_begun = False

    async def listen(client: Client) -> None:
        nonlocal has_begun
        for task in armed:
            task.cancel()
        asked = await client.gateway("log", arguments | {"for_s": FOR_S})
        if not has_begun:
            for line in asked["lines"] if count is None else asked["lines"][-count:] if count else []:
                viewer.put(line)
            has_begun = True
        await client.connection.subscribe(asked["subject"], cb=viewer.receive)
        armed[:] = [asyncio.create_task(_arm(client, arguments))]

    def report(lost: CliError) -> None:
        note(f"{lost.problem}; {lost.hint}")

    try:
        await viewer.watched(follow(options, listen, report))
    finally:
        for task in armed:
            task.cancel()


async def _arm(client: Client, arguments: dict[str, Any]) -> None:
    while not client.lost.is_set():
        await asyncio.sleep(AGAIN_S)
        try:
            await client.gateway("log", arguments | {"for_s": FOR_S})
        except CliError as error:
            note(f"{error.problem}; {error.hint}")
