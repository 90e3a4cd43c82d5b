"""What a node is made of, said before it starts: channels, commands, and what it does every so often."""

from petiole import manifest, wire
from petiole.errors import LocalError
from petiole_node import commands
from petiole_node.channel import Channel

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole_node.contracts import Handler, Json, Port

POLICIES = ("drop-oldest", "drop-newest", "keep-last", "thin-out")  # by their numbers in petiole.shedding


class Declarations:
    """What applications declare with. `Node` is one."""

    def __init__(self, port: "Port") -> None:
        self.port: Port = port
        self._is_closed = False  # the node has started
        self._channels: list[list[object]] = []
        self._policies: dict[int, int] = {}
        self._commands: dict[int, commands.Command] = {}
        self._periodic: list[tuple[float, Handler]] = []

    def channel(
        self,
        name: str,
        unit: str = "",
        period_s: int = 0,
        type: str = "f",
        number: "int | None" = None,
        when_full: str = "drop-oldest",
    ) -> Channel:
        """Declare a stream of readings. `type`: f number, i integer, b boolean, s text, x bytes, a any.

        `when_full`: what goes when a durable outbox (`outbox_bytes`) has no room: "drop-oldest"; "drop-newest", what is
        stored stays and `publish` raises QueueFull; "keep-last", all but the newest; "thin-out", every second one where
        they lie closest, again and again, so what stays covers all the time. What went is counted, and the gateway
        hears how much. An outbox in RAM makes `publish` wait.
        """
        self._check_declaration("channel", name, [str(entry[1]) for entry in self._channels])
        if len(self._channels) == wire.MAX_CHANNELS:
            raise LocalError("channel", "at most " + str(wire.MAX_CHANNELS))
        if len(unit.encode()) > wire.MAX_UNIT:
            raise LocalError("channel " + name, "a unit has at most " + str(wire.MAX_UNIT) + " bytes")
        if len(type) != 1 or type not in manifest.TYPES:
            raise LocalError("channel " + name, "its type is one of f i b s x a, got " + repr(type))
        if when_full not in POLICIES:
            raise LocalError("channel " + name, "when_full is one of " + ", ".join(POLICIES))
        taken = [entry[0] for entry in self._channels]
        if number is None:
            number = 0
            while number in taken:
                number += 1
        if number in taken or not 0 <= number <= 255:
            raise LocalError("channel " + name, "its number is from 0 to 255 and its own, got " + str(number))
        self._channels.append([number, name, unit, type, period_s])
        if when_full != POLICIES[0]:
            self._policies[number] = POLICIES.index(when_full)
        node: Json = self
        return Channel(node, number, name, type)

    def command(self, name: str, arguments: "str | None" = None, **one: str) -> "Callable[[Handler], Handler]":
        """Decorate a function, async or not, that carries out a command and returns its result.

        `arguments`: names and types in order, `"r:i g:i name:s?"`, where `?` marks one that may be left out; or one
        of them as a keyword, `on="b"`. Without, they are read from the function where the runtime can.
        Dicts have no order on a board, so several keywords could not be told apart by position.
        """
        self._check_declaration("command", name, [command.name for command in self._commands.values()])
        if len(self._commands) == wire.MAX_COMMANDS:
            raise LocalError("command", "at most " + str(wire.MAX_COMMANDS))
        if len(one) > 1 or (one and arguments is not None):
            raise LocalError("command " + name, 'declare several arguments in one text: "r:i g:i b:i"')
        declared = None if arguments is None else commands.parse(arguments)
        for argument, type in one.items():
            declared = commands.parse(argument + ":" + type)

        def decorate(handler: "Handler") -> "Handler":
            known = self.port.signature(handler) if declared is None else declared
            number = len(self._commands)
            self._commands[number] = commands.Command(number, name, handler, known)
            return handler

        return decorate

    def every(self, seconds: float) -> "Callable[[Handler], Handler]":
        """Decorate a function, async or not, that runs so often. What it raises is logged and counted."""

        def decorate(handler: "Handler") -> "Handler":
            self._periodic.append((seconds, handler))
            return handler

        return decorate

    def _check_declaration(self, kind: str, name: str, names: "list[str]") -> None:
        if self._is_closed:
            raise LocalError(kind + " " + name, "the node has started; declare it before")
        manifest.check_token(kind, name)
        if name in names:
            raise LocalError(kind + " " + name, "declared twice")
