"""A site with a real gateway whose console ports are what the tests plug in, and boards to plug."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petiole_tools.cli import main
from petiole_tools.flash import payload

from . import desk
from .rig import BoardVm

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The settings file of a running gateway; ports are links `ttyACM*` in the folder `ports` beside it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "ports").mkdir()
    with desk.gateway(folder, f"{folder}/ports/ttyACM*") as config:
        yield config


@pytest.fixture(scope="session", autouse=True)
def _one_build() -> Iterator[None]:
    """Of another port than this one nothing gets as far as a board."""
    build = payload._firmware
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "_firmware", lambda _port: build("unix"))
        yield


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardVm]:
    (tmp_path / "board").mkdir()
    with BoardVm(tmp_path / "board") as made:
        yield made


@pytest.fixture
def petiole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in this process: (exit code, standard output, lines of standard error)."""
    for name in os.environ:
        if name.startswith("PETIOLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PETIOLE_STATE_DIR", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run


@pytest.fixture
def plugged(site: Path, board: BoardVm, monkeypatch: pytest.MonkeyPatch, petiole: Run) -> Iterator[str]:
    """The path of the board's port, which the gateway has open."""
    monkeypatch.setenv("PETIOLE_CONFIG", str(site))
    monkeypatch.delenv("PETIOLE_STATE_DIR")
    link = site.parent / "ports" / f"ttyACM{os.getpid()}"
    link.symlink_to(board.path)
    yield str(link)
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
