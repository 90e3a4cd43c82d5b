"""Work on a board whose port is named by its path or USB serial number, with a gateway beside it or without."""

from __future__ import annotations

import asyncio
import importlib.util

from petiole_gateway.links.port import PortError, open_port, permission_hint
from petiole_tools import ports
from petiole_tools.borrowing import borrowed
from petiole_tools.client import Client, connect
from petiole_tools.failure import CliError
from petiole_tools.flash import find
from petiole_tools.flash.errors import FlashError, NoBoard, PortBusy, PortForbidden
from petiole_tools.options import Options
from petiole_tools.output import note
from petiole_tools.stoppable import finished

_KINDS: dict[str, type[FlashError]] = {"missing": NoBoard, "denied": PortForbidden, "busy": PortBusy}
_BAUD = 115200
# `resume`: mpremote's soft reset would end the timer that feeds a watchdog which cannot be stopped.
MPREMOTE = [*ports.QUIET, "petiole_tools.board_command", "connect", ports.PLACE, "resume"]


def check_mpremote() -> None:
    """CliError where there is none."""
    if importlib.util.find_spec("mpremote") is None:
        raise CliError("mpremote is needed to work on boards", "pip install mpremote")


def shell_command(words: list[str], prompt: str) -> list[str]:
    """What `petiole shell` runs on a port: mpremote with these words, or a prompt for them."""
    if words:
        return [*MPREMOTE, *words]
    return [*ports.QUIET, "petiole_tools.board_prompt", ports.PLACE, prompt]


def port_error(error: PortError, path: str) -> FlashError:
    """With the exit code that `petiole flash` has for it, and a hint for a person instead of a service."""
    hint = permission_hint(path, "log in anew") if error.kind == "denied" else error.hint
    return _KINDS.get(error.kind, NoBoard)(str(error), hint)


async def use(options: Options, wanted: str, command: list[str]) -> int:
    """As `ports.use`, for a port of this machine. One that no gateway has is used as it is, and its board started again
    afterwards. Raises CliError."""
    port = find.named(wanted)
    client = await _gateway(options)
    try:
        async with borrowed(client, port.path, port.serial) as lent:
            if lent is not None:
                code = await ports.run_on(port.path, command)
            else:
                code = await _use_free(port.path, command)
        if lent is not None:
            ports.tell_returned(lent, wanted)
    finally:
        if client is not None:
            await client.connection.close()
    return code


async def _gateway(options: Options) -> Client | None:
    """The gateway of this machine, if one runs that may be asked."""
    try:
        return await connect(options.target())
    except CliError:
        return None


async def _use_free(path: str, command: list[str]) -> int:
    try:
        open_port(path, _BAUD).close()
    except PortError as error:
        raise port_error(error, path) from error
    try:
        return await ports.run_on(path, command)
    finally:
        await finished(asyncio.to_thread(_start, path))


def _start(path: str) -> None:
    from petiole_tools.flash.session import Session  # noqa: PLC0415 - it needs mpremote

    try:
        with Session(path) as session:
            session.reset()
    except FlashError as error:
        note(f"{error.problem}; its program was not started again")
    else:
        note(f"the board at {path} starts again")
