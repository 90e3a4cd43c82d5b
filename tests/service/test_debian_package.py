"""What `make deb` puts into the package."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from petiole_tools import debian_package
from petiole_tools.debian_package import ROOT, SYSTEM_PYTHON

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


def test_the_package_has_a_program_that_flashes_boards(unpacked: Path) -> None:
    """Boards, firmware and the code for the raw REPL are data of the program: all must have come along."""
    (site,) = (unpacked / "usr" / "lib" / "petiole" / "lib").glob("python3*/site-packages")
    assert (site / "petiole_boards" / "RPI_PICO_W" / "board.toml").is_file()
    assert (site / "petiole_boot" / "main.py").is_file()
    assert (site / "petiole_tools" / "flash" / "agent.py").is_file()
    assert (unpacked / "usr" / "bin" / "petiole").stat().st_mode & 0o111
