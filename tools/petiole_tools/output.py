"""Text for people and JSON for programs, on standard output; what happens meanwhile goes to standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from petiole_gateway.monitoring.health import span

_NUMBER = re.compile(r"([0-9]+)")
_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36}


def has_colour(stream: TextIO) -> bool:
    """Colours only where a person sees them (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, *styles: str, stream: TextIO | None = None) -> str:
    """`text` in these styles, or as it is where there are no colours."""
    if not text or not has_colour(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(str(_CODES[style]) for style in styles)}m{text}\x1b[0m"


def clean(text: str) -> str:
    """`text` without control characters: what a device says must not drive somebody's terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class ReaderLeft(Exception):
    """Whoever read our output has closed it."""


def say(text: str = "") -> None:
    """One line, at once: the reader may be a pipe. ReaderLeft if it is closed."""
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        raise ReaderLeft from error


def note(text: str) -> None:
    """One line beside the data."""
    print(text, file=sys.stderr, flush=True)


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """A document; with `indent` None, one line of a stream of them."""
    say(json.dumps(value, ensure_ascii=False, indent=indent))


def say_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    for text in table_lines(headings, rows):
        say(text)


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The same as lines."""
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    return [paint(_line(headings, widths), "dim"), *(_line(row, widths) for row in rows)]


def say_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values, aligned."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        say(f"{paint(name.ljust(width), 'dim')}  {clean(value)}")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def value_text(value: Any, unit: str | None = None) -> str:
    """A reading's value as a person writes it."""
    if isinstance(value, float):
        text = f"{value:.7g}"  # what a 32-bit float holds; halves print short
    elif isinstance(value, str):
        text = clean(value)
    else:
        text = clean(json.dumps(value, ensure_ascii=False))
    return f"{text} {clean(unit)}" if unit else text


def local_time(at: str | None) -> str:
    """`HH:MM:SS.mmm` of an RFC 3339 time in this machine's time zone."""
    moment = parse_time(at)
    return moment.astimezone().strftime("%H:%M:%S.%f")[:-3] if moment else "--:--:--.---"


def parse_time(at: object) -> datetime | None:
    """An RFC 3339 time, or None."""
    if not isinstance(at, str):
        return None
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ago(at: object) -> str:
    """How long ago a time was: `3 s ago`."""
    moment = parse_time(at)
    if moment is None:
        return "never"
    return f"{span((datetime.now(UTC) - moment).total_seconds())} ago"


def until(at: object) -> str:
    """How long it is to a time: `in 3 s`; `due 3 s ago` when it has passed; - for none."""
    moment = parse_time(at)
    if moment is None:
        return "-"
    left_s = (moment - datetime.now(UTC)).total_seconds()
    return f"in {span(left_s)}" if left_s >= 0 else f"due {span(-left_s)} ago"


def natural(text: str) -> list[str | int]:
    """A key by which node-2 comes before node-10."""
    return [int(part) if part.isdigit() else part for part in _NUMBER.split(text)]


def size_text(count: float) -> str:
    """Bytes in their largest sensible unit."""
    for unit in ("B", "kB", "MB"):
        if count < 10_000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.0f} GB"
