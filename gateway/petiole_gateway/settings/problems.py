"""What is wrong with a settings file, in words: where it stands, what it is, what is meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from petiole import wire

from .lines import Location, line_of

COMMAND_LINE = "command line"
Known = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` is None where there is no line to show; `meant` may be empty."""

    file: str
    line: int | None
    key: str
    problem: str
    meant: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.problem}" if self.key else f"{place}: {self.problem}"


class ConfigError(Exception):
    """The settings cannot be used. `problems` has all of them; the other fields are those of the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
        first = problems[0]
        self.file = first.file
        self.line = first.line
        self.key = first.key
        self.problem = first.problem
        self.meant = first.meant

    @property
    def hint(self) -> str:
        """What to do about it, in one line."""
        meant = next((problem.meant for problem in self.problems if problem.meant), "")
        return meant or f"correct {self.file}"


def explain(
    entry: Mapping[str, Any], name: str, lines: Mapping[Location, int], changed: Mapping[str, Any], known: Known
) -> Problem:
    """One pydantic error as what a person needs.

    `changed` came from the command line and not from the file `name`; `known` has the keys of each section, "" the top.
    """
    context = entry.get("ctx") or {}
    location: Location = tuple(part for part in entry["loc"] if isinstance(part, int | str))
    if "key" in context:
        location += tuple(int(part) if part.isdigit() else part for part in context["key"].split("."))
    problem, meant = _words(entry, location, context, known)
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    if _is_changed(location, changed):
        return Problem(COMMAND_LINE, None, key, problem, meant)
    return Problem(name, line_of(lines, location), key, problem, meant)


def _is_changed(location: Location, changed: Mapping[str, Any]) -> bool:
    if not location or location[0] not in changed:
        return False
    value = changed[str(location[0])]
    return not isinstance(value, Mapping) or len(location) < 2 or location[1] in value


_KINDS = {
    "string_type": "text in quotes",
    "path_type": "text in quotes",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list: [...]",
}


def _words(entry: Mapping[str, Any], location: Location, context: Mapping[str, Any], known: Known) -> tuple[str, str]:
    """(problem, meant) of one pydantic error."""
    kind = entry["type"]
    if kind == "petiole":
        return context["problem"], context["meant"]
    if kind == "extra_forbidden":
        return "there is no such setting", _nearest(location, known)
    if kind == "missing":
        return "is missing", _example(location)
    if kind == "literal_error":
        return f"{entry['input']!r} is none of the choices", f"one of {context['expected']}"
    if kind in ("greater_than_equal", "less_than_equal"):
        word = "at least" if kind == "greater_than_equal" else "at most"
        return f"{entry['input']} is out of range", f"{word} {context.get('ge', context.get('le'))}"
    if kind == "tuple_type" and location == ("serial",):
        return "is not a list of ports", "each port is a section of its own: [[serial]], with two brackets"
    if kind in _KINDS:
        example = _example(location, before=", for example ")
        return f"{entry['input']!r} is of the wrong type", _KINDS[kind] + example
    if kind in ("model_type", "model_attributes_type", "dataclass_type"):
        return "is not a section", f"[{location[-1]}] on a line of its own, its keys below it"
    return str(entry["msg"]).lower(), _example(location)


_EXAMPLES = {
    ("site",): 'site = "home"',
    ("serial", "port"): 'port = "usb:E6614103E72B502C"',
    ("serial", "baud"): "baud = 115200",
    ("udp", "listen"): f'listen = "0.0.0.0:{wire.UDP_PORT}"',
    ("nats", "hub"): 'hub = ["nats-leaf://hub.example.com:7422"]',
    ("nats", "hub_timeout_s"): "hub_timeout_s = 60",
    ("nats", "store_max_bytes"): "store_max_bytes = 1073741824",
}


def _example(location: Location, before: str = "for example ") -> str:
    example = _EXAMPLES.get(tuple(part for part in location if isinstance(part, str)))
    return f"{before}{example}" if example else ""


def _nearest(location: Location, known: Known) -> str:
    names = [part for part in location if isinstance(part, str)]
    section, key = names[0] if len(names) > 1 else "", names[-1]
    here = known.get(section, ())
    elsewhere = [name for name, keys in known.items() if name and key in keys]
    if elsewhere:
        return f"{key!r} belongs in [{elsewhere[0]}]"
    close = difflib.get_close_matches(key, here, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(here)}"
