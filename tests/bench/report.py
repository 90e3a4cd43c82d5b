"""Results as a table and as JSON."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One figure. `budget` in words, `is_met` None where there is none; `beside` is what others need."""

    group: str
    name: str
    value: float
    unit: str
    budget: str = ""
    is_met: bool | None = None
    beside: str = ""


def at_most(group: str, name: str, value: float, unit: str, limit: float, beside: str = "") -> Result:
    """A figure with an upper bound."""
    return Result(group, name, value, unit, f"≤ {limit:g}", value <= limit, beside)


def at_least(group: str, name: str, value: float, unit: str, limit: float, beside: str = "") -> Result:
    """A figure with a lower bound."""
    return Result(group, name, value, unit, f"≥ {limit:g}", value >= limit, beside)


def table(results: list[Result]) -> str:
    """Markdown, one table a group."""
    lines: list[str] = []
    group = ""
    for result in results:
        if result.group != group:
            group = result.group
            lines += ["", f"**{group}**", "", "| what | measured | budget | met | beside |", "|---|---|---|---|---|"]
        met = {True: "yes", False: "NO", None: ""}[result.is_met]
        is_coarse = result.value >= 100 or result.value == int(result.value)
        value = f"{result.value:,.0f}" if is_coarse else f"{result.value:.2f}"
        lines.append(f"| {result.name} | {value} {result.unit} | {result.budget} | {met} | {result.beside} |")
    return "\n".join(lines[1:])


def write_json(results: list[Result], path: Path) -> None:
    """All figures, with what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "results": [asdict(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
