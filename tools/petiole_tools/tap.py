"""Frames with everything in them: what the wire is compact about, a person reads here."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from petiole_tools.client import Client, checked_name, follow
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import ReaderLeft, clean, local_time, note, paint, say, say_json, value_text
from petiole_tools.pcapng import CaptureWriter
from petiole_tools.watching import DeviceViewer

# The gateway decodes for so long after it was last asked: ask again in time, and soon stop when nobody looks.
FOR_S = 30
AGAIN_S = 10
_HEX_WIDTH = 32  # bytes on a line
_QUIET = {"kind", "channel", "value", "unit", "sequence", "age_ms", "at"}


class Frames(DeviceViewer):
    """Prints frames, of one device or of all."""

    def __init__(
        self,
        options: Options,
        device: str | None,
        *,
        show_hex: bool,
        count: int | None,
        capture: CaptureWriter | None = None,
        is_silent: bool = False,
    ) -> None:
        super().__init__("frame", device, count)
        self._capture = capture
        self._is_silent = is_silent
        self._as_json = options.as_json
        self._show_hex = show_hex

    def put(self, frame: dict[str, Any]) -> bool:
        if self._capture is not None and not self._captured(frame):
            return False
        if self._is_silent:
            return True
        if self._as_json:
            say_json(frame, indent=None)
            return True
        say(line(frame))
        if self._show_hex:
            for row in hex_rows(str(frame.get("frame", ""))):
                say(paint(f"{'':16}{row}", "dim"))
        return True

    def _captured(self, frame: dict[str, Any]) -> bool:
        assert self._capture is not None
        try:
            self._capture.frame(frame)
        except BrokenPipeError as error:
            raise ReaderLeft from error
        except ValueError:
            note(f"not a frame: {clean(json.dumps(frame))[:200]}")
            return False
        return True


async def tap(
    options: Options, device: str | None, *, show_hex: bool, count: int | None, pcapng: str | None = None
) -> None:
    """Print frames until cancelled, or until `count` frames were printed. `pcapng`: a file to write them to as well, or
    "-" for standard output instead of the text."""
    if device is not None:
        checked_name("device name", device)
    if pcapng is None:
        await _watch(options, device, Frames(options, device, show_hex=show_hex, count=count))
        return
    if pcapng == "-" and sys.stdout.isatty():
        hint = "name a file, or: petiole tap --pcapng - | wireshark -k -i -"
        raise CliError("a capture is no text for a terminal", hint)
    stream = sys.stdout.buffer if pcapng == "-" else open(pcapng, "wb")  # noqa: ASYNC230, SIM115 - small writes
    capture: CaptureWriter | None = None
    try:
        capture = CaptureWriter(stream)
        is_silent = pcapng == "-"
        viewer = Frames(options, device, show_hex=show_hex, count=count, capture=capture, is_silent=is_silent)
        await _watch(options, device, viewer)
    except BrokenPipeError as error:
        raise ReaderLeft from error
    finally:
        if pcapng != "-":
            stream.close()
            note(f"{capture.frames_total if capture else 0} frames in {pcapng}")


async def _watch(options: Options, device: str | None, viewer: Frames) -> None:
    armed: list[asyncio.Task[None]] = []

    async def listen(client: Client) -> None:
        for task in armed:
            task.cancel()
        await client.connection.subscribe(f"local.tap.{checked_name('site', client.site)}", cb=viewer.receive)
        if device is not None:
            await client.gateway("device.show", {"name": device})
        await client.gateway("tap", {"for_s": FOR_S})
        armed[:] = [asyncio.create_task(_arm(client))]

    def report(lost: CliError) -> None:
        note(f"{lost.problem}; {lost.hint}")

    try:
        await viewer.watched(follow(options, listen, report))
    finally:
        for task in armed:
            task.cancel()


async def _arm(client: Client) -> None:
    while not client.lost.is_set():
        await asyncio.sleep(AGAIN_S)
        try:
            await client.gateway("tap", {"for_s": FOR_S})
        except CliError as error:
            note(f"{error.problem}; {error.hint}")


def line(frame: dict[str, Any]) -> str:
    """A frame as one line: time, direction, device, type and counter, size, link, records or why it was dropped."""
    is_up = frame.get("direction") == "up"
    arrow = paint("▲", "green") if is_up else paint("▼", "blue")
    device = clean(str(frame.get("device") or "?")).ljust(14)
    kind = str(frame.get("type") or "?")
    if frame.get("counter") is not None:
        kind += f" {frame['counter']}"
    link = str(frame.get("link") or "").rpartition("/")[2]  # of a path, the name of the port
    size = frame.get("bytes", len(str(frame.get("frame", ""))) // 2)
    if frame.get("dropped"):
        body = paint(f"dropped: {clean(str(frame['dropped']))}", "red", "bold")
    else:
        body = paint(", ", "dim").join(record_text(record) for record in frame.get("records") or [])
    return (
        f"{paint(local_time(frame.get('at')), 'dim')}  {arrow} {paint(device, 'cyan')} {kind.ljust(16)}"
        f" {f'{size} B'.rjust(6)}  {paint(clean(link).ljust(12), 'dim')}  {body}"
    ).rstrip()


def record_text(record: dict[str, Any]) -> str:
    """One record with names and values."""
    kind = str(record.get("kind", "?"))
    if kind == "READING":
        name = clean(str(record.get("channel")))
        text = f"{name} {paint(value_text(record.get('value'), record.get('unit')), 'bold')}"
        facts = ["live" if record.get("sequence") is None else f"#{record['sequence']}"]
        if record.get("at"):
            facts.append(local_time(record["at"]))
        elif record.get("age_ms"):
            facts.append(f"{record['age_ms']} ms ago")
        return f"{text} {paint('(' + ', '.join(facts) + ')', 'dim')}"
    facts = [f"{key} {value_text(value)}" for key, value in record.items() if key not in _QUIET]
    facts += [f"{key} {value_text(record[key])}" for key in ("sequence", "value") if key in record]
    return f"{paint(clean(kind), 'magenta')} {' '.join(facts)}".rstrip()


def hex_rows(text: str) -> list[str]:
    """Hexadecimal digits in pairs, some on a line."""
    pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
    return [" ".join(pairs[i : i + _HEX_WIDTH]) for i in range(0, len(pairs), _HEX_WIDTH)]
