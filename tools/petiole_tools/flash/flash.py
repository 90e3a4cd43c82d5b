"""From a board on a cable to a node that has joined: each step a line, each safe to be the last."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from petiole_tools import boards, ports
from petiole_tools.boards import Board
from petiole_tools.client import Client
from petiole_tools.failure import CliError
from petiole_tools.flash import check, find, identity, image, install, payload, project, registry
from petiole_tools.flash.errors import BoardLost, FlashError, NoBoard
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.identity import Identity
from petiole_tools.flash.session import Session
from petiole_tools.options import Options
from petiole_tools.output import note, paint, say, say_json

T = TypeVar("T")
JOIN_S = 60.0  # a board starts in 3 s, waits up to 10 s for Wi-Fi, and joins within a second of hearing somebody
_LOOK_AGAIN_S = 0.5
_BACK_S = 30.0  # a port after a reset or a new image; USB takes 2 s
_BAR = 24


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    board: str | None = None
    name: str | None = None
    port: str | None = None
    waits: bool = False
    all: bool = False
    is_dry: bool = False
    app: Path | None = None
    links: list[str] = field(default_factory=list)
    wifi: tuple[str, str] | None = None
    image: str | None = None
    sha256: str | None = None
    drive: Path | None = None
    is_offline: bool = False
    replaces: bool = False
    timeout_s: float = JOIN_S


class Report:
    """Lines for people, one per step, and a bar while bytes go over the cable. Quiet for `--json`."""

    def __init__(self, label: str, is_quiet: bool) -> None:
        self._label = f"{label}: " if label else ""
        self._is_quiet = is_quiet
        self._has_bar = sys.stderr.isatty() and not is_quiet and not label
        self._total = self._done = 0

    def step(self, what: str, text: str) -> None:
        self.clear()
        if not self._is_quiet:
            say(f"{self._label}{paint(what.ljust(9), 'bold')} {text}")

    def begin(self, total: int) -> None:
        self._total, self._done = total, 0

    def sent(self, count: int) -> None:
        self._done += count
        if self._has_bar and self._total:
            share = min(self._done / self._total, 1.0)
            bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
            print(f"\r[{bar}] {share:4.0%}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._has_bar and self._done:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._done = 0


async def flash(options: Options, wanted: Wanted) -> list[dict[str, Any]]:
    """Flash one board, or all that fit; what was done to each. Raises CliError."""
    wanted, extra, app = _with_project(wanted)
    if wanted.board is None:
        raise CliError("which board is it?", "--board BOARD, or board = … in petiole.toml; `petiole boards` lists them")
    board = boards.load(wanted.board)
    if (wanted.image is None) != (wanted.sha256 is None):
        raise CliError("--image and --sha256 go together", "whoever offers an image shows its SHA-256")
    data = None
    if wanted.image is not None and wanted.sha256 is not None:
        data = await asyncio.to_thread(image.fetch, wanted.image, wanted.sha256)
        image.check(board, data)
    client = None if wanted.is_offline else await registry.reach(options)
    try:
        targets = await _targets(board, wanted)
        built = await asyncio.to_thread(payload.build, board, app)
        quiet = options.as_json
        if wanted.all:
            results = await _flash_all(client, board, wanted, extra, built, data, targets, quiet)
        else:
            report = Report("", quiet)
            results = [await _flash_one(client, board, wanted, extra, built, data, targets[0], report)]
    finally:
        if client is not None:
            await client.connection.close()
    if options.as_json:
        say_json({"boards": results} if wanted.all else results[0])
    return results


def _with_project(wanted: Wanted) -> tuple[Wanted, dict[str, Any], Path]:
    """What the project's folder adds, and where the application is."""
    app = wanted.app if wanted.app is not None else Path()
    if wanted.app is None and not (app / "app.py").is_file():
        if not payload.EXAMPLE.is_file():  # an installed package has none
            raise CliError("there is no app.py here", "`petiole new FOLDER` makes one; --app names another place")
        return wanted, {}, payload.EXAMPLE
    if not app.exists():
        raise CliError(f"there is no {app}", "name an app.py, or a folder with one; `petiole new FOLDER` makes one")
    found = project.load(app if app.is_dir() else app.parent)
    name = wanted.name or (None if wanted.all else found.name)
    links = wanted.links or list(found.links)
    return replace(wanted, board=wanted.board or found.board, name=name, links=links), found.settings, app


