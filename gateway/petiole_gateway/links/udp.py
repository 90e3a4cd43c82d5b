"""UDP: one datagram, one frame."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from ..hub.ports import Logger, Place

# A site of 1000 nodes that all speak at once: 1000 frames of 250 bytes with the kernel's overhead of about 750 each.
RECEIVE_BUFFER = 1 << 20
# A socket that takes nothing is a network that is down; what waits longer than this many frames is lost anyway.
MAX_UNSENT = 64 * 1024
_HINTS = {
    errno.EADDRINUSE: "is another gateway running? set [udp] listen to another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address; 0.0.0.0 stands for all it has",
    errno.EACCES: "ports below 1024 are for root",
}


class UdpError(Exception):
    """The address cannot be used."""

    def __init__(self, address: str, reason: str, hint: str) -> None:
        super().__init__(f"UDP {address}: {reason}")
        self.address = address
        self.reason = reason
        self.hint = hint


class UdpLink(asyncio.DatagramProtocol):
    """One socket for all nodes. A peer is its address and port."""

    name = "udp"
    answers_addressed = False  # a datagram already goes to one node
    absence = ""

    def __init__(self, receive: Callable[[Place, bytes], None], logger: Logger) -> None:
        self._receive = receive
        self._logger = logger
        self._transport: asyncio.DatagramTransport | None = None
        self._peer_kind: tuple[type, ...] = ()  # of the socket: IPv4 peers have two fields, those of IPv6 four
        self._closed = asyncio.Event()
        self.errors_total = 0
        self.unsent_dropped_total = 0

    async def open(self, host: str, port: int) -> None:
        """Bind. UdpError."""
        address = f"{host}:{port}"
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            raise UdpError(address, error.strerror or str(error), "is IPv6 switched off?") from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.setblocking(False)
            sock.bind((host, port))
            self._peer_kind = _kind(sock.getsockname())
            self._closed.clear()
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=sock)
            self._logger.info("udp_opened", link=self.name, port=self.port)
        except OSError as error:
            sock.close()
            hint = _HINTS.get(error.errno or 0, "check [udp] listen")
            raise UdpError(address, error.strerror or str(error), hint) from error

    @property
    def port(self) -> int:
        """The port that is bound; 0 when closed."""
        if self._transport is None:
            return 0
        return int(self._transport.get_extra_info("sockname")[1])

    @property
    def is_open(self) -> bool:
        """Frames can come. False also after an error that has closed the socket."""
        return self._transport is not None and not self._transport.is_closing()

    async def close(self) -> None:
        """Send what waits, and return when the port is free."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()
            await self._closed.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._receive(Place(self, addr), data)

    def error_received(self, exc: Exception) -> None:
        # The network said that a node is not there; it will speak up when it is.
        self.errors_total += 1

    def send(self, frame: bytes, peer: object) -> None:
        """Send. Dropped while the network takes nothing, and for a peer of another kind of address: where a node was
        heard before [udp] listen was changed. asyncio would close the socket on it."""
        if self._transport is None:
            return
        if _kind(peer) != self._peer_kind:
            self.errors_total += 1
        elif self._transport.get_write_buffer_size() > MAX_UNSENT:  # type: ignore[attr-defined]  # typeshed lacks it
            self.unsent_dropped_total += 1
        else:
            self._transport.sendto(frame, peer)  # type: ignore[arg-type]  # it has the form of those of this socket


def _kind(peer: object) -> tuple[type, ...]:
    return tuple(map(type, peer)) if isinstance(peer, tuple) else ()
