"""The VM that is as boards have it: what it is, what is said where it cannot be built, and all of a node on it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import vm32
from tests.vm32 import source, vm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is built yet, and programs are found in an empty folder only."""
    monkeypatch.setattr(vm, "BUILT", tmp_path / "built")
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv(source.VARIABLE, raising=False)
    return programs


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def refusal() -> vm32.CannotBuild:
    with pytest.raises(vm32.CannotBuild) as raised:
        vm32.build()
    return raised.value


def test_missing_tools_are_named_with_their_packages(nowhere: Path) -> None:
    error = refusal()
    assert "gcc" in str(error)
    assert "apt install" in error.hint


def test_a_compiler_without_32_bits_is_said_to_need_a_package(nowhere: Path) -> None:
    for name in ("make", "tar", "xz", "bzip2"):
        program(nowhere, name, "exit 0")
    program(nowhere, "gcc", "exit 1")
    error = refusal()
    assert "32 bits" in str(error)
    assert "gcc-multilib" in error.hint


@pytest.mark.parametrize(
    ("apt", "said"),
    [(None, "no apt-get"), ("exit 0", "no mirror"), ("echo E: no network >&2; exit 1", "no mirror")],
)
def test_without_debian_the_way_to_a_source_is_told(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apt: str | None, said: str
) -> None:
    monkeypatch.setattr(source, "_KEYS", nowhere)
    if apt is not None:
        program(nowhere, "apt-get", apt)
    with pytest.raises(vm32.CannotBuild) as raised:
        source.source(tmp_path)
    assert said in str(raised.value)
    assert source.VARIABLE in raised.value.hint


def test_what_apt_says_is_told_when_the_source_cannot_be_fetched(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_KEYS", nowhere)
    mirror = 'echo "Debian bookworm http://127.0.0.1:9/"'
    refuse = 'echo "E: unreachable" >&2; exit 100'
    program(nowhere, "apt-get", f'case "$*" in indextargets*) {mirror};; *) {refuse};; esac')
    with pytest.raises(vm32.CannotBuild, match="E: unreachable"):
        source.source(tmp_path)


def test_a_named_source_has_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(source.VARIABLE, str(tmp_path))
    with pytest.raises(vm32.CannotBuild, match="no source of MicroPython"):
        source.source(tmp_path)


def test_a_vm_that_was_built_from_something_else_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "BUILT", tmp_path)
    (tmp_path / vm32.PLAIN).touch()
    assert vm32.find() is None
    (tmp_path / f"{vm32.PLAIN}.made-from").write_text("other files")
    assert vm32.find() is None


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_core_and_whole_nodes_work_on_the_words_and_floats_of_boards() -> None:
    try:
        binary = vm32.build()
    except vm32.CannotBuild as error:
        pytest.skip(f"no VM with words and floats of 32 bits: {error}; {error.hint}")
    assert "words of 32 bits, floats of 32" in vm32.describe(binary)
    command = ["make", "--no-print-directory", "test-vm32"]
    environment = {**os.environ, "PETIOLE_REQUIRE_MICROPYTHON": "1"}
    for name in [name for name in environment if name.startswith("PYTEST_") or name in ("MAKEFLAGS", "MFLAGS")]:
        del environment[name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)