async def _targets(board: Board, wanted: Wanted) -> list[BoardPort]:
    """The ports to flash. A board that waits for an image has none: then a port of no path."""
    is_told = False
    while True:
        try:
            if wanted.all:
                found = find.fitting(board)
                if not found:
                    find.choose(board, None)
                return found
            return [find.choose(board, wanted.port)]
        except NoBoard:
            if wanted.image is not None and board.flash.method == "uf2" and wanted.port is None and not wanted.all:
                return [BoardPort("")]  # its loader is a drive
            if not wanted.waits:
                raise
        if not is_told:
            note(f"waiting for a {board.title}; Ctrl-C ends it")
            is_told = True
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _flash_all(
    client: Client | None,
    board: Board,
    wanted: Wanted,
    extra: dict[str, Any],
    built: payload.Payload,
    data: bytes | None,
    targets: list[BoardPort],
    quiet: bool,
) -> list[dict[str, Any]]:
    """Side by side: each board has a cable of its own. All are tried; CliError if any has failed."""

    async def one(target: BoardPort) -> dict[str, Any] | CliError:
        own = replace(wanted, name=f"{wanted.name}-{target.serial[-6:].lower()}" if wanted.name else None)
        report = Report(target.serial or target.path, quiet)
        try:
            return await _flash_one(client, board, own, extra, built, data, target, report, keeps_name=True)
        except CliError as error:
            report.step("failed", f"{error.problem}; {error.hint}")
            return error

    results = await asyncio.gather(*(one(target) for target in targets))
    failures = [result for result in results if isinstance(result, CliError)]
    if failures:
        worst = CliError(f"{len(failures)} of {len(targets)} boards were not flashed", failures[0].hint)
        worst.exit_code = failures[0].exit_code
        raise worst
    return [result for result in results if isinstance(result, dict)]


async def _flash_one(
    client: Client | None,
    board: Board,
    wanted: Wanted,
    extra: dict[str, Any],
    built: payload.Payload,
    data: bytes | None,
    target: BoardPort,
    report: Report,
    *,
    keeps_name: bool = False,
) -> dict[str, Any]:
    stop = threading.Event()
    started = time.monotonic()
    async with _lent(client, target) as lent:
        path = lent
        if data is not None:
            path = await _install_micropython(board, wanted, data, path, target, report, stop)
        session = await _in_thread(stop, lambda: _open(path, wanted, stop))
        try:
            facts = await _in_thread(stop, session.facts)
            report.step("found", f"{check.check(board, facts)}, {replace(target, path=path).label}")
            there = await _in_thread(stop, lambda: session.read("/" + identity.FILE))
            name = None if keeps_name and identity.has_name(there) else wanted.name
            who = identity.decide(board, there, name, wanted.links, wanted.wifi, extra)
            known = None if client is None else await registry.check_free(client, who, wanted.replaces)
            whole = _with_identity(built, who)
            plan = await _in_thread(stop, lambda: install.plan(session, whole))
            report.step("compared", _compared(plan, whole))
            result: dict[str, Any] = {"name": who.name, "board": board.name, "port": path, "firmware": whole.version}
            result |= {"slot": plan.slot, "sent_bytes": plan.sent_bytes}
            if wanted.is_dry:
                report.step("stopped", "--dry-run: nothing was changed, the board starts again")
                await _in_thread(stop, session.reset)
                return result | {"is_dry": True}
            report.begin(plan.sent_bytes)
            is_trial = client is not None
            await _in_thread(
                stop, lambda: install.write(session, whole, plan, is_trial=is_trial, told=report.sent)
            )
            if plan.changes:
                report.step("written", f"slot {plan.slot}, {plan.sent_bytes} bytes sent, read back and compared")
            if client is not None:
                done = await registry.register(client, who, known, wanted.replaces)
                report.step("gateway", f"{who.name} {done} at site {client.site}")
            await _in_thread(stop, session.reset)
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
            await _in_thread(stop, lambda: image.write_esptool(board, path, Path(file.name)))
    else:
        if path:
            with contextlib.suppress(FlashError):  # it may have no MicroPython; then a person presses BOOTSEL
                await _in_thread(stop, lambda: _start_loader(path, stop))
        await _in_thread(stop, lambda: image.write_uf2(board, data, wanted.drive))
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


async def _in_thread(stop: threading.Event, work: Callable[[], T]) -> T:
    """Like `to_thread`, but Ctrl-C ends the work at its next step and waits for that."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
