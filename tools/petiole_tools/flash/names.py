"""Names of boards that are flashed together: one for each, of what a device name may have."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from petiole.manifest import is_token
from petiole_tools.client import checked_name
from petiole_tools.failure import CliError
from petiole_tools.flash.find import BoardPort

_END = 6  # characters of a serial number: enough for a drawer of boards, short enough to be typed
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]")


def names(base: str, ports: Sequence[BoardPort]) -> list[str]:
    """`base` and the end of each board's serial number: six characters, more where several end alike. Where they are
    the same, or there is none, the name of the port. Raises CliError if that is no device name."""
    checked_name("device name", base)
    serials = [_plain(port.serial) for port in ports]
    found = []
    for index, port in enumerate(ports):
        others = serials[:index] + serials[index + 1 :]
        end = _end(serials[index], others) or _plain(os.path.basename(port.path))
        name = f"{base}-{end}"
        if not is_token(name):
            raise CliError(f"--name {base!r} has no room for -{end} behind it", "a device name has 32 characters")
        found.append(name)
    if len(set(found)) < len(found):
        raise CliError("the serial numbers of these boards make one name", "flash them one by one, with --port")
    return found


def _end(serial: str, others: Sequence[str]) -> str:
    """What no other one ends with; all of it if others end with all of it; "" if it is not the only one."""
    if not serial or serial in others:
        return ""
    for length in range(min(_END, len(serial)), len(serial)):
        if not any(other.endswith(serial[-length:]) for other in others):
            return serial[-length:]
    return serial


def _plain(text: str) -> str:
    """Without the colons of a hardware address, for example."""
    return _FORBIDDEN.sub("", text).lower()
