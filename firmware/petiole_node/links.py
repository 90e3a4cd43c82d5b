"""Links over byte streams: a UART, or the console that also carries the log and the REPL."""

import asyncio

from petiole import wire

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.framer import CobsFramer
    from petiole.line_framer import LineFramer
    from petiole_node.contracts import Json, Link, Port, Stream

_SILENCE_MS = 1000  # after so long a line may have caught noise
_WRITE_TRIES = 200  # with the pause: 1 s, in which even 9600 baud carry three frames
_WRITE_PAUSE_S = 0.005


class StreamLink:
    is_addressed = False

    def __init__(self, settings: "dict[str, Json]", port: "Port", framer: "CobsFramer | LineFramer") -> None:
        self.name = settings["kind"]
        self.is_console = self.name == "console"
        self._settings = settings
        self._port = port
        self._framer = framer
        self._stream: Stream | None = None
        self._sent_at = -_SILENCE_MS
        self.dropped = framer.dropped

    async def open(self) -> None:
        """Raises OSError."""
        self._framer.reset()
        self._stream = self._port.console() if self.is_console else self._port.serial(self._settings)

    async def refresh(self) -> None:
        """The other end is silent: a wire has no address that could have changed."""

    async def receive(self) -> list[bytes]:
        """Wait for bytes; return the frames that they complete. Raises OSError."""
        data = await self._opened().receive()
        try:
            return self._framer.feed(data)
        except MemoryError:
            self._framer.reset()  # what it was in the middle of is lost like anything on a bad wire
            raise

    async def send(self, frame: bytes) -> None:
        """Write a frame; what finds no room for a second is given up. Raises OSError."""
        now = self._port.now()
        data = self._framer.wrap(frame)
        if not self.is_console and now - self._sent_at >= _SILENCE_MS:
            data = b"\0" + data
        self._sent_at = now
        stream = self._opened()
        for _ in range(_WRITE_TRIES):
            taken = stream.write(data)
            if taken == len(data):
                return
            if taken:
                data = data[taken:]
            await asyncio.sleep(_WRITE_PAUSE_S)
        # A torn frame: the next one begins with a delimiter.
        self._sent_at = now - _SILENCE_MS

    def heard(self) -> None:
        """The last frame was authentic."""

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _opened(self) -> "Stream":
        if self._stream is None:
            raise OSError("not open")
        return self._stream


def create(settings: "dict[str, Json]", port: "Port") -> "Link":
    """The link that the settings describe, closed. Only what is used is imported: a node has little memory."""
    if settings["kind"] == "udp":
        from petiole_node.udp import UdpLink  # noqa: PLC0415

        return UdpLink(settings, port)
    if settings["kind"] == "uart":
        from petiole.framer import CobsFramer  # noqa: PLC0415

        return StreamLink(settings, port, CobsFramer(wire.MAX_FRAME))
    from petiole.line_framer import LineFramer  # noqa: PLC0415

    return StreamLink(settings, port, LineFramer(wire.MAX_FRAME, 160, 0))
