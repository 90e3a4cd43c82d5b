"""What there is of an emulated board, by name in its folder."""

DRIVE = "RPI-RP2"
PORT = "tty"
USB = "usb.json"  # as tests/flash/usb/sitecustomize.py reads it
FLASH = "flash.bin"
OPERATIONS = "flash.operations"  # bytes; of what is named .log a failure shows the end
CUT = "cut"
LOST = "lost"
LOADER = "loader"
