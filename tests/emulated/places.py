"""What there is of an emulated board, by name in its folder."""

DRIVE = "RPI-RP2"
PORT = "tty"
USB = "usb.json"  # as tests/flash/usb/sitecustomize.py reads it
FLASH = "flash.bin"
OPERATIONS = "flash.log"
CUT = "cut"
LOST = "lost"
LOADER = "loader"
