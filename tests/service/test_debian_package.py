"""What `make deb` puts into the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from petiole_tools import debian_package
from petiole_tools.debian_package import ROOT, SYSTEM_PYTHON
from tests.flash.rig import BoardVm

pytestmark = [
    pytest.mark.soak,  # it installs everything from the package index
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("dpkg-deb") is None or not SYSTEM_PYTHON.exists(), reason="no dpkg-deb or no python3 of the system"
    ),
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    package = debian_package.build(folder)
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
    return folder / "root"


def test_the_package_has_what_other_programs_read(unpacked: Path) -> None:
    shared = unpacked / "usr" / "share" / "petiole"
    found = {path.relative_to(shared).as_posix(): path for path in shared.rglob("*") if path.is_file()}
    assert sorted(found) == ["grafana/petiole.json", "prometheus/alerts.yml", "wireshark/petiole.lua"]
    for name, source in debian_package.SHARED_FILES.items():
        assert found[name].read_bytes() == (ROOT / source).read_bytes()
        assert found[name].stat().st_mode & 0o777 == 0o644
    assert json.loads(found["grafana/petiole.json"].read_text())["panels"]


def test_the_package_has_a_program_that_flashes_boards(unpacked: Path, tmp_path: Path) -> None:
    """Boards, firmware, mpremote, the compiler and the code for the raw REPL: all must have come along."""
    (site,) = (unpacked / "usr" / "lib" / "petiole" / "lib").glob("python3*/site-packages")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PETIOLE_", "PYTHON"))}
    env |= {"PYTHONPATH": str(site), "PETIOLE_STATE_DIR": str(tmp_path / "nowhere")}

    def petiole(*words: str) -> str:
        command = [str(SYSTEM_PYTHON), "-P", "-m", "petiole_tools", *words]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    petiole("new", "project", "--board", "unix")
    (tmp_path / "board").mkdir()
    with BoardVm(tmp_path / "board") as board:
        words = ("--app", "project", "--name", "packaged", "--offline", "--port", board.path)
        assert "packaged starts" in petiole("flash", *words)
        assert "main.py" in petiole("shell", "--port", board.path, "ls")
    assert (unpacked / "usr" / "bin" / "petiole").stat().st_mode & 0o111
