"""What a node says to people: on its console, and to the gateway."""

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.endpoint import NodeEndpoint
    from petiole_node.carrier import Carrier

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_UNSENT = 6  # lines of a start, and of what went wrong in it


class Log:
    """Lines from `level` on. What is said before the first join goes out with it, the last few lines."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._endpoint: NodeEndpoint | None = None
        self._carrier: Carrier | None = None
        self._unsent: list[tuple[int, str]] = []

    def attach(self, endpoint: "NodeEndpoint", carrier: "Carrier") -> None:
        """From here on there is somebody who may hear it."""
        self._endpoint, self._carrier = endpoint, carrier

    def write(self, level: int, text: str) -> None:
        if level < self._level:
            return
        for line in text.split("\n"):
            # On a console a line that begins with this mark would be a frame.
            print(" " + line if line.startswith("~") else line)
        if self._carrier is not None and self._carrier.is_on_console():
            return
        if self._endpoint is None or self._carrier is None or self._endpoint.session is None:
            self._unsent = self._unsent[-_UNSENT + 1 :]
            self._unsent.append((level, text))
        else:
            self._endpoint.log(level, text)
            self._carrier.wake()

    def joined(self) -> None:
        """Say what was said before there was anybody to hear it."""
        unsent, self._unsent = self._unsent, []
        if self._endpoint is not None and self._carrier is not None and not self._carrier.is_on_console():
            for level, text in unsent:
                self._endpoint.log(level, text)
