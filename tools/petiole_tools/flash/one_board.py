"""One board, from what is on it to a node that has joined: each step a line, each safe to be the last."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from petiole_tools import ports
from petiole_tools.boards import Board
from petiole_tools.client import Client
from petiole_tools.failure import CliError
from petiole_tools.flash import check, find, identity, image, install, payload, registry
from petiole_tools.flash.errors import BoardLost, FlashError, NoBoard
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.identity import Identity
from petiole_tools.flash.report import Report
from petiole_tools.flash.session import Session
from petiole_tools.flash.stoppable import in_thread
from petiole_tools.flash.wanted import Wanted

_LOOK_AGAIN_S = 0.5
_BACK_S = 30.0  # a port after a reset or a new image; USB takes 2 s


@dataclass(frozen=True)
class Job:
    """What goes onto a board. `client`: of the gateway, None without one; `extra`: settings of the project; `image`: a
    MicroPython to install first; `keeps_name`: the board's own name comes before the one that is wanted."""

    client: Client | None
    board: Board
    wanted: Wanted
    extra: dict[str, Any]
    built: payload.Payload
    image: bytes | None
    keeps_name: bool = False


async def flash_one(job: Job, target: BoardPort, report: Report) -> dict[str, Any]:
    """What was done. Raises CliError; the board then runs what it ran before, or the new firmware."""
    client, wanted = job.client, job.wanted
    stop = threading.Event()
    started = time.monotonic()
    async with _lent(client, target) as lent:
        path = lent
        if job.image is not None:
            path = await _install_micropython(job.board, wanted, job.image, path, target, report, stop)
        session = await in_thread(stop, lambda: _open(path, wanted, stop))
        try:
            facts = await in_thread(stop, session.facts)
            report.step("found", f"{check.check(job.board, facts)}, {replace(target, path=path).label}")
            there = await in_thread(stop, lambda: session.read("/" + identity.FILE))
            name = None if job.keeps_name and identity.has_name(there) else wanted.name
            who = identity.decide(job.board, there, name, wanted.links, wanted.wifi, job.extra)
            known = None if client is None else await registry.check_free(client, who, wanted.replaces)
            whole = _with_identity(job.built, who)
            plan = await in_thread(stop, lambda: install.plan(session, whole))
            report.step("compared", _compared(plan, whole))
            result: dict[str, Any] = {"name": who.name, "board": job.board.name, "port": path}
            result |= {"firmware": whole.version, "slot": plan.slot, "sent_bytes": plan.sent_bytes}
            if wanted.is_dry:
                report.step("stopped", "--dry-run: nothing was changed, the board starts again")
                await in_thread(stop, session.reset)
                return result | {"is_dry": True}
            report.begin(plan.sent_bytes)
            is_trial = client is not None
            await in_thread(stop, lambda: install.write(session, whole, plan, is_trial=is_trial, told=report.sent))
            if plan.changes:
                report.step("written", f"slot {plan.slot}, {plan.sent_bytes} bytes sent, read back and compared")
            if client is not None:
                done = await registry.register(client, who, known, wanted.replaces)
                report.step("gateway", f"{who.name} {done} at site {client.site}")
            await in_thread(stop, session.reset)
        except BaseException:
            # What was started goes on: whatever is in the slots, the old firmware or the new one is whole.
            with contextlib.suppress(FlashError):
                await asyncio.shield(asyncio.to_thread(session.recover))
            raise
        finally:
            await asyncio.to_thread(session.close)
        report.step("started", f"{who.name} starts")
    if client is None:
        report.step("offline", f"register it: petiole device add {who.name} --key {who.key}")
        return result | {"key": who.key}
    device = await registry.wait_for_join(client, who, known, wanted.timeout_s)
    took = time.monotonic() - started
    report.step("joined", f"{who.name} is {device['state']} by {device['link']}, {took:.0f} s after the beginning")
    return result | {"state": device["state"], "link": device["link"]}


def _with_identity(built: payload.Payload, who: Identity) -> payload.Payload:
    """The settings before `main.py`, which is the last thing that makes a fresh board start."""
    root = dict(built.root)
    start = root.pop(payload.START)
    return payload.Payload(built.slot, {**root, identity.FILE: who.document, payload.START: start})


def _compared(plan: install.Plan, whole: payload.Payload) -> str:
    if not plan.changes:
        return f"slot {plan.slot} has this firmware ({whole.version}) and these settings: nothing to copy"
    if plan.is_there:
        return f"slot {plan.slot} has this firmware ({whole.version}); {', '.join(plan.root)} to write"
    kept = len(plan.copy) + len(plan.same)
    foreign = f"; its main.py becomes {install.FOREIGN_MAIN}" if plan.keeps_foreign_main else ""
    return f"{len(plan.send)} files to send for slot {plan.slot}, {kept} are on the board already{foreign}"


def _open(path: str, wanted: Wanted, stop: threading.Event) -> Session:
    return Session(path, patience_s=_BACK_S if wanted.waits or wanted.image else 0.0, stop=stop)


async def _install_micropython(
    board: Board,
    wanted: Wanted,
    data: bytes,
    path: str,
    target: BoardPort,
    report: Report,
    stop: threading.Event,
) -> str:
    """Put the image onto the board; the port at which it is afterwards."""
    report.step("image", f"{len(data)} bytes, SHA-256 as given")
    if board.flash.method == "esptool":
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(data)
            file.flush()
            await in_thread(stop, lambda: image.write_esptool(board, path, Path(file.name)))
    else:
        if path:
            with contextlib.suppress(FlashError):  # it may have no MicroPython; then a person presses BOOTSEL
                await in_thread(stop, lambda: _start_loader(path, stop))
        await in_thread(stop, lambda: image.write_uf2(board, data, wanted.drive))
    report.step("installed", "MicroPython; the board starts")
    end = time.monotonic() + _BACK_S
    while True:
        with contextlib.suppress(NoBoard):
            again = f"id:{target.serial}" if target.serial else (path or None)
            found = find.choose(board, again if wanted.port is None else wanted.port)
            if os.path.exists(found.path):  # noqa: ASYNC240 - a look at /dev blocks nobody
                return found.path
        if time.monotonic() > end:
            raise BoardLost("the board has not come back after its new image", "pull the cable, and run this again")
        await asyncio.sleep(_LOOK_AGAIN_S)


def _start_loader(path: str, stop: threading.Event) -> None:
    with Session(path, stop=stop) as session:
        session.start_loader()


@asynccontextmanager
async def _lent(client: Client | None, target: BoardPort) -> AsyncIterator[str]:
    """The path of a port that no gateway of this machine has open meanwhile."""
    if client is None or not target.path:
        yield target.path
        return
    for name in ([f"usb:{target.serial}"] if target.serial else []) + [target.path]:
        try:
            port = await ports.find(client, name)
        except CliError:
            continue
        if port["host"] == socket.gethostname():
            async with ports.released(client, name) as free:
                yield str(free["path"] or target.path)
            return
    yield target.path
