"""What a computer sees of an emulated board, by name in its folder."""

DRIVE = "RPI-RP2"
PORT = "tty"
USB = "usb.json"  # as tests/flash/usb/sitecustomize.py reads it
