"""A site with a real gateway whose console ports are what the tests plug in, and boards to plug."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petiole_tools.cli import main
from petiole_tools.flash import payload

from .rig import BoardVm

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The settings file of a running gateway; ports are links `ttyACM*` in the folder `ports` beside it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "ports").mkdir()
    config = folder / "petiole.toml"
    config.write_text(
        f'site = "desk"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n'
        f'[[serial]]\nport = "{folder}/ports/ttyACM*"\nframing = "console"\n'
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
    command = [sys.executable, "-m", "petiole_tools", "--config", str(config)]
    with (folder / "gateway.log").open("w") as log:
        gateway = subprocess.Popen([*command, "gateway", "run"], stdout=log, stderr=log, env=env)
        try:
            end = time.monotonic() + 60
            while subprocess.run([*command, "status"], capture_output=True, check=False, env=env).returncode:
                assert time.monotonic() < end, (folder / "gateway.log").read_text()
                assert gateway.poll() is None, (folder / "gateway.log").read_text()
            yield config
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(30)


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
