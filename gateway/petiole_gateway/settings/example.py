"""The settings as a document: the annotated example, and the list of all of them. Made from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .config import Config, SerialConfig
from .words import EXAMPLES, SECTIONS, WORDS

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. `default` is TOML, "" where there is none; `example` is what it may look like."""

    section: str
    key: str
    kind: str
    default: str
    limits: str
    words: str
    example: str


def settings() -> Iterator[Setting]:
    """All of them, in the order of the models."""
    for section, model in _models().items():
        for key, field in model.model_fields.items():
            if section == "" and (key in SECTIONS):
                continue
            words, example = WORDS[section, key]
            default = _default(field)
            shown = EXAMPLES.get((section, key)) or example or default
            yield Setting(section, key, _kind(field.annotation), default, _limits(field), words, shown)


def example() -> str:
    """A settings file that changes nothing: every key is there, behind a "#", with what it is for."""
    lines = [
        "# Settings of a petiole gateway. A line such as `#site = ...` shows a setting and its default, or an example",
        "# where there is none; remove the # to change it. `petiole config check FILE` says what is wrong.",
    ]
    section = None
    for setting in settings():
        if setting.section != section:
            section = setting.section
            lines += ["", "", f"# {SECTIONS[section]}."]
            if section == "serial":
                lines += ["#[[serial]]"]
            elif section:
                lines += [f"[{section}]"]
        about = setting.words + (f" {setting.limits}." if setting.limits else "")
        lines += ["", *(f"# {line}" for line in _wrapped(about)), f"#{setting.key} = {setting.example}"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The list of all settings, as Markdown."""
    lines = [
        "# Settings of the gateway",
        "",
        "One TOML file, given with `--config` or `PETIOLE_CONFIG`; all settings have defaults. "
        "`petiole config example` prints it with comments, `petiole config check FILE` says what is wrong in one.",
        "This list is made from the program: `python -m petiole_tools.make_settings docs/settings.md`.",
    ]
    section = None
    for setting in settings():
        if setting.section != section:
            section = setting.section
            name = f"`[[{section}]]`" if section == "serial" else f"`[{section}]`" if section else "At the top"
            lines += ["", f"## {name}", "", f"{SECTIONS[section]}.", ""]
            lines += ["| key | kind | default | |", "|---|---|---|---|"]
        default = f"`{setting.default}`" if setting.default else ""
        words = setting.words + (f" {setting.limits}." if setting.limits else "")
        kind = setting.kind.replace("|", "\\|")
        lines.append(f"| `{setting.key}` | {kind} | {default} | {words.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def _models() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {"": Config}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = field.annotation
        elif name == "serial":
            found[name] = SerialConfig
    return found


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined or default is None:
        return ""
    return json.dumps(list(default) if isinstance(default, tuple) else default)


def _kind(annotation: Any) -> str:
    """In a person's words."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f'"{option}"' for option in options)
    if get_origin(annotation) is tuple:
        return "list of texts"
    if len(options) == 1:  # one or None
        return _kind(options[0])
    names = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text", "Path": "path"}
    name = getattr(annotation, "__name__", "")
    if name not in names and options:
        return _kind(options[0])  # Annotated
    return names[name]


def _limits(field: FieldInfo) -> str:
    bounds = [(word, getattr(part, name)) for part in field.metadata for name, word in _BOUNDS if hasattr(part, name)]
    text = ", ".join(f"{word} {bound}" for word, bound in bounds)
    return text[:1].upper() + text[1:]


_BOUNDS = (("ge", "at least"), ("le", "at most"))


def _wrapped(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= _WIDTH:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line
