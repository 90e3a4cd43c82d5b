"""The pages in docs/: current where they are made from the program, and speaking of what exists where they are not."""

import errno
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from petiole_node import settings
from petiole_tools.arguments import command_arguments
from petiole_tools.cli import app, global_first
from petiole_tools.failure import CliError
from petiole_tools.make_commands import document

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROOT_COMMAND: Any = typer.main.get_command(app)  # once: it takes a tenth of a second
PAGES = sorted(DOCS.glob("*.md"))
FOR_USERS = [*PAGES, ROOT / "README.md", *sorted((ROOT / "boards").rglob("README.md"))]
MINIMAL: dict[str, Any] = {"name": "barn", "key": "00" * 16, "links": [{"kind": "console"}]}
_BLOCK = re.compile(r"(?ms)^ *```(sh[^\n]*)\n(.*?)^ *```")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page: Path) -> list[tuple[str, list[str]]]:
    """(info string, lines) of each block of shell commands."""
    found = []
    for match in _BLOCK.finditer(page.read_text()):
        lines = [line.strip() for line in match[2].splitlines()]
        found.append((match[1].strip(), [line for line in lines if line and not line.startswith("#")]))
    return found


def test_the_list_of_commands_is_current() -> None:
    hint = "run: make docs"
    assert (DOCS / "commands.md").read_text() == document(), hint


def commands_in(line: str) -> list[list[str]]:
    """Every call of petiole on a line, as words."""
    words = shlex.split(line, comments=True)
    found: list[list[str]] = []
    is_ours = False
    for index, word in enumerate(words):
        before = words[index - 1] if index else "|"
        is_first = before in ("|", "&&", ";", "sudo") or re.match(r"[A-Z_]+=", before) is not None
        if word == "petiole" and is_first:
            found.append([])
            is_ours = True
        elif word in ("|", "&&", ";", "&", ">"):
            is_ours = False
        elif is_ours:
            found[-1].append(word)
    return found


def check(words: list[str]) -> None:
    """The command exists, and its options do. Fails otherwise."""
    command: Any = ROOT_COMMAND
    options = {name for each in command.params for name in each.opts}
    rest = list(global_first(words))
    while rest:
        word = rest.pop(0)
        if word == "--":
            break  # what follows is the command line of another program
        if word.startswith("--"):
            name = word.partition("=")[0]
            assert name in options | {"--help"}, f"{name} of petiole {' '.join(words)}"
        elif hasattr(command, "commands") and word in command.commands:
            command = command.commands[word]
            options |= {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        elif hasattr(command, "commands"):
            takes = {name for each in command.params if not each.is_flag for name in each.opts}
            previous = words[words.index(word) - 1]
            assert previous in takes, f"no command {word} in petiole {' '.join(words)}"
    assert not hasattr(command, "commands") or set(words) & {"--version", "--help"}, f"petiole {' '.join(words)}"


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_page_exist_with_their_options(page: Path) -> None:
    for _, lines in blocks(page):
        for line in lines:
            for words in commands_in(line):
                check(words)


def arguments_of(words: list[str]) -> Any:
    """What a line sends to a device; CliError if it cannot be read."""
    command = ROOT_COMMAND.commands[words[0]]
    return command_arguments(list(command.make_context(words[0], words[1:]).params["arguments"] or ()))


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_arguments_for_devices_can_be_read(page: Path) -> None:
    for _, lines in blocks(page):
        for words in (words for line in lines for words in commands_in(line)):
            if words[0] in ("request", "send"):
                arguments_of(words)


def test_arguments_that_cannot_be_read_are_found() -> None:
    assert arguments_of(["send", "barn", "valve", "position=open", "--expires", "12h"]) == {"position": "open"}
    with pytest.raises(CliError, match="not JSON"):
        arguments_of(["send", "barn", "valve", "open", "--expires", "12h"])


def test_every_setting_of_a_sleeping_node_is_told_with_its_default() -> None:
    table = (DOCS / "sleeping.md").read_text().partition("| key | without it |")[2].partition("\n\n")[0]
    told = dict(re.findall(r"(?m)^\| `(\w+)` \| `?\"?([\w]+)", table))
    numbers = {key: str(default) for key, (_, _, default) in settings._NUMBERS.items()}
    assert told == {**numbers, "sleep": settings.check(MINIMAL)["sleep"]}


def test_a_command_that_does_not_exist_is_found() -> None:
    for line in (
        "petiole devise list",
        "petiole device list --colour",
        "sudo petiole gateway",
        "ls | petiole tapp",
        "A_B=c petiole flush",
    ):
        [words] = commands_in(line)
        with pytest.raises(AssertionError):
            check(words)


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_drop_reasons_and_metrics_that_are_named_exist() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    protocol = (ROOT / "PROTOCOL.md").read_text()
    reasons = []
    for head in ("| dropped | means |", "| many | look at |"):
        rows = text.partition(head)[2].partition("\n\n")[0]
        reasons += [name for row in rows.splitlines() if row for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(reasons) >= 9
    for reason in reasons:
        assert f"`{reason}`" in protocol, reason
    source = (ROOT / "gateway" / "petiole_gateway" / "monitoring" / "metrics.py").read_text()
    for page in PAGES:
        for name in re.findall(r"petiole_gateway_(\w+?)(?:_total)?\b", page.read_text()):
            stem = name.removeprefix("store_")
            assert f'"{name}"' in source or f'"{stem}"' in source, f"{name} in {page.name}"


def test_words_that_a_page_quotes_are_said() -> None:
    """In tables of what the program says, the quoted words are in its source, or are the system's."""
    quoted = []
    for head in ("| error | usually |", "| it says | do |"):
        rows = (DOCS / "troubleshooting.md").read_text().partition(head)[2].partition("\n\n")[0]
        quoted += [words for row in rows.splitlines() if row for words in re.findall("`([^`]+)`", row.split("|")[1])]
    assert len(quoted) >= 8
    said = "".join(path.read_text() for folder in ("gateway", "tools") for path in (ROOT / folder).rglob("*.py"))
    assert [words for words in quoted if words not in said and words != os.strerror(errno.EADDRINUSE)] == []


def test_no_page_is_left_out_of_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []
