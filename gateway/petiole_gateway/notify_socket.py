"""What the service manager is told, as sd_notify(3) has it: one datagram of `NAME=value` lines to `$NOTIFY_SOCKET`."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class NotifySocket:
    """Tells a service manager where there is one; without, nothing happens. Never waits."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """`address` is a path, or a name of Linux's abstract space after an `@`. `watchdog_s`: a manager restarts the
        service when it has not heard `WATCHDOG=1` for so long."""
        self.address = address
        self.watchdog_s = watchdog_s
        self.problem = ""  # why the last datagram was not sent

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> NotifySocket:
        """From the environment, and out of it: a child that spoke there would be taken for us."""
        address, usec, pid = (environment.pop(name, "") for name in _OWN)
        is_ours = not pid or pid == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if is_ours and usec.isascii() and usec.isdigit() and int(usec) else None
        return cls(address or None, watchdog_s)

    def tell(self, **values: str | int) -> bool:
        """Send `NAME=value` of each argument. False: nobody was told, `problem` says why."""
        if self.address is None:
            return False
        # A line break in a value would begin an assignment of its own.
        lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in values.items())
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(name)
                sock.send("\n".join(lines).encode())
        except OSError as error:
            self.problem = error.strerror or str(error)
            return False
        self.problem = ""
        return True
