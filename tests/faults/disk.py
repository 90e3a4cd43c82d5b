"""A disk of a machine whose power can be cut: ext4 in a file. What was not synced is not in the file."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

SIZE = 256 * 1024 * 1024


class MountError(Exception):
    """Mounting does not work here."""


def _run(*words: str | Path) -> None:
    try:
        subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        raise MountError(f"there is no {words[0]}") from error
    except subprocess.CalledProcessError as error:
        raise MountError(f"{words[0]}: {error.stderr.strip() or error.returncode}") from error


class Disk:
    """`mounted` is the folder; `cut_power` replaces the disk by what had reached the file at that moment."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mounted = folder / "mounted"
        self.mounted.mkdir()
        self._folder = folder
        self._image = folder / "disk-0.img"
        self._cuts = 0
        self._is_mounted = False

    def open(self) -> None:
        """Make the file system and mount it. MountError."""
        with self._image.open("wb") as file:
            file.truncate(SIZE)
        _run("mkfs.ext4", "-q", "-F", self._image)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self.mounted)
        self._is_mounted = True

    async def snapshot(self) -> Path:
        """A copy of the disk as it is at this moment. Whoever writes to it must stand still meanwhile."""
        self._cuts += 1
        copy = self._folder / f"disk-{self._cuts}.img"
        await asyncio.to_thread(_run, "cp", "--sparse=always", self._image, copy)
        return copy

    def go_back_to(self, image: Path) -> None:
        """The machine starts with this disk. Nobody has a file of the old one open."""
        self.close()
        self._image.unlink()
        self._image = image
        self._mount()

    def close(self) -> None:
        if self._is_mounted:
            _run("umount", self.mounted)
            self._is_mounted = False


@lru_cache
def problem() -> str:
    """Why disks cannot be mounted here, "" if they can."""
    folder = Path(tempfile.mkdtemp(prefix="petiole-disk-"))
    disk = Disk(folder)
    try:
        disk.open()
        disk.close()
    except MountError as error:
        return str(error)
    finally:
        shutil.rmtree(folder)
    return ""
