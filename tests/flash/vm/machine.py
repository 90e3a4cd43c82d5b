"""`machine` of the board in `board_vm.py`: a reset is the end of the process, which is then started again."""

# mypy: ignore-errors
# ruff: noqa: SIM115

import sys

ending = open("ending", "w")  # beside the image: the board's root is mounted later


def reset():
    _end(10)


def bootloader():
    _end(11)


def _end(code):
    # The VM takes its handler of Ctrl-C away before it has ended: the exit code may be that of one which comes then.
    ending.write(str(code))
    ending.close()
    sys.exit(code)
