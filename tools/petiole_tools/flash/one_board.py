"""One board, from what is on it to a node that has joined: each step a line, each safe to be the last."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from petiole_tools.boards import Board
from petiole_tools.borrowing import borrowed
from petiole_tools.client import Client
from petiole_tools.flash import check, identity, install, micropython, payload, registry
from petiole_tools.flash.errors import FlashError, NameTaken, NoMicroPython, PortBusy, PortForbidden
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.identity import Identity
from petiole_tools.flash.report import Report
from petiole_tools.flash.session import Session
from petiole_tools.flash.wanted import Wanted
from petiole_tools.output import counted
from petiole_tools.stoppable import in_thread

_SETTLE_S = 10.0  # ModemManager takes the longest, as it tries several protocols
_LOOK_AGAIN_S = 0.2


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
    taken: dict[str, str] = field(default_factory=dict)  # names of this run, by port
    loader: asyncio.Lock = field(default_factory=asyncio.Lock)  # drives of boards of one kind look the same


@dataclass(frozen=True)
class _Look:
    """What a board is to become. `known`: the device as the gateway knows it; `is_in_image`: the firmware is."""

    who: Identity
    known: dict[str, Any] | None
    whole: payload.Payload
    plan: install.Plan
    is_in_image: bool

    @property
    def document(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "firmware": self.whole.version,
            "is_firmware_in_image": self.is_in_image,
            "slot": plan.slot,
            "sent_bytes": plan.sent_bytes,
        }


async def flash_one(job: Job, target: BoardPort, report: Report) -> dict[str, Any]:
    """What was done. Raises CliError; the board then runs what it ran before, or the new firmware."""
    client, wanted = job.client, job.wanted
    stop = threading.Event()
    started = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        lent = await stack.enter_async_context(borrowed(client, target.path, target.serial))
        path = target.path
        if job.image is not None:
            report.step("image", f"{len(job.image)} bytes, SHA-256 as given")
            if not wanted.is_dry:
                path = await _install_micropython(job, job.image, target, report, stop)
                # A gateway that looks for ports may have it by now: it is new, or has come back under another name.
                await stack.enter_async_context(borrowed(client, path, target.serial, beside=lent))
            elif not path:
                return _unknown(job, "the image would go to the board's drive", target, report)
        try:
            look = await _write(job, replace(target, path=path), report, stop)
        except NoMicroPython as error:
            if job.image is None or not wanted.is_dry:
                raise
            return _unknown(job, error.problem, target, report)
    who = look.who
    result: dict[str, Any] = {"name": who.name, "board": job.board.name, "port": path, **look.document}
    if wanted.is_dry:
        return result | {"is_dry": True}
    report.step("started", f"{who.name} starts")
    if client is None:
        report.step("offline", f"register it: petiole device add {who.name} --key {who.key}")
        return result | {"key": who.key}
    device = await registry.wait_for_join(client, who, look.known, wanted.timeout_s)
    took = time.monotonic() - started
    report.step("joined", f"{who.name} is {device['state']} by {device['link']}, {took:.0f} s after the beginning")
    return result | {"state": device["state"], "link": device["link"]}


async def _write(job: Job, target: BoardPort, report: Report, stop: threading.Event) -> _Look:
    """Everything that is done in the REPL. The board starts again, whatever has happened."""
    client, wanted = job.client, job.wanted
    session = await in_thread(stop, lambda: _open(target.path, wanted, stop))
    try:
        look = await _look(job, session, target, report, stop)
        who, plan = look.who, look.plan
        if wanted.is_dry:
            without = "" if job.image is None else "; without it the image would be installed first"
            report.step("stopped", f"--dry-run: nothing was changed, the board starts again{without}")
            await in_thread(stop, session.reset)
            return look
        report.begin(plan.sent_bytes)
        is_trial = client is not None
        await in_thread(stop, lambda: install.write(session, look.whole, plan, is_trial=is_trial, told=report.sent))
        if plan.changes:
            report.step("written", _written(plan))
        if client is not None:
            done = await registry.register(client, who, look.known, wanted.replaces)
            report.step("gateway", f"{who.name} {done} at site {client.site}")
        await in_thread(stop, session.reset)
    except BaseException:
        # What was started goes on: whatever is in the slots, the old firmware or the new one is whole.
        with contextlib.suppress(FlashError):
            await asyncio.shield(asyncio.to_thread(session.recover))
        raise
    finally:
        await asyncio.to_thread(session.close)
    return look


async def _look(job: Job, session: Session, target: BoardPort, report: Report, stop: threading.Event) -> _Look:
    """Compare, change nothing."""
    client, wanted = job.client, job.wanted
    facts = await in_thread(stop, session.facts)
    runs = check.check(job.board, facts)
    is_in_image = await in_thread(stop, session.has_firmware_in_image)
    report.step("found", f"{runs}{', which has the firmware in it' if is_in_image else ''}, {target.label}")
    there = await in_thread(stop, lambda: session.read("/" + identity.FILE))
    name = None if job.keeps_name and identity.has_name(there) else wanted.name
    who = identity.decide(job.board, there, name, wanted.links, wanted.wifi, job.extra)
    other = job.taken.setdefault(who.name, target.path)
    if other != target.path:
        raise NameTaken(f"the board at {other} is {who.name}, too", "flash one of them with --port and another --name")
    known = None if client is None else await registry.check_free(client, who, wanted.replaces)
    whole = _with_identity(job.built.for_image if is_in_image else job.built, who)
    plan = await in_thread(stop, lambda: install.plan(session, whole))
    report.step("compared", _compared(plan, whole))
    return _Look(who, known, whole, plan, is_in_image)


def _unknown(job: Job, why: str, target: BoardPort, report: Report) -> dict[str, Any]:
    """The end of a dry run that would have to install the image before it could say more."""
    report.step("stopped", f"--dry-run: nothing was changed; {why}, so the rest shows once the image is installed")
    return {"name": job.wanted.name, "board": job.board.name, "port": target.path, "is_dry": True}


def _with_identity(built: payload.Payload, who: Identity) -> payload.Payload:
    """The settings before `main.py`, which is the last thing that makes a fresh board start."""
    root = dict(built.root)
    start = root.pop(payload.START)
    return replace(built, root={**root, identity.FILE: who.document, payload.START: start})


def _compared(plan: install.Plan, whole: payload.Payload) -> str:
    if not plan.changes:
        return f"slot {plan.slot} has this firmware ({whole.version}) and these settings: nothing to copy"
    if plan.is_there:
        beside = [f"{path} to write" for path in plan.root] + [f"{path} to remove" for path in plan.absent]
        return f"slot {plan.slot} has this firmware ({whole.version}); {', '.join(beside)}"
    kept = len(plan.copy) + len(plan.same)
    foreign = f"; its main.py becomes {install.FOREIGN_MAIN}" if plan.keeps_foreign_main else ""
    here = f"{kept} {'is' if kept == 1 else 'are'} on the board already"
    return f"{counted(len(plan.send), 'file')} to send for slot {plan.slot}, {here}{foreign}"


def _written(plan: install.Plan) -> str:
    sent = f"{counted(plan.sent_bytes, 'byte')} sent"
    if plan.is_there:
        beside = [*plan.root, *(f"{path} removed" for path in plan.absent)]
        return f"{', '.join(beside)}, {sent}"
    return f"slot {plan.slot}, {sent}, read back and compared"


def _open(path: str, wanted: Wanted, stop: threading.Event) -> Session:
    """Patient with a board that has just been plugged in: udev has not yet let everybody in, ModemManager asks it who
    it is, and it has not started."""
    is_expected = wanted.waits or (wanted.image is not None and not wanted.is_dry)
    end = time.monotonic() + (_SETTLE_S if is_expected else 0.0)
    while True:
        try:
            return Session(path, patience_s=micropython.BACK_S if is_expected else 0.0, stop=stop)
        except (PortBusy, PortForbidden):
            if stop.is_set() or time.monotonic() > end:
                raise
        time.sleep(_LOOK_AGAIN_S)


async def _install_micropython(job: Job, data: bytes, target: BoardPort, report: Report, stop: threading.Event) -> str:
    one_by_one = job.loader if job.board.flash.method == "uf2" else contextlib.nullcontext()
    async with one_by_one:
        return await micropython.install(job.board, data, target, job.wanted.drive, report, stop)
