"""The firmware as a package for `mip`: the real mpremote installs it on a real MicroPython, and a node of it joins."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from petiole_tools import firmware_build
from petiole_tools.flash.session import Session

from .conftest import Run
from .rig import BoardVm

MPREMOTE = Path(sys.executable).parent / "mpremote"
APP = b'from petiole_node import Node\nnode = Node("petiole.json", firmware="by mip")\nnode.run()\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make firmware` builds it."""
    made = tmp_path_factory.mktemp("firmware")
    command = [sys.executable, "-m", "petiole_tools.firmware_build", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_package_lists_exactly_what_is_built(folder: Path) -> None:
    package = json.loads((folder / firmware_build.PACKAGE_FILE).read_text())
    built = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {target for target, _ in package["urls"]} == built - {firmware_build.PACKAGE_FILE}
    assert all(target == url for target, url in package["urls"])
    assert package["urls"][-1] == ["main.py", "main.py"], "what starts the board comes last"
    assert package["deps"] == []
    # Built again into the same folder, it does not list itself.
    firmware_build.write_package(folder)
    assert json.loads((folder / firmware_build.PACKAGE_FILE).read_text()) == package


@pytest.mark.parametrize("way", ["address", "disk"])
def test_a_node_that_mip_has_installed_joins(
    way: str, petiole: Run, plugged: str, board: BoardVm, folder: Path, address: str, tmp_path: Path
) -> None:
    code, _, err = petiole("device", "add", "mipped", "--link", "console", "--output", str(tmp_path / "petiole.json"))
    assert code == 0, err
    code, _, err = petiole("port", "release", plugged)
    assert code == 0, err
    source = address if way == "address" else str(folder / firmware_build.PACKAGE_FILE)
    command = [str(MPREMOTE), "connect", board.path, "resume", "mip", "install", "--target", "/", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    with Session(board.path) as session:
        names = {path.lstrip("/") for path, (size, _) in session.tree("/").items() if size >= 0}
        assert names == {target for target, _ in json.loads((folder / "package.json").read_text())["urls"]}
        session.write("/petiole.json", (tmp_path / "petiole.json").read_bytes())
        session.write("/app.py", APP)
        session.reset()
    code, _, err = petiole("port", "resume", plugged)
    assert code == 0, err
    end = time.monotonic() + 60
    while json.loads(petiole("device", "show", "mipped", "--json")[1])["firmware"] != "by mip":
        assert time.monotonic() < end
    assert petiole("device", "remove", "mipped")[0] == 0
