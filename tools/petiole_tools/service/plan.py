"""What an installation writes, removes and runs: shown by a dry run, and done in the same order."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from petiole_gateway.nats.private_file import write_private
from petiole_tools.failure import CliError


@dataclass(frozen=True, slots=True)
class NewFile:
    """`content` is made when it is written. `told` stands for it in a dry run where it is a secret."""

    path: Path
    content: Callable[[], bytes]
    mode: int = 0o644
    told: str = ""
    keep: bool = False  # what is there stays


@dataclass(slots=True)
class Plan:
    """Files below `root`, then commands. Commands are run where `root` is the root of this system."""

    root: Path = Path("/")
    folders: dict[Path, int] = field(default_factory=dict)
    files: list[NewFile] = field(default_factory=list)
    gone: list[Path] = field(default_factory=list)
    before: list[Sequence[str]] = field(default_factory=list)  # commands before files are touched
    commands: list[Sequence[str]] = field(default_factory=list)

    def at(self, path: Path) -> Path:
        """Where a path is below `root`."""
        return self.root / path.relative_to("/")

    def changes(self, file: NewFile) -> bool:
        """Whether the file is not yet as it should be."""
        path = self.at(file.path)
        if not path.exists():
            return True
        if file.keep:
            return False
        return path.read_bytes() != file.content() or stat.S_IMODE(path.stat().st_mode) != file.mode

    def apply(self, say: Callable[[str], None]) -> int:
        """Do it; the number of files that changed. CliError for a command that fails."""
        for command in self.before:
            self._run(command, say)
        changed = 0
        for folder, mode in self.folders.items():
            path = self.at(folder)
            if not path.is_dir():
                path.mkdir(parents=True)
            path.chmod(mode)
        for file in self.files:
            if self.changes(file):
                write_private(self.at(file.path), file.content())
                self.at(file.path).chmod(file.mode)
                say(f"wrote {file.path}")
                changed += 1
        for path in self.gone:
            if _remove(self.at(path)):
                say(f"removed {path}")
                changed += 1
        for command in self.commands:
            self._run(command, say)
        return changed

    def _run(self, command: Sequence[str], say: Callable[[str], None]) -> None:
        if self.root != Path("/"):
            return
        say(f"ran {' '.join(command)}")
        if shutil.which(command[0]) is None:
            raise CliError(f"there is no {command[0]} here", "install it, and run this again: what is done stays done")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            told = (done.stderr or done.stdout).strip().splitlines()
            hint = "`journalctl -u petiole-gateway -n 30` tells more" if "petiole" in command[-1] else "run it by hand"
            raise CliError(f"`{' '.join(command)}` failed with code {done.returncode}", hint, told[-5:])

    def text(self) -> str:
        """The whole plan, for a person who wants to read it first."""
        out = [f"run     {' '.join(command)}" for command in self.before]
        out += [f"folder  {folder}, mode {mode:04o}" for folder, mode in self.folders.items()]
        for file in self.files:
            verb = "write  " if self.changes(file) else "keep   "
            out.append(f"{verb} {file.path}, mode {file.mode:04o}")
            if self.changes(file):
                told = file.told or file.content().decode()
                out += [f"    {line}".rstrip() for line in told.splitlines()]
        out += [f"remove  {path}" for path in self.gone if os.path.lexists(self.at(path))]
        out += [f"run     {' '.join(command)}" for command in self.commands]
        return "\n".join(out)


def _remove(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True
