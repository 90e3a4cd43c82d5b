"""micropython read_file.py FIRMWARE FLASH PATH: writes what is in this file of the flash; nothing if there is none."""

# mypy: ignore-errors
# ruff: noqa: SIM115

import sys

from filesystem import mount

with open(sys.argv[2], "rb") as file:
    flash = bytearray(file.read())
mount(flash, "/pico")
try:
    data = open("/pico" + sys.argv[3], "rb").read()
except OSError:
    data = b""
sys.stdout.buffer.write(data)
