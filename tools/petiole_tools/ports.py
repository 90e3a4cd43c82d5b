"""Serial ports of a gateway, lent to other programs: mpremote, esptool, a terminal.

async with released(client, "kitchen") as port:
    ... open port["path"] ...
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from petiole_gateway.links import repl
from petiole_gateway.monitoring.health import span
from petiole_tools.client import ANSWER_TIMEOUT_S, Client, connected
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options
from petiole_tools.output import note, say, say_json, say_table
from petiole_tools.stoppable import finished
from petiole_tools.system import status_subjects

Document = dict[str, Any]
PLACE = "{port}"  # in a command: the path of the port
# Begins a command that is a module: it does not mind if Ctrl-C comes before it can hear it.
QUIET = [sys.executable, "-m", "petiole_tools.quiet_start"]
# For `released`: if this process is killed, the gateway takes the port back so soon. A leaf server that starts again,
# through which the renewals go, takes a tenth of it.
LEASE_S = 120.0
_RENEWALS = 4  # in that time
# The gateway gives its board 15 s to start its program.
_RESUME_TIMEOUT_S = 25.0
_LIST_HINT = "`petiole port list` shows the ports"
_NOT_EXECUTED = 126  # as shells have it


async def find(client: Client, name: str) -> Document:
    """The port of that name, path or device, whichever gateway of the site has it. CliError if it is not just one."""
    prefixes = await _gateways(client)
    found = await asyncio.gather(*(_ask(client, prefix, "show", {"port": name}) for prefix in prefixes))
    rows = [each for each in found if isinstance(each, dict)]
    if len(rows) == 1:
        return rows[0]
    if rows:
        where = " and ".join(f"{row['name']} on {row['host']}" for row in rows)
        raise CliError(f"{name} may be {where}", "name the device that is on it instead of the port")
    errors = [each for each in found if isinstance(each, ServiceError)]
    if not errors:
        raise _nobody(client)
    worst = next((error for error in errors if error.code != 404), errors[0])
    raise CliError(worst.text, _LIST_HINT)


async def _gateways(client: Client) -> list[str]:
    subjects = await status_subjects(client, client.site)
    if not subjects:
        raise _nobody(client)
    return [subject.removesuffix(".status") for subject in subjects]


async def _ask(
    client: Client, prefix: str, method: str, body: Document, timeout_s: float = ANSWER_TIMEOUT_S
) -> Document | ServiceError:
    try:
        answer = await client.ask(f"{prefix}.port.{method}", body, timeout_s, _nobody(client))
    except ServiceError as error:
        return error
    assert isinstance(answer, dict)
    return answer


def _nobody(client: Client) -> CliError:
    hint = "`petiole gateway run` starts one; one of an older version cannot lend its ports"
    return CliError(f"no gateway of site {client.site!r} that lends ports answers at {client.target.url}", hint)


async def _of(client: Client, port: Document, method: str, body: Document, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
    """Ask the gateway that has this port."""
    prefix = f"gw.{client.site}.{port['gateway']}"
    answer = await _ask(client, prefix, method, {"port": port["name"]} | body, timeout_s)
    if isinstance(answer, ServiceError):
        raise CliError(answer.text, _LIST_HINT) from answer
    return answer


async def release(client: Client, port: Document, for_s: float) -> Document:
    """Have the gateway leave a port that was found to others."""
    answer: Document = await _of(client, port, "release", {"for_s": for_s})
    return answer


async def resume(client: Client, port: Document, *, restart: bool = False) -> Document:
    """Have the gateway take a port back; the answer's `program` says what its board did (`petiole_gateway.links.repl`).

    `restart`: stop what runs on the board first.
    """
    answer: Document = await _of(client, port, "resume", {"restart": restart}, _RESUME_TIMEOUT_S)
    return answer


@asynccontextmanager
async def released(client: Client, name: str) -> AsyncIterator[Document]:
    """A port of a gateway on this machine, free for the block; taken back after it, or by the gateway itself soon after
    this process was killed. What was released before stays so.

    `path` of the document is what to open. After the block it also has `program`, as `resume` gives it.
    """
    port = await find(client, name)
    if port["host"] != socket.gethostname():
        raise CliError(
            f"{port['name']} is on {port['host']}, not on this machine",
            f"run it there, or free the port from here: petiole port release {port['name']}",
        )
    async with lent(client, port):
        yield port


async def held_here(client: Client, path: str, serial: str = "") -> Document | None:
    """The port of a gateway on this machine that is the one at `path`, None if none has it. CliError if it is unclear.

    A path comes first: several things may have one serial number. A `usb:` port that was not found yet has no path.
    """
    found = await _here(client, path)
    if found is None and serial:
        name = f"usb:{serial}"
        found = await _here(client, name)
        if found is not None and found["path"] != name and not _is_same(found["path"], path):
            return None
    return found


def _is_same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


async def _here(client: Client, name: str) -> Document | None:
    for subject in await status_subjects(client, client.site):
        try:
            answer = await _ask(client, subject.removesuffix(".status"), "show", {"port": name})
        except CliError:  # it has just ended, or cannot lend
            continue
        if isinstance(answer, dict) and answer["host"] == socket.gethostname():
            return answer
        if isinstance(answer, ServiceError) and answer.code == 409:
            raise CliError(answer.text, _LIST_HINT)
    return None


@asynccontextmanager
async def lent(client: Client, port: Document) -> AsyncIterator[Document]:
    """A port that was found, as `released` does it."""
    if port["state"] == "released":
        note(f"{port['name']} was released already, and stays so for {span(port['released_for_s'])}")
        yield port
        return
    port |= await release(client, port, LEASE_S)
    renewal = asyncio.create_task(_renew(client, port))
    try:
        yield port
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        try:
            port |= await finished(resume(client, port))
        except CliError as error:
            note(f"{error.problem}; the gateway takes {port['name']} back by itself within {span(LEASE_S)}")


async def _renew(client: Client, port: Document) -> None:
    while True:
        await asyncio.sleep(LEASE_S / _RENEWALS)
        try:
            await release(client, port, LEASE_S)
        except CliError as error:
            note(f"{error.problem}: the gateway may take {port['name']} back in {span(LEASE_S)}")
            return


# The commands ----------------------------------------------------------------------------------------------


async def show_all(options: Options) -> None:
    """All ports of the site's gateways."""
    async with connected(options) as client:
        answers = [await _ask(client, prefix, "list", {}) for prefix in await _gateways(client)]
    rows = [row for answer in answers if isinstance(answer, dict) for row in answer["ports"]]
    if options.as_json:
        say_json({"ports": rows})
        return
    if not rows:
        note("the gateway has no serial ports; `petiole gateway run --serial PORT`, or [[serial]] in its settings")
        return
    say_table(
        ["PORT", "DEVICE", "STATE", "FRAMING", "BAUD", "HOST"],
        [
            [
                row["name"] if row["path"] == row["name"] else f"{row['name']} ({row['path']})",
                row["device"] or "-",
                _state(row),
                row["framing"],
                str(row["baud"]),
                row["host"],
            ]
            for row in rows
        ],
    )


