"""Where in a TOML text each key stands: `tomllib` reads values and forgets lines."""

from __future__ import annotations

import re
from collections.abc import Mapping

Location = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
# A string (three quotes before one), a comment, or a bracket: all that decides where a value ends.
_TOKEN = re.compile(r"\"\"\"|'''|\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*|[\[\]{}]")


def key_lines(text: str) -> dict[Location, int]:
    """Location of every key and section of a valid TOML text → its line, counted from 1."""
    lines: dict[Location, int] = {}
    section: Location = ()
    counts: dict[Location, int] = {}
    value = _Value()
    for number, line in enumerate(text.splitlines(), 1):
        if not value.is_open:
            header = _HEADER.match(line)
            if header:
                section = _names(header[2])
                lines.setdefault(section, number)
                if header[1] == "[[":
                    index = counts.get(section, 0)
                    counts[section] = index + 1
                    section = (*section, index)
                    lines[section] = number
                continue
            key = _KEY.match(line)
            if key is None:
                continue
            location = section + _names(key[1])
            for length in range(len(section) + 1, len(location) + 1):
                lines.setdefault(location[:length], number)
            value.take(line[key.end() :])
        else:
            value.take(line)
    return lines


def line_of(lines: Mapping[Location, int], location: Location) -> int | None:
    """Line of the key, or of the nearest thing around it; None if nothing around it is in the text."""
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return None


class _Value:
    """Follows a value over its lines."""

    def __init__(self) -> None:
        self._depth = 0
        self._quotes = ""

    @property
    def is_open(self) -> bool:
        return bool(self._quotes) or self._depth > 0

    def take(self, line: str) -> None:
        while line:
            if self._quotes:
                _, closed, line = line.partition(self._quotes)
                if closed:
                    self._quotes = ""
                continue
            token = _TOKEN.search(line)
            if token is None:
                return
            line = line[token.end() :]
            if token[0] in ('"""', "'''"):
                self._quotes = token[0]
            elif token[0] in "[{":
                self._depth += 1
            elif token[0] in "]}":
                self._depth -= 1


def _names(dotted: str) -> Location:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
