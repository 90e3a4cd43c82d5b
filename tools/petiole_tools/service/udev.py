"""udev rules: boards keep their names, belong to `dialout`, and ModemManager leaves them alone."""

from __future__ import annotations

from .places import MARK

# USB vendors of boards, and of the bridges between USB and a UART that boards and cables have.
VENDORS = {
    "2e8a": "Raspberry Pi (RP2040, RP2350)",
    "303a": "Espressif (USB of the chip)",
    "10c4": "Silicon Labs CP210x",
    "1a86": "WCH CH340, CH9102",
    "0403": "FTDI",
}


def udev_rules(mark: str = MARK) -> str:
    """Text of the rules file. A board with serial number N is `/dev/petiole/N`, whatever is plugged in beside it."""
    lines = [
        mark,
        "# A board with the serial number N is /dev/petiole/N; in the gateway's settings also usb:N.",
        "",
        'ACTION=="remove", GOTO="petiole_end"',
        'SUBSYSTEM!="tty", GOTO="petiole_end"',
        'SUBSYSTEMS!="usb", GOTO="petiole_end"',
    ]
    for vendor, name in VENDORS.items():
        lines += [f"# {name}", f'ATTRS{{idVendor}}=="{vendor}", ENV{{PETIOLE_BOARD}}="1"']
    lines += [
        'ENV{PETIOLE_BOARD}!="1", GOTO="petiole_end"',
        'GROUP="dialout", MODE="0660", ENV{ID_MM_DEVICE_IGNORE}="1"',
        'ENV{ID_SERIAL_SHORT}=="?*", SYMLINK+="petiole/$env{ID_SERIAL_SHORT}"',
        'LABEL="petiole_end"',
    ]
    return "\n".join(lines) + "\n"
