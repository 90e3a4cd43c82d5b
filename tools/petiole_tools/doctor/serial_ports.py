"""The serial ports: whether those of the settings are there, may be opened, and are free. Nothing is opened, because
that resets some boards."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from petiole_gateway.links.port import PortError, permission_hint, resolve
from petiole_gateway.settings.config import SerialConfig
from petiole_tools.doctor.diagnosis import ERROR, NOTE, OK, WARNING, Diagnosis

BY_ID = Path("/dev/serial/by-id")
MAX_NAMED = 8


def look(entries: Sequence[SerialConfig], gateway_pids: frozenset[int] = frozenset()) -> Iterator[Diagnosis]:
    """Each port of the settings; what is plugged in if there are none. `gateway_pids`: who may have them."""
    if not entries:
        present = sorted(path.name for path in BY_ID.iterdir()) if BY_ID.is_dir() else []
        found = f"plugged in: {', '.join(present[:MAX_NAMED])}" if present else "none is plugged in by USB"
        hint = "[[serial]] in the settings, or petiole gateway run --serial /dev/serial/by-id/NAME" if present else ""
        yield Diagnosis("ports", NOTE, f"the settings name no serial port; {found}", hint=hint)
    for entry in entries:
        yield from _entry(entry, gateway_pids)
    if entries and (manager := _process_called("ModemManager")):
        meaning = "it opens new serial ports and speaks AT commands to boards"
        hint = "sudo systemctl disable --now ModemManager, or a udev rule: petiole gateway install makes one"
        yield Diagnosis("modem_manager", WARNING, f"ModemManager runs (process {manager})", meaning, hint)


def _entry(entry: SerialConfig, gateway_pids: frozenset[int]) -> Iterator[Diagnosis]:
    if glob.has_magic(entry.port):
        paths = sorted(glob.glob(entry.port))
        if not paths:
            yield Diagnosis(
                "port", WARNING, f"{entry.port}: nothing there", "its nodes are not heard", "plug a board in"
            )
    else:
        try:
            paths = [resolve(entry.port)]
        except PortError as error:
            yield Diagnosis("port", ERROR, str(error), "its node is not heard", error.hint)
            return
    for path in paths:
        yield port(path, entry.port, gateway_pids)


def port(path: str, name: str, gateway_pids: frozenset[int] = frozenset()) -> Diagnosis:
    """One port: there, permitted, free."""
    shown = name if name == path else f"{name} ({path})"
    try:
        status = os.stat(path)
    except OSError:
        return Diagnosis(
            "port", ERROR, f"{shown} does not exist", "its node is not heard", "plug the board in, or check the path"
        )
    if not stat.S_ISCHR(status.st_mode):
        return Diagnosis("port", ERROR, f"{shown} is no serial port", "its node is not heard", "check the path")
    if not os.access(path, os.R_OK | os.W_OK):
        return Diagnosis(
            "port_denied",
            ERROR,
            f"{shown} may not be opened by this user",
            "its node is not heard",
            _denied(path, status.st_gid),
        )
    holders = [(pid, who) for pid, who in holders_of(path) if pid not in gateway_pids]
    if holders:
        pid, who = holders[0]
        meaning = "two readers of a port take each other's bytes; the gateway waits until it is free"
        return Diagnosis("port_busy", WARNING, f"{shown} is open in {who} (process {pid})", meaning, "end that program")
    if name == path and path.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
        link = _stable_name(path)
        if link:
            meaning = "which board gets this name depends on the order in which they are plugged in"
            return Diagnosis("port_name", WARNING, f"{shown} is free", meaning, f'port = "{link}"')
    return Diagnosis("port", OK, f"{shown} is there, and free or the gateway's")


def _denied(path: str, group_id: int) -> str:
    try:
        group, user = grp.getgrgid(group_id), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return permission_hint(path)
    if user in group.gr_mem and group_id not in os.getgroups():
        return f"{user} is in {group.gr_name} since this login began: log in anew"
    return permission_hint(path)


def _stable_name(path: str) -> str:
    if not BY_ID.is_dir():
        return ""
    return next((str(link) for link in sorted(BY_ID.iterdir()) if os.path.realpath(link) == path), "")


def holders_of(path: str) -> list[tuple[int, str]]:
    """(process, its name) of those that have a file open, as far as this user may see them."""
    wanted, found = os.path.realpath(path), []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if any(os.readlink(link) == wanted for link in (process / "fd").iterdir()):
                found.append((int(process.name), (process / "comm").read_text(encoding="utf-8").strip()))
        except OSError:  # another user's, or ended meanwhile
            continue
    return found


def _process_called(name: str) -> int | None:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "comm").read_text(encoding="utf-8").strip() == name[:15]:
                    return int(process.name)
            except OSError:
                continue
    return None