def _state(row: Document) -> str:
    if row["state"] == "released":
        return f"released, {span(row['released_for_s'])} left"
    return row["problem"] or str(row["state"])


async def release_named(options: Options, name: str, for_s: float) -> None:
    """Free a port, and say for how long."""
    async with connected(options) as client:
        port = await release(client, await find(client, name), for_s)
    if options.as_json:
        say_json(port)
        return
    say(f"{port['path']} is free for {span(port['released_for_s'])}: mpremote connect {port['path']} resume")
    note(f"`petiole port resume {name}` ends that before")


async def resume_named(options: Options, name: str, restart: bool) -> None:
    """Take a port back, and say what became of its board. CliError if it cannot be opened, or has no program."""
    async with connected(options) as client:
        port = await resume(client, await find(client, name), restart=restart)
    if options.as_json:
        say_json(port)
    elif port["state"] == "open" and port["program"] != repl.REPL:
        say(_returned(port, name))
    if port["state"] != "open":
        raise CliError(f"{port['problem'] or port['name'] + ' is ' + port['state']}", port["hint"] or "try again")
    if port["program"] == repl.REPL:
        look = f"petiole port use {name} -- mpremote connect {PLACE} resume"
        raise CliError(_returned(port, name), f"is main.py on it? {look}")


def _returned(port: Document, name: str) -> str:
    """What became of the board, in a sentence."""
    device = port["device"] or "its board"
    said = {
        repl.RUNNING: f"{device} runs",
        repl.RESTARTED: f"{device} stood in the REPL and runs again",
        repl.RESTARTING: f"{device} stood in the REPL and starts again",
        repl.REPL: f"{device} stands in the REPL: its program ends at once, or there is none",
        repl.SILENT: f"{device} says nothing yet; `petiole port resume {name} --restart` stops what runs on it",
    }.get(port["program"] or "")
    return f"{port['name']} is the gateway's again" + (f"; {said}" if said else "")


async def use(options: Options, name: str, command: list[str]) -> int:
    """Run a command while a port is free for it; its exit code. `{port}` in it becomes the path of the port."""
    _program(command[0])
    async with connected(options) as client, released(client, name) as port:
        code = await run_on(port["path"], command)
    tell_returned(port, name)
    return code


def tell_returned(port: Document, name: str) -> None:
    """What became of a port, and of its board, after it was lent."""
    if "program" in port:
        is_open = port["state"] == "open"
        note(_returned(port, name) if is_open else f"{port['problem']}; the gateway tries again by itself")


async def run_on(path: str, command: list[str]) -> int:
    """Run a command on a port that is free for it, as `use` does."""
    words = [_program(command[0]), *(word.replace(PLACE, path) for word in command[1:])]
    return await _run(words, path)


def _program(name: str) -> str:
    """Where a program is; one that came with this one need not be on the PATH. CliError if it is nowhere."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (shutil.which(str(beside)) if os.sep not in name else None)
    if found is None:
        hint = "pip install mpremote" if name == "mpremote" else "check its name, and that it may be executed"
        raise CliError(f"there is no program {name}", hint)
    return found


async def _run(words: list[str], path: str) -> int:
    """Run to its end, on this terminal. Ctrl-C is the command's; SIGTERM is passed on to it."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    held = {signal.SIGINT} if words[1 : len(QUIET)] == QUIET[1:] else set()
    try:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, held)
            process = await asyncio.create_subprocess_exec(*words, env={**os.environ, "PETIOLE_PORT": path})
        except OSError as error:
            note(f"{words[0]}: {(error.strerror or str(error)).lower()}")
            return _NOT_EXECUTED
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code
