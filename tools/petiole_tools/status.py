"""How the gateway is, for people."""

from __future__ import annotations

from typing import Any

from petiole_tools.client import connected
from petiole_tools.options import Options
from petiole_tools.output import ago, clean, paint, say, say_fields, say_json, say_table, value_text


async def show(options: Options) -> None:
    """Print the gateway's own account of itself."""
    async with connected(options) as client:
        found = await client.gateway("status")
    if options.as_json:
        say_json(found)
        return
    say(paint(f"site {client.site}", "bold"))
    plain = {key: value for key, value in found.items() if key != "site" and not isinstance(value, dict | list)}
    say_fields([(_words(key), text(key, value)) for key, value in plain.items()])
    for key, value in found.items():
        if isinstance(value, dict):
            say()
            say(paint(_words(key), "bold"))
            if value:
                say_fields([(_words(name), text(name, entry)) for name, entry in value.items()])
            else:
                say("none")
        elif isinstance(value, list):
            say()
            say(paint(_words(key), "bold"))
            _show_list(value)


def _show_list(entries: list[Any]) -> None:
    if not entries:
        say("none")
    elif all(isinstance(entry, dict) for entry in entries):
        names = list(dict.fromkeys(name for entry in entries for name in entry))
        rows = [[text(name, entry.get(name)) for name in names] for entry in entries]
        say_table([_words(name).upper() for name in names], rows)
    else:
        for entry in entries:
            say(clean(text("", entry)))


def text(key: str, value: Any) -> str:
    """One value of a status document."""
    if key.endswith("_at"):
        return ago(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{_words(name)} {text(name, entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(text("", entry) for entry in value) or "none"
    return value if isinstance(value, str) else value_text(value)


def _words(key: str) -> str:
    return key.removesuffix("_total").removesuffix("_at").replace("_", " ")
