"""A project folder: `app.py`, and `petiole.toml` that says what board it is for and what its settings are."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from petiole_tools.failure import CliError

FILE = "petiole.toml"


class Project(BaseModel):
    """`settings`: of the node, added to its `petiole.json`; `links`: as with --link."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    board: str | None = None
    name: str | None = None
    links: tuple[str, ...] = ()
    settings: dict[str, Any] = {}


def load(folder: Path) -> Project:
    """What a folder says; nothing where it has no such file. Raises CliError."""
    path = folder / FILE
    if not path.is_file():
        return Project()
    try:
        return Project.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise CliError(f"{path}: {error}", 'key = "value": text needs quotes') from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        is_unknown = first["type"] == "extra_forbidden"
        what = "there is no such key" if is_unknown else str(first["msg"])
        hint = "of a project it knows board, name, links and [settings]; a gateway's settings go into another file"
        raise CliError(f"{path}: {key}: {what}", hint) from error


_APP = '''"""What this node does. `petiole flash` puts it on the board; `petiole run` does so whenever it is saved."""

from petiole_node import Node

node = Node("petiole.json")
uptime = node.channel("uptime", unit="s", period_s=10, type="i")


@node.command("add", "a:f b:f")
def add(a, b):
    return a + b


@node.every(10)
async def measure():
    await uptime.publish(node.port.now() // 1000)    # returns when the gateway has it on disk


node.run()
'''

_TOML = """# What this project is for. Keys and passwords are not here: they are in petiole.json on the board.
{board}# name = "greenhouse-1"             # of one board; without it: petiole flash --name NAME
# links = ["udp://gateway.local"]   # how the node reaches its gateway; by default over the USB cable

[settings]                          # of the node
# outbox_bytes = 65536              # of flash for readings that wait
# period_s = 60                     # it sleeps in between
"""

_README = """# {name}

    petiole flash{board} --name NAME     # onto a board on USB, registered at the gateway
    petiole run                          # again whenever app.py is saved, and its log
    petiole watch NAME                   # its readings

`app.py` is what runs on the board, `petiole.toml` says which board and which settings.
"""


def create(folder: Path, board: str | None) -> list[Path]:
    """Make a project. Raises CliError; nothing that is there is touched."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CliError(f"{folder} is there already", "name a folder that is new or empty")
    line = f'board = "{board}"\n' if board else '# board = "RPI_PICO_W"\n'
    texts = {
        "app.py": _APP,
        FILE: _TOML.format(board=line),
        "README.md": _README.format(name=folder.name, board="" if board else " --board BOARD"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
