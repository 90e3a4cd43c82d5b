"""Build the VM in build/vm32, once for each state of what it is made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from . import source as sources
from .source import CannotBuild

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "vm32"
PLAIN = "micropython"
FROZEN = "micropython-frozen"  # with the firmware in it

_BOARD = Path(__file__).resolve().parent / "board"
_MANIFESTS = {PLAIN: _BOARD / "manifest.py", FROZEN: ROOT / "boards" / "unix" / "manifest.py"}
_MAKE_S = 1800.0
_TELL = """
import sys
words = 1
while sys.maxsize >> words: words += 1
print(".".join([str(part) for part in sys.implementation[1][:3]]), words + 1, 64 if 1 + 2.0 ** -30 > 1 else 32)
"""


def find(kind: str = PLAIN) -> Path | None:
    """The VM if it was built from what is here now."""
    path = BUILT / kind
    stamp = _stamp(kind)
    return path if path.exists() and stamp.exists() and stamp.read_text() == _digest(kind) else None


def build(kind: str = PLAIN) -> Path:
    """The VM, built if it is not there. Takes a minute for each, and some 12 MB from Debian the first time.

    CannotBuild says what is missing.
    """
    built = find(kind)
    if built is not None:
        return built
    flags = _compiler_flags()
    root = sources.source(BUILT)
    _make(root / "mpy-cross", "mpy-cross", [f"BUILD={BUILT / 'build-mpy-cross'}"])
    folder = BUILT / f"build-{kind}"
    # What is frozen has no dependencies in that makefile.
    shutil.rmtree(folder / "frozen_mpy", ignore_errors=True)
    _make(
        root / "ports" / "unix",
        kind,
        [
            f"BUILD={folder}",
            f"VARIANT_DIR={_BOARD}",
            f"FROZEN_MANIFEST={_MANIFESTS[kind]}",
            f"MICROPY_MPYCROSS={BUILT / 'build-mpy-cross' / 'mpy-cross'}",
            f"MPY_LIB_DIR={root}",  # nothing of micropython-lib is frozen, and Debian's source is without it
            "CFLAGS_EXTRA=-Wno-error",  # compilers get stricter, and this source does not change
            *flags,
        ],
    )
    half = BUILT / f"{kind}.new"
    shutil.copy2(folder / "micropython", half)
    half.rename(BUILT / kind)
    _stamp(kind).write_text(_digest(kind))
    return BUILT / kind


def describe(binary: Path) -> str:
    """What a VM says of itself."""
    done = subprocess.run([str(binary), "-c", _TELL], capture_output=True, text=True, timeout=60, check=True)
    version, words, floats = done.stdout.split()
    return f"MicroPython {version}, words of {words} bits, floats of {floats}"


def _stamp(kind: str) -> Path:
    return BUILT / f"{kind}.made-from"


def _digest(kind: str) -> str:
    """Of all files here that the VM is made from."""
    digest = hashlib.sha256(os.environ.get(sources.VARIABLE, sources.SUITE).encode())
    for path in (*sorted(_BOARD.iterdir()), *_frozen(kind)):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _frozen(kind: str) -> Iterable[Path]:
    if kind == PLAIN:
        return ()
    return (*sorted((ROOT / "boards").glob("**/manifest.py")), *sorted((ROOT / "firmware").glob("petiole*/**/*.py")))


def _compiler_flags() -> list[str]:
    """Arguments for MicroPython's makefile with which this computer makes and runs programs of 32 bits."""
    tools = [tool for tool in ("gcc", "make", "tar", "xz", "bzip2") if shutil.which(tool) is None]
    if tools:
        raise CannotBuild(f"missing: {', '.join(tools)}", "sudo apt install gcc make xz-utils bzip2")
    BUILT.mkdir(parents=True, exist_ok=True)
    program = BUILT / "probe"
    text = '#include <stdio.h>\n_Static_assert(sizeof(void *) == 4, ""); int main(void) { return puts("32") < 0; }'
    for flag, arguments in (("-m32", ["MICROPY_FORCE_32BIT=1"]), ("-O", [])):
        command = ["gcc", flag, "-x", "c", "-", "-o", str(program)]
        if not subprocess.run(command, input=text, capture_output=True, text=True, check=False).returncode:
            try:
                if not subprocess.run([str(program)], capture_output=True, check=False).returncode:
                    return arguments
            except OSError:
                continue
    raise CannotBuild(
        "gcc makes no programs of 32 bits that run here",
        "sudo apt install gcc-multilib (on x86-64; root is needed for that alone)",
    )


def _make(folder: Path, name: str, arguments: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    environment["GIT_CEILING_DIRECTORIES"] = str(BUILT)  # this project's commit is no version of MicroPython
    log = BUILT / f"{name}.log"
    command = ["make", "-C", str(folder), f"-j{os.cpu_count() or 1}", *arguments]
    with log.open("w") as file:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, timeout=_MAKE_S, check=False
        )
    if done.returncode:
        raise CannotBuild(f"building {name} failed", f"see {log.relative_to(ROOT)}")
