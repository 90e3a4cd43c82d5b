"""What a node says, from its port itself: where no gateway is, or none has it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from petiole_gateway.links.port import PortError
from petiole_gateway.links.serial import SerialLink
from petiole_tools.flash import find
from petiole_tools.hands_on import port_error
from petiole_tools.node_logs import Lines
from petiole_tools.options import Options
from petiole_tools.output import ReaderLeft, note

_ELSE_HINT = "`petiole logs NAME` asks the gateway that has it; else end the program that has"


class _Notes:
    """What becomes of the port: the first failure to open it is the command's, later ones are passing."""

    def __init__(self, path: str) -> None:
        self.refused: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        self._path = path
        self._opened_total = 0

    def debug(self, event: str, **fields: Any) -> None:
        pass

    def info(self, event: str, **fields: Any) -> None:
        if event == "port_opened":
            self._opened_total += 1
            note(f"{self._path} is open; Ctrl-C ends this" if self._opened_total == 1 else f"{self._path} is back")

    def warning(self, event: str, **fields: Any) -> None:
        if event == "port_lost":
            note(f"{self._path}: {fields['reason']}; waiting until it is back")
        elif event == "port_unavailable" and not self._opened_total and not self.refused.done():
            self.refused.set_result((str(fields["reason"]), str(fields["hint"])))

    error = warning


async def port_log(options: Options, wanted: str, *, count: int | None, baud: int) -> None:
    """Print what comes, frames left out, until cancelled or `count` lines were shown. Nothing is sent. CliError."""
    port = find.named(wanted)
    # By the serial number it is found again wherever the board comes back.
    name = f"usb:{port.serial}" if wanted.startswith(("id:", "usb:")) else port.path
    lines = Lines(options, port.path)
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    shown = 0

    def show(link: str, text: str) -> None:
        nonlocal shown
        if enough.done():
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            lines.put({"at": at, "level": "info", "link": link, "text": text})
        except ReaderLeft as error:  # the loop's callback has nobody above it
            enough.set_exception(error)
            return
        shown += 1
        if shown == count:
            enough.set_result(None)

    notes = _Notes(wanted)
    link = SerialLink(name, baud=baud, framing="console", receive=lambda *_: None, log=show, logger=notes)
    ends: list[asyncio.Future[Any]] = [asyncio.create_task(link.run()), enough, notes.refused]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if notes.refused.done():
            reason, hint = notes.refused.result()
            kind = next(iter(link.failed_total), "unusable")
            raise port_error(PortError(name, reason, _ELSE_HINT if kind == "busy" else hint, kind), port.path)
        for end in done:
            end.result()
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
