"""MicroPython itself: an image from a file or an address, with its checksum, onto a board that needs it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from petiole_tools.boards import Board
from petiole_tools.flash.errors import BadImage, FlashError, NoBoard

MAX_IMAGE = 16 << 20  # the largest flash of the boards that are known
_DOWNLOAD_S = 60
_DRIVE_S = 30.0  # a computer mounts a drive within seconds, and a person presses BOOTSEL
_ESP_MAGIC = 0xE9
_UF2_BLOCK = 512
_UF2_HEAD = (0x0A324655, 0x9E5D5157)
_UF2_END = 0x0AB16F30
_BAUD = 460800  # what converters of all boards do


def fetch(source: str, sha256: str) -> bytes:
    """The image, from a path or an http(s) address. Raises BadImage."""
    wanted = sha256.strip().lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise BadImage("--sha256: 64 hexadecimal digits are wanted", "whoever offers the image shows them; `sha256sum`")
    try:
        if source.startswith(("https://", "http://")):
            with urllib.request.urlopen(source, timeout=_DOWNLOAD_S) as answer:  # noqa: S310 - of these two kinds
                data: bytes = answer.read(MAX_IMAGE + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_IMAGE + 1)
    except (OSError, ValueError) as error:
        raise BadImage(f"{source}: {error}", "check the path or the address given with --image") from error
    if len(data) > MAX_IMAGE:
        raise BadImage(f"{source} is larger than {MAX_IMAGE >> 20} MB", "is this an image of MicroPython?")
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise BadImage(f"{source} has the SHA-256 {found}, not the one that was given", "fetch it again")
    return data


def check(board: Board, data: bytes) -> None:
    """Whether this can be an image for such a board. Raises BadImage."""
    hint = f"boards/{board.name}/README.md says which kind of file it takes"
    if board.flash.method == "none":
        raise BadImage(f"{board.name} takes no image", "leave --image out")
    if board.flash.method == "esptool":
        if not data or data[0] != _ESP_MAGIC:
            raise BadImage("this is no image for an ESP32: it does not begin with E9", hint)
        return
    if not data or len(data) % _UF2_BLOCK:
        raise BadImage("this is no UF2 file: it has no whole blocks of 512 bytes", hint)
    families = set()
    for start in range(0, len(data), _UF2_BLOCK):
        head = struct.unpack_from("<8I", data, start)
        if head[:2] != _UF2_HEAD or struct.unpack_from("<I", data, start + _UF2_BLOCK - 4)[0] != _UF2_END:
            raise BadImage(f"this is no UF2 file: block {start // _UF2_BLOCK} is none", hint)
        families.add(head[7])
    if board.flash.family not in families:
        shown = ", ".join(f"{family:08x}" for family in sorted(families))
        raise BadImage(f"this image is for another chip (family {shown}) than the {board.chip}", hint)


def esptool_command(board: Board, port: str, image: Path) -> list[str]:
    """The file system of the board stays."""
    if importlib.util.find_spec("esptool") is None:
        raise FlashError("esptool is not installed", "pip install esptool")
    words = [sys.executable, "-m", "esptool", "--chip", board.flash.chip, "--port", port, "--baud", str(_BAUD)]
    return [*words, "write_flash", hex(board.flash.offset), str(image)]


def write_esptool(board: Board, port: str, image: Path) -> None:
    """Raises FlashError with esptool's last words."""
    done = subprocess.run(esptool_command(board, port, image), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no reason"]
        hint = "hold BOOT, press RESET, let BOOT go, and run this again"
        raise NoBoard(f"esptool: {lines[-1].strip()[:200]}", hint, lines[-8:-1])


def find_drive(board: Board, places: list[Path] | None = None) -> Path | None:
    """Where the board's drive is mounted."""
    user = os.environ.get("USER", "")
    roots = places or [Path("/media") / user, Path("/run/media") / user, Path("/media"), Path("/mnt"), Path("/Volumes")]
    for root in roots:
        drive = root / board.flash.volume
        if (drive / "INFO_UF2.TXT").is_file():
            return drive
    return None


def write_uf2(board: Board, data: bytes, drive: Path | None, wait_s: float = _DRIVE_S) -> None:
    """Copy the image to the board's drive, once that is there. Raises NoBoard."""
    end = time.monotonic() + wait_s
    found = drive if drive is not None else find_drive(board)
    while found is None or not (found / "INFO_UF2.TXT").is_file():
        if time.monotonic() > end:
            raise NoBoard(
                f"no drive {board.flash.volume} has come up",
                "plug the board in with BOOTSEL held; --drive names where it is mounted",
            )
        time.sleep(0.2)
        found = drive if drive is not None else find_drive(board)
    free = shutil.disk_usage(found).free
    if free < len(data):
        raise BadImage(f"{found} has room for {free} bytes, the image has {len(data)}", "is it the board's drive?")
    try:
        with (found / "petiole.uf2").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # The board starts as soon as it has the last block, and takes its drive away.
        if (found / "INFO_UF2.TXT").is_file():
            raise NoBoard(f"{found}: {error}", "is the drive mounted for you to write?") from error
