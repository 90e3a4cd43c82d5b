"""MicroPython itself: an image from a file or an address, with its checksum, onto a board that needs it."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from petiole_tools.boards import Board
from petiole_tools.flash.errors import BadImage, FlashError, NoBoard

MAX_IMAGE = 16 << 20  # the largest flash of the boards that are known
DOWNLOAD_S = 600.0  # the largest image at 250 kbit/s
_STALL_S = 20.0  # without a byte; a satellite link pauses for seconds
_PIECE = 1 << 16
_DRIVE_S = 30.0  # a computer mounts a drive within seconds, and a person presses BOOTSEL
_ESP_MAGIC = 0xE9
_UF2_BLOCK = 512
_UF2_HEAD = (0x0A324655, 0x9E5D5157)
_UF2_END = 0x0AB16F30
_BAUD = 460800  # what converters of all boards do


def check_sum(sha256: str) -> str:
    """A checksum as it is compared. Raises BadImage if it is none."""
    wanted = sha256.strip().lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise BadImage("--sha256: 64 hexadecimal digits are wanted", "whoever offers the image shows them; `sha256sum`")
    return wanted


def fetch(source: str, sha256: str) -> bytes:
    """The image, from a path or an http(s) address: its checksum is what makes it the right one. Raises BadImage.

    Ends when nothing comes for 20 s; a server that drips needs a bound of its own, `DOWNLOAD_S`.
    """
    wanted = check_sum(sha256)
    if source.startswith(("https://", "http://")):
        data = _download(source)
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(MAX_IMAGE + 1)
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise BadImage(f"{source}: {reason}", "check the path given with --image") from error
    if len(data) > MAX_IMAGE:
        raise _too_large(source)
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise BadImage(
            f"{source} has the SHA-256 {found}, not the one that was given",
            "take file and checksum from one page, of one release",
        )
    return data


def _download(source: str) -> bytes:
    hint = "check the address given with --image; or fetch the file yourself, and name its path"
    data = b""
    try:
        with _opener().open(source, timeout=_STALL_S) as answer:
            length = answer.headers.get("Content-Length", "")
            if length.isdigit() and int(length) > MAX_IMAGE:
                raise _too_large(source)
            while len(data) <= MAX_IMAGE and (piece := answer.read1(_PIECE)):
                data += piece
    except urllib.error.HTTPError as error:
        reason = "a redirection without an end" if 300 <= error.code < 400 else f"{error.code} {error.reason}"
        raise BadImage(f"{source}: the server answers {reason}", hint) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise BadImage(f"{source} is no address", hint) from error
    except http.client.HTTPException as error:
        what = "has ended before its end" if isinstance(error, http.client.IncompleteRead) else "is no answer of HTTP"
        raise BadImage(f"{source}: what came {what}", hint) from error
    except OSError as error:  # URLError is one
        cause = getattr(error, "reason", error)
        is_late = isinstance(cause, TimeoutError)
        told = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        words = f"nothing came for {_STALL_S:g} s" if is_late else told
        raise BadImage(f"{source}: {words.lower()}", hint) from error
    if length.isdigit() and len(data) < int(length):
        raise BadImage(f"{source} ended after {len(data)} of {length} bytes", "try again")
    return data


def _too_large(source: str) -> BadImage:
    return BadImage(f"{source} is larger than {MAX_IMAGE >> 20} MB", "is this an image of MicroPython?")


def _opener() -> urllib.request.OpenerDirector:
    """For http and https only, also after a redirection."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


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


def check_tool(board: Board) -> None:
    """Whether what installs an image is here. Raises FlashError."""
    if board.flash.method == "esptool" and importlib.util.find_spec("esptool") is None:
        raise FlashError("esptool is not installed", "pip install esptool")


def esptool_command(board: Board, port: str, image: Path) -> list[str]:
    """The file system of the board stays."""
    check_tool(board)
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


def write_uf2(
    board: Board, data: bytes, drive: Path | None, wait_s: float = _DRIVE_S, stop: threading.Event | None = None
) -> None:
    """Copy the image to the board's drive, once that is there; `stop` ends the waiting. Raises NoBoard."""
    end = time.monotonic() + wait_s
    found = drive if drive is not None else find_drive(board)
    while found is None or not (found / "INFO_UF2.TXT").is_file():
        if stop is not None and stop.is_set():
            raise FlashError("interrupted", "run the same command again: no image was written")
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
