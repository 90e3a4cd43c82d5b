"""The link over UDP: one datagram, one frame."""

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Address, Datagrams, Json, Port

_EVERYBODY = "255.255.255.255"


class UdpLink:
    """Without a host the first frames go to everybody, and the gateway is where an authentic one came from."""

    name = "udp"
    is_addressed = True
    is_console = False

    def __init__(self, settings: "dict[str, Json]", port: "Port") -> None:
        self._settings = settings
        self._port = port
        self._socket: Datagrams | None = None
        self._target: Address = None
        self._source: Address = None
        self._is_searching = False
        self.dropped: dict[str, int] = {}

    async def open(self) -> None:
        """Bring the network up, find the gateway's address. Raises OSError."""
        await self._port.connect_network(self._settings)
        self._socket = self._port.datagrams()
        await self._resolve()

    async def refresh(self) -> None:
        """The gateway is silent: it may have moved, or the network is gone. Raises OSError."""
        if not self._port.is_networked(self._settings):
            raise OSError("the network is gone")
        await self._resolve()

    async def _resolve(self) -> None:
        host = self._settings["host"] or _EVERYBODY
        # A network's own broadcast address may be set as well.
        self._is_searching = host.endswith(".255")
        self._target = await self._port.resolve(host, self._settings["port"])

    async def receive(self) -> list[bytes]:
        data, self._source = await self._opened().receive()
        return [data]

    async def send(self, frame: bytes) -> None:
        """A datagram that cannot be sent is lost like any other; the owner asks `refresh` after a while."""
        try:
            self._opened().send(frame, self._target)
        except OSError:
            self.dropped["send"] = self.dropped.get("send", 0) + 1

    def heard(self) -> None:
        """The last frame was authentic: where it came from is the gateway."""
        if self._is_searching:
            self._target = self._source

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> "Datagrams":
        if self._socket is None:
            raise OSError("not open")
        return self._socket
