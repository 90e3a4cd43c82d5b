"""The serial ports of a gateway: those of the settings, found by any of their names, and lent to people for a while.

Methods on `gw.<site>.` and `gw.<site>.<gateway>.`: port.list; port.show {"port"}; port.release {"port", "for_s"};
port.resume {"port", "restart"}.
"""

from __future__ import annotations

import asyncio
import glob
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from .hub.ports import CommandError, Logger, Place
from .hub.readings import timestamp
from .links.serial import SerialLink
from .nats.service import Method
from .settings.config import SerialConfig
from .supervision import Supervisor

# Ports given by a pattern are looked for this often; a new board is noticed while its owner still looks at it.
PORT_SCAN_S = 1.0
# A look around with mpremote; who needs longer says so. Readings wait in the nodes' outboxes meanwhile.
RELEASE_S = 600.0
# A day at the workbench. A port that is to be free for longer is better taken out of the settings.
MAX_RELEASE_S = 86400.0
# A board that restarts is waited for 10 s (links/repl.py), one that takes the port with it comes back in 2 s.
RESUME_TIMEOUT_S = 15.0


class SerialPorts:
    """`links` by the name in the settings, or by path for those of a pattern. `device_at(link)`: who was heard there
    last; `link_of(device)`: where a device was heard last. CommandError 404 for a device that is not known."""

    def __init__(
        self,
        entries: Sequence[SerialConfig],
        *,
        receive: Callable[[Place, bytes], None],
        log: Callable[[str, str], None],
        logger: Logger,
        device_at: Callable[[str], str | None],
        link_of: Callable[[str], str | None],
        own_name: str,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.links: dict[str, SerialLink] = {}
        self._entries = entries
        self._receive = receive
        self._log = log
        self._logger = logger
        self._device_at = device_at
        self._link_of = link_of
        self._own_name = own_name
        self._supervisor = supervisor or Supervisor(logger)
        self.tasks: list[asyncio.Task[None]] = []
        methods: dict[str, Method] = {
            "port.list": self._list,
            "port.show": self._show,
            "port.release": self._release,
            "port.resume": self._resume,
        }
        # With the gateway's name too: where a site has several, it matters which of them is asked.
        self.methods = methods | {f"{own_name}.{name}": method for name, method in methods.items()}

    def start(self) -> None:
        """Open all ports, and those that appear later."""
        self._scan()
        if any(glob.has_magic(entry.port) for entry in self._entries):
            self.tasks.append(self._supervisor.keep("the search for ports", self._rescan, is_vital=True))

    def open_no_more(self) -> None:
        """The gateway is about to stop, which may take a minute. Open ports stay open: what came is acknowledged."""
        self._entries = ()
        for link in self.links.values():
            link.open_no_more()

    async def stop(self) -> None:
        """Close all ports."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _scan(self) -> None:
        for entry in self._entries:
            ports = sorted(glob.glob(entry.port)) if glob.has_magic(entry.port) else [entry.port]
            for port in ports:
                if port not in self.links:
                    link = SerialLink(
                        port,
                        baud=entry.baud,
                        framing=entry.framing,
                        receive=self._receive,
                        log=self._log,
                        logger=self._logger,
                    )
                    self.links[port] = link
                    self.tasks.append(self._supervisor.keep(f"link {port}", link.run, is_vital=True))

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(PORT_SCAN_S)
            self._scan()

    # Names -------------------------------------------------------------------------------------------------

    def find(self, name: str) -> SerialLink:
        """The port of this name: as in the settings, a path to it, the last part of one, or the device that is on it.

        CommandError 404 if there is none, 409 if it may be several.
        """
        self._scan()  # a board that was plugged in this moment is ours, too: whoever asks may be about to use it
        named = [link for link in self.links.values() if name in (link.name, link.path)]
        found = named or [link for link in self.links.values() if name in _names(link)]
        if not found:
            found = [link for link in self.links.values() if self._device_at(link.name) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise CommandError(409, f"{name} may be {' or '.join(sorted(link.name for link in found))}")
        known = ", ".join(sorted(self.links)) or "none"
        try:
            at = self._link_of(name)
        except CommandError:
            raise CommandError(404, f"{name} is neither a serial port nor a device here; ports: {known}") from None
        where = "was not heard yet" if at is None else f"is on {at}"
        raise CommandError(404, f"{name} {where}, not on a serial port of this gateway; ports: {known}")

    def row(self, link: SerialLink) -> dict[str, Any]:
        """A port as people see it. `path` is what other programs open."""
        left_s = link.released_for_s
        return {
            "name": link.name,
            "path": link.path,
            "device": self._device_at(link.name),
            "framing": link.framing,
            "baud": link.baud,
            "state": link.state,
            "released_for_s": None if left_s is None else round(left_s, 1),
            "released_until_at": None if left_s is None else timestamp(int((time.time() + left_s) * 1000)),
            "problem": link.problem or None,
            "hint": link.hint or None,
        }

    # Methods -----------------------------------------------------------------------------------------------

    async def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"gateway": self._own_name, "ports": [self._answer(self.links[name]) for name in sorted(self.links)]}

    async def _show(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._answer(self.find(_port(arguments)))

    def _answer(self, link: SerialLink) -> dict[str, Any]:
        # The path means something on that machine only.
        return self.row(link) | {"gateway": self._own_name, "host": socket.gethostname()}

    async def _release(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for_s = arguments.get("for_s", RELEASE_S)
        if not isinstance(for_s, (int, float)) or isinstance(for_s, bool) or not 0 < for_s <= MAX_RELEASE_S:
            raise CommandError(400, f"for_s: more than 0, at most {MAX_RELEASE_S:g} seconds")
        link = self.find(_port(arguments))
        link.release(for_s)
        return self._answer(link)

    async def _resume(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The port, and `program`: what its board did (links/repl.py), None where that cannot be known."""
        restart = arguments.get("restart", False)
        if not isinstance(restart, bool):
            raise CommandError(400, "restart: true or false")
        link = self.find(_port(arguments))
        try:
            async with asyncio.timeout(RESUME_TIMEOUT_S):
                program = await link.resume(is_forced=restart)
        except TimeoutError:
            program = ""
        return self._answer(link) | {"program": program or None}


def _port(arguments: dict[str, Any]) -> str:
    name = arguments.get("port")
    if not isinstance(name, str) or not name:
        raise CommandError(400, "port: a text is missing")
    return name


def _names(link: SerialLink) -> set[str]:
    """What else a port may be called: where its path leads, and last parts of paths such as ttyACM0."""
    paths = {path for path in (link.name, link.path) if path.startswith("/")}
    paths |= {os.path.realpath(path) for path in paths}
    return paths | {os.path.basename(path) for path in paths}
