"""USB serial ports of a process are those of the JSON file in PETIOLE_TEST_USB: [[path, serial number]].

For tests whose boards are ptys; it is on the PYTHONPATH of the processes that are to see them.
"""

import json
import os
from pathlib import Path

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

VENDOR, PRODUCT = 0x2E8A, 0x0005  # of a Pico


def comports() -> list[ListPortInfo]:
    found = []
    for path, serial in json.loads(Path(os.environ["PETIOLE_TEST_USB"]).read_text()):
        info = ListPortInfo(path, skip_link_detection=True)
        info.vid, info.pid, info.serial_number, info.description = VENDOR, PRODUCT, serial, "Board in FS mode"
        found.append(info)
    return found


if "PETIOLE_TEST_USB" in os.environ:
    list_ports.comports = comports
