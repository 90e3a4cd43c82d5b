"""Serial ports: found by a stable name, opened for one program, and what is in the way of that."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import termios

import serial
from serial.tools import list_ports

_GROUP_MAY = stat.S_IRGRP | stat.S_IWGRP


class PortError(Exception):
    """A port that cannot be opened. `kind`: "missing", "denied", "busy" (another program has it) or "unusable"."""

    def __init__(self, port: str, reason: str, hint: str, kind: str) -> None:
        super().__init__(f"{port}: {reason}")
        self.port = port
        self.reason = reason
        self.hint = hint
        self.kind = kind


def resolve(port: str) -> str:
    """The device path of a port setting: `usb:<serial number>` is looked up, anything else is a path. PortError."""
    if not port.startswith("usb:"):
        return port
    wanted = port[4:]
    found = [info for info in list_ports.comports() if info.serial_number == wanted]
    if found:
        return found[0].device
    present = ", ".join(sorted(str(i.serial_number) for i in list_ports.comports() if i.serial_number)) or "none"
    raise PortError(port, "no such USB device", f"USB serial numbers present: {present}", "missing")


def open_port(port: str, baud: int) -> serial.Serial:
    """Open for exclusive use, non-blocking. PortError says what is wrong and what helps."""
    path = resolve(port)
    try:
        return serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as error:
        number = error.errno
        if number == errno.ENOENT:
            raise PortError(port, "does not exist", "plug the board in, or check the path", "missing") from error
        if number in (errno.EACCES, errno.EPERM):
            raise PortError(port, "permission denied", permission_hint(path), "denied") from error
        if number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
            raise PortError(port, "is in use", "another program has it open, a terminal perhaps", "busy") from error
        if os.path.exists(path) and not _is_device(path):
            raise PortError(port, "is no serial port", "check the path", "unusable") from error
        raise PortError(port, str(error), "check cable and path", "unusable") from error
    except (OSError, termios.error, ValueError) as error:
        # pyserial lets through what a board that is unplugged in this moment answers, and what no driver can set.
        raise PortError(port, str(error), "check cable, path and baud rate", "unusable") from error


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:  # unplugged in this moment
        return True


def permission_hint(path: str, then: str = "start the gateway again") -> str:
    """Who may open it: the group that udev gives to serial ports, dialout on Debian. `then`: what a new group needs."""
    try:
        there = os.stat(path)
        group = grp.getgrgid(there.st_gid).gr_name
    except (OSError, KeyError):
        return "the user of the gateway may not use it; a rule of udev can allow that"
    if there.st_gid and there.st_mode & _GROUP_MAY == _GROUP_MAY:
        return f"sudo usermod -aG {group} {_user()}, then {then}"
    return f"its group {group} may not use it either: have a rule of udev give it to the group dialout, mode 0660"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
