"""`python -m tests.vm32`: build the VM, and the one with the firmware in it, and say what they are."""

import sys

from . import FROZEN, PLAIN, CannotBuild, build, describe
from .vm import ROOT


def main() -> None:
    for kind in (PLAIN, FROZEN):
        try:
            binary = build(kind)
        except CannotBuild as error:
            sys.exit(f"error: no 32-bit VM: {error}\nhint: {error.hint}")
        what = ", with the firmware" if kind == FROZEN else ""
        print(f"{binary.relative_to(ROOT)}: {describe(binary)}{what}")


main()
