"""The disk below the data folder: room, file system, and how much of the card's life the writing takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from petiole_gateway.monitoring.health import span
from petiole_tools.doctor.diagnosis import ERROR, NOTE, OK, WARNING, Diagnosis
from petiole_tools.output import size_text

SECTOR = 512  # bytes, in /sys/block/*/stat whatever the device has
# What a consumer card is good for: full writes of its capacity, and what it writes inside for a byte from outside.
# Makers of cards do not say; of those that do, the worst give some 500 cycles. A figure of this kind is a guess.
CYCLES = 500
AMPLIFICATION = 4
WEAR_YEARS = 3
# Below this, a boot is too young to be judged by: reading its own system, it writes more than on other days.
MIN_UPTIME_S = 3600
# The leaf needs room for more than readings (mail, registry, Raft logs); the system needs some to log why it failed.
SPARE_BYTES = 200 * 1000 * 1000
_VOLATILE = {"tmpfs", "ramfs"}
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"}
_NO_JOURNAL = {"vfat", "msdos", "exfat", "ext2", "ntfs", "fuseblk"}


@dataclass(frozen=True, slots=True)
class Mount:
    device: str  # major:minor
    point: str
    kind: str
    source: str
    options: frozenset[str]


def mount_of(path: Path, root: Path = Path("/")) -> Mount | None:
    """What is mounted where `path` is, from /proc/self/mountinfo; None if that cannot be read."""
    try:
        text = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    best: Mount | None = None
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        words, rest = left.split(), right.split()
        if len(words) < 6 or len(rest) < 3:
            continue
        point = words[4].replace("\\040", " ")
        if str(path) == point or str(path).startswith(point.rstrip("/") + "/"):
            options = frozenset(words[5].split(",")) | frozenset(rest[2].split(","))
            if best is None or len(point) >= len(best.point):  # of two on one place the later hides the earlier
                best = Mount(words[2], point, rest[0], rest[1], options)
    return best


def look(folder: Path, store_max_bytes: int, root: Path = Path("/")) -> Iterator[Diagnosis]:
    """Everything about the disk of the data folder."""
    there = nearest(folder)
    yield _writable(folder, there)
    yield from _room(there, folder, store_max_bytes)
    mount = mount_of(there.resolve(), root)
    if mount is None:
        yield Diagnosis("file_system", NOTE, "this system does not say what is mounted where")
        return
    yield _file_system(folder, mount)
    yield from _wear(mount, root)


def nearest(folder: Path) -> Path:
    """The folder, or what of the way to it exists."""
    folder = folder.absolute()
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _writable(folder: Path, there: Path) -> Diagnosis:
    if there == folder and not there.is_dir():
        return Diagnosis(
            "data_folder", ERROR, f"{folder} is no folder", "the gateway cannot start", "name another: state_dir"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        meaning = "the gateway cannot start as this user"
        hint = f"run it, and this, as the owner of {there}; of a service: sudo petiole doctor --config FILE"
        return Diagnosis("data_folder", ERROR, f"{there} may not be written by this user", meaning, hint)
    return Diagnosis("data_folder", OK, f"data folder {folder}{'' if there == folder else ', which the gateway makes'}")


def _room(there: Path, folder: Path, store_max_bytes: int) -> Iterator[Diagnosis]:
    try:
        found = os.statvfs(there)
    except OSError as error:
        yield Diagnosis("disk_space", NOTE, f"{there}: {error.strerror}")
        return
    free, used = found.f_bavail * found.f_frsize, _size(folder / "leaf" / "jetstream")
    needed = max(0, store_max_bytes - used) + SPARE_BYTES
    text = f"{size_text(free)} free, {size_text(used)} of at most {size_text(store_max_bytes)} stored"
    if free < SPARE_BYTES:
        meaning = "soon nodes are told to wait, and nothing new becomes durable"
        yield Diagnosis("disk_space", ERROR, text, meaning, "make room; `sudo journalctl --vacuum-size=50M` is quick")
    elif free < needed:
        meaning = "the disk is full before the store is, which then refuses readings instead of rolling over"
        hint = (
            f"make room, or set [nats] store_max_bytes to {max(16, (free + used - SPARE_BYTES) // 2**20)} MiB or less"
        )
        yield Diagnosis("disk_space", WARNING, text, meaning, hint)
    else:
        yield Diagnosis("disk_space", OK, text)
    if found.f_files and found.f_favail < 1000:
        yield Diagnosis(
            "inodes", ERROR, f"{found.f_favail} files more fit on the disk", "files cannot be made", "remove some"
        )


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * SECTOR
            except OSError:  # gone meanwhile
                continue
    return total


def _file_system(folder: Path, mount: Mount) -> Diagnosis:
    text = f"{folder} is on {mount.kind} ({mount.source} at {mount.point})"
    hint = "put state_dir on a disk of this machine, with ext4 for example"
    if "ro" in mount.options:
        meaning = "nothing can be stored; a system that finds errors on its card mounts it so"
        return Diagnosis(
            "file_system", ERROR, f"{text}, read-only", meaning, "look at dmesg; a card that did this is near its end"
        )
    if mount.kind in _VOLATILE:
        return Diagnosis("file_system", ERROR, text, "readings, keys and devices are gone after a restart", hint)
    if mount.kind in _REMOTE:
        meaning = "whether something is on disk cannot be known there, and locks may fail"
        return Diagnosis("file_system", ERROR, text, meaning, hint)
    if mount.kind in _NO_JOURNAL or "nobarrier" in mount.options or "barrier=0" in mount.options:
        meaning = "a power cut may damage files that were long finished"
        return Diagnosis("file_system", WARNING, text, meaning, hint)
    if mount.kind == "overlay" and _is_volatile_overlay(mount):
        meaning = "what is written is in memory, as on a Raspberry Pi with a read-only system"
        return Diagnosis("file_system", WARNING, text, meaning, "put state_dir on a partition that is written")
    return Diagnosis("file_system", OK, text)


def _is_volatile_overlay(mount: Mount) -> bool:
    upper = next((option for option in mount.options if option.startswith("upperdir=")), "")
    return mount.point == "/" and upper.startswith(("upperdir=/media/root-rw", "upperdir=/run"))


def _wear(mount: Mount, root: Path) -> Iterator[Diagnosis]:
    block = _block_device(mount, root)
    if block is None:
        yield Diagnosis("wear", NOTE, f"{mount.source} is no disk whose writing could be counted here")
        return
    yield from _told_by_device(block)
    try:
        sectors = int((block / "stat").read_text(encoding="ascii").split()[6])
        capacity = int((block / "size").read_text(encoding="ascii")) * SECTOR
        uptime_s = float((root / "proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        yield Diagnosis("wear", NOTE, f"{block.name} does not say how much was written")
        return
    written = sectors * SECTOR
    text = f"{block.name}: {size_text(written)} written in {span(uptime_s)}, by everything on this machine"
    if uptime_s < MIN_UPTIME_S or capacity == 0:
        yield Diagnosis("wear", NOTE, f"{text}; ask again when it has run for an hour")
        return
    a_day = written / uptime_s * 86400
    if not block.name.startswith("mmcblk"):
        yield Diagnosis("wear", OK, f"{text}, {size_text(a_day)} a day; it is no SD card")
        return
    years = capacity * CYCLES / AMPLIFICATION / max(1.0, a_day) / 365
    guess = "more than 50" if years > 50 else f"{years:.1f}"
    text += f", {size_text(a_day)} a day: as a guess {guess} years for {size_text(capacity)}"
    if years < WEAR_YEARS:
        meaning = f"guessed with {CYCLES} cycles and {AMPLIFICATION} bytes written inside for each from outside"
        hint = "see who writes (`sudo iotop -ao`), give the card a larger size, or use an SSD"
        yield Diagnosis("wear", WARNING, text, meaning, hint)
    else:
        yield Diagnosis("wear", OK, text)


def _block_device(mount: Mount, root: Path) -> Path | None:
    """The whole disk of a mount below /sys."""
    place = root / "sys/dev/block" / mount.device
    if not place.exists():
        return None
    found = place.resolve()
    if (found / "partition").exists():
        found = found.parent
    return found if (found / "stat").exists() and not found.name.startswith(("loop", "ram", "zram")) else None


def _told_by_device(block: Path) -> Iterator[Diagnosis]:
    """An eMMC keeps account of itself, in tenths of its life (JESD84-B51, EXT_CSD 267 to 269). SD cards do not."""
    try:
        worst = max(int(word, 16) for word in (block / "device/life_time").read_text(encoding="ascii").split())
        end = int((block / "device/pre_eol_info").read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return
    text = f"{block.name} says of itself: {10 * (worst - 1)} to {10 * worst} % of its life used"
    if worst == 0:
        yield Diagnosis("life_time", NOTE, f"{block.name} does not say how much of its life is used")
    elif worst >= 10 or end >= 2:
        meaning = "it may refuse writes any day"
        yield Diagnosis("life_time", ERROR, text, meaning, "back the gateway up and replace it")
    elif worst >= 8:
        yield Diagnosis("life_time", WARNING, text, "it nears its end", "plan its replacement")
    else:
        yield Diagnosis("life_time", OK, text)
