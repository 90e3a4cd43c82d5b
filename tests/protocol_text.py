"""The sections and tables of PROTOCOL.md, for tests that hold code and text together."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")


def section(number: int) -> str:
    """The text of a section, without its heading."""
    match = re.search(rf"^## {number}\. .*?\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match is not None, number
    return match.group(1)


def table(text: str, *header: str) -> list[list[str]]:
    """The cells of the table whose header row begins with these cells."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("|") and _cells(line)[: len(header)] == list(header):
            rows = []
            for row in lines[at + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append(_cells(row))
            return rows
    raise AssertionError(f"no table {header}")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def numbers() -> dict[str, int]:
    """The table of section 19."""
    marked = re.search(r"<!-- wire:begin -->\n(.*?)<!-- wire:end -->", section(19), re.DOTALL)
    assert marked is not None
    rows = table(marked.group(1), "name", "value")
    named = {name: int(value) for name, value in rows}
    assert len(named) == len(rows), "a name twice"
    return named


def drop_reasons() -> set[str]:
    """The first column of the table of section 14."""
    rows = table(section(14), "reason", "when")
    named = [name for cell, _ in rows for name in re.findall(r"`([a-z0-9_]+)`", cell)]
    assert len(named) == len(set(named)), "a reason twice"
    return set(named)
