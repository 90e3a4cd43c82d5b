"""Files that hold secrets or must survive a power cut: mode 0600, replaced as a whole.

Writing waits for the disk, a card takes a second and more. So the event loop may do it before links are open and after
they are closed (keys, names and settings of the leaf server, the marker of the boot); else a thread does.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import KeyFileError


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically: flushed to disk before the name changes, then the folder too."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met in writing, which knows no name
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def create_private(path: Path, data: bytes) -> bool:
    """Like `write_private`, but False and no change if `path` exists, even when two processes race."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_private(temporary, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def read_private(path: Path) -> bytes:
    """Contents of a secret file; KeyFileError if it is missing or others may read it.

    A copy that the service manager made is in a folder for the service alone, by an access list: in the mode that looks
    as if its group might read it.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    forbidden = 0o037 if folder and path.parent == Path(folder) else 0o077
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise KeyFileError(path, error.strerror or "cannot be read") from error
    if stat.S_IMODE(mode) & forbidden:
        raise KeyFileError(path, f"others may read it (mode {stat.S_IMODE(mode):04o})")
    return data


def sync_folder(path: Path) -> None:
    """Make names created or replaced in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
