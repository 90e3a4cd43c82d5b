"""Commands of docs/ that are marked `sh board`, as they stand there: beside a gateway, with a board called kitchen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.test_docs import PAGES, blocks

from .conftest import Run

APP = 'from petiole_node import Node\nnode = Node("petiole.json")\nnode.run()\n'
LINES = [line for page in PAGES for info, lines in blocks(page) if info == "sh board" for line in lines]


@pytest.mark.usefixtures("site")
def test_commands_for_a_board_do_what_the_page_says(petiole: Run, plugged: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "commands.txt").write_text("ls\ndf\n")
    words = ("flash", "--board", "unix", "--port", plugged, "--name", "kitchen", "--app", "app.py")
    code, _, err = petiole(*words)
    assert code == 0, err
    (tmp_path / "bin").mkdir()
    for name, module in (("petiole", "petiole_tools"), ("mpremote", "mpremote")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    assert len(LINES) >= 5
    for line in LINES:
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert done.stdout, line
    assert "kitchen" in (tmp_path / "petiole.json").read_text()
    assert petiole("device", "remove", "kitchen")[0] == 0
