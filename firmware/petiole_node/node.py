"""A node as an application sees it: channels, commands, requests, time and log."""

import asyncio
import sys

from petiole import cbor, manifest, wire
from petiole.endpoint import NodeEndpoint
from petiole.errors import LocalError, QueueFull
from petiole.join import Joiner
from petiole.outbox import Outbox
from petiole_node import commands, links
from petiole_node import port as ports
from petiole_node.carrier import Carrier
from petiole_node.channel import Channel, Pending
from petiole_node.errors import BadArguments, RequestError

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole.items import Item, Measured
    from petiole_node.contracts import Handler, Json, Port

VERSION = "0.1.0"
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_UNSENT = 6
_LOOK_AGAIN_S = 0.1
_ASK_TIME_S = 3600  # a bad crystal is 0.4 s off by then


class Node:
    """`settings`: a dict, or the path of a JSON file. `firmware`: version of the application, for people.

    Channels and commands are declared first; then `run` (or `start`, inside a program with an event loop of its own).
    Raises SettingsError. `dropped`: what was lost or refused, by reason.
    """

    def __init__(
        self, settings: "str | dict[str, Json]" = "petiole.json", port: "Port | None" = None, firmware: str = VERSION
    ) -> None:
        self.settings = _check(settings)
        self.name: str = self.settings["name"]
        self.port: Port = port or ports.choose()
        self.port.use_folder(self.settings["folder"])
        self.dropped: dict[str, int] = {}
        self.endpoint: NodeEndpoint | None = None
        self.carrier: Carrier | None = None
        self._firmware = firmware
        self._boots = self.port.boot_count()
        self._reset_reason = self.port.reset_reason()
        self._started_at = self.port.now()
        self._channels: list[list[object]] = []
        self._commands: dict[int, commands.Command] = {}
        self._periodic: list[tuple[float, Handler]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[Item, asyncio.Event] = {}  # for the end of an item
        self._answers: dict[Item, tuple[object, ...]] = {}
        self._gate = asyncio.Lock()  # readings keep their order while the outbox is full
        self._room = asyncio.Event()
        self._unsent: list[tuple[int, str]] = []  # lines of the log
        self.command("ping", "")(self._ping)
        self.command("info", "")(self._info)

    # Declaring ---------------------------------------------------------------------------------------------

    def channel(
        self, name: str, unit: str = "", period_s: int = 0, type: str = "f", number: "int | None" = None
    ) -> Channel:
        """Declare a stream of readings. `type`: f number, i integer, b boolean, s text, x bytes, a any."""
        self._check_declaration("channel", name, [str(entry[1]) for entry in self._channels])
        if len(self._channels) == wire.MAX_CHANNELS:
            raise LocalError("channel", "at most " + str(wire.MAX_CHANNELS))
        if len(unit.encode()) > wire.MAX_UNIT:
            raise LocalError("channel " + name, "a unit has at most " + str(wire.MAX_UNIT) + " bytes")
        if len(type) != 1 or type not in manifest.TYPES:
            raise LocalError("channel " + name, "its type is one of f i b s x a, got " + repr(type))
        taken = [entry[0] for entry in self._channels]
        if number is None:
            number = 0
            while number in taken:
                number += 1
        if number in taken or not 0 <= number <= 255:
            raise LocalError("channel " + name, "its number is from 0 to 255 and its own, got " + str(number))
        self._channels.append([number, name, unit, type, period_s])
        return Channel(self, number, name, type)

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
        if self.endpoint is not None:
            raise LocalError(kind + " " + name, "the node has started; declare it before")
        manifest.check_token(kind, name)
        if name in names:
            raise LocalError(kind + " " + name, "declared twice")

    # Running -----------------------------------------------------------------------------------------------

    def run(self, main: "Handler | None" = None) -> None:
        """Run for ever; `main`, an async function, beside. Ctrl-C and what `main` raises come out."""
        try:
            asyncio.run(self._run(main))
        except KeyboardInterrupt:
            self.port.interrupted()
            raise

    async def _run(self, main: "Handler | None") -> None:
        await self.start()
        try:
            if main is not None:
                self._tasks.append(asyncio.create_task(self._ready("run")[1].guard(main())))
            await self._tasks[0]
        finally:
            await self.stop()

    async def start(self) -> None:
        """Join the gateway, and keep at it, in the background."""
        if self.endpoint is not None:
            raise LocalError("start", "the node has started already")
        entries = [self._commands[number].entry() for number in range(len(self._commands))]
        data = manifest.encode(self._firmware, list(self._channels), list(entries), [0, 0])
        joiner = Joiner(self.port.aead, self.settings["key"])
        outbox = Outbox(self.settings["outbox"])
        self.endpoint = NodeEndpoint(joiner, self.port.random, data, outbox, self._boots & 255, self._reset_reason)
        used = [links.create(settings, self.port) for settings in self.settings["links"]]
        self.port.settle()
        self.carrier = Carrier(self.endpoint, used, self.port, self._dispatch, self._log)
        for warning in self.settings["warnings"]:
            self._log(30, warning)
        crash = self.port.take_crash()
        if crash:
            # A log record is short, and the end of a traceback says what and where.
            self._log(40, "restarted after: " + crash[-120:])
        if self.settings["watchdog_s"]:
            self.port.start_watchdog(self.settings["watchdog_s"])
        self._tasks.append(asyncio.create_task(self.carrier.run()))
        self.every(_ASK_TIME_S)(self._ask_time)
        for seconds, handler in self._periodic:
            self._tasks.append(asyncio.create_task(self._repeat(seconds, handler)))

    async def stop(self) -> None:
        """Stop everything that `start` began. What the outbox holds is lost with the node."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        await asyncio.sleep(0)

    def _ready(self, what: str) -> "tuple[NodeEndpoint, Carrier]":
        if self.endpoint is None or self.carrier is None:
            raise LocalError(what, "the node has not started: `node.run()` or `await node.start()`")
        return self.endpoint, self.carrier

    async def _repeat(self, seconds: float, handler: "Handler") -> None:
        while True:
            started = self.port.now()
            try:
                result = handler()
                if self.port.is_waitable(result):
                    await result
            except MemoryError:
                self._count("memory")
            except Exception as error:
                self._count("task_failed")
                self._log(40, "every " + str(seconds) + " s: " + _text(error))
            await asyncio.sleep(max(0.0, seconds - (self.port.now() - started) / 1000))

    # Readings ----------------------------------------------------------------------------------------------

    async def _publish(self, channel: Channel, value: object, confirmed: bool, wait: bool) -> "Pending | bool":
        carrier = self._ready("publish")[1]
        taken = self.port.now()
        try:
            if not confirmed:
                return self._publish_live(channel, value, taken)
            async with self._gate:
                item = None
                while item is None:
                    item = self._accept(channel, value, taken)
                    if item is None:
                        self._room.clear()
                        await self._room.wait()
        except (TypeError, ValueError) as error:
            raise LocalError(channel.name, _text(error))
        carrier.wake()
        if wait:
            await self._durable(item)
        return Pending(self, item)

    def _accept(self, channel: Channel, value: object, taken: int) -> "Measured | None":
        """Put a reading into the outbox. None: it is full, or memory is; both get better with what leaves it."""
        endpoint = self._ready("publish")[0]
        waiting = len(endpoint.outbox.items)
        if waiting >= self.settings["outbox"] or (waiting and not self.port.has_room()):
            return None
        try:
            return endpoint.publish(channel.number, value, taken)
        except MemoryError:
            self._count("memory")
            if not waiting:
                raise
            return None

    def _publish_live(self, channel: Channel, value: object, taken: int) -> bool:
        endpoint, carrier = self._ready("publish")
        try:
            endpoint.publish(channel.number, value, taken, False)
        except QueueFull:
            self._count("live")
            return False
        carrier.wake()
        return True

    async def _durable(self, item: "Item") -> None:
        while not item.is_done:
            try:
                event = self._waiting.get(item)
                if event is None:
                    event = self._waiting[item] = asyncio.Event()
                await event.wait()
            except MemoryError:
                await asyncio.sleep(_LOOK_AGAIN_S)  # the reading is on its way all the same

    # Requests ----------------------------------------------------------------------------------------------

    async def request(self, subject: str, arguments: object = None, timeout_s: float = 5) -> object:
        """Ask a NATS service and return its answer. Raises RequestError, or LocalError for unfit arguments."""
        endpoint, carrier = self._ready("request")
        try:
            item = endpoint.request(subject, arguments, int(timeout_s * 1000), self.port.now())
        except QueueFull as error:
            raise RequestError(wire.TOO_MANY, error.why)
        except (TypeError, ValueError) as error:
            raise LocalError("arguments", _text(error))
        carrier.wake()
        event = self._waiting[item] = asyncio.Event()
        try:
            await event.wait()
            status, value = self._answers.get(item, (wire.NOT_NOW, "out of memory"))
        finally:
            self._waiting.pop(item, None)
            self._answers.pop(item, None)
        if status != wire.OK:
            raise RequestError(status if isinstance(status, int) else wire.HANDLER_FAILED, str(value))
        return value

    # Time and log ------------------------------------------------------------------------------------------

    def time(self) -> "int | None":
        """The gateway's time in ms since 1970, or None before the first join."""
        return None if self.endpoint is None else self.endpoint.clock.time(self.port.now())

    def log(self, text: str, level: str = "info") -> None:
        """Say something to people: debug, info, warning or error."""
        if level not in LEVELS:
            raise LocalError("level", "one of debug, info, warning, error, got " + repr(level))
        self._log(LEVELS[level], text)

    def _log(self, level: int, text: str) -> None:
        if level < self.settings["level"]:
            return
        for line in text.split("\n"):
            # On a console a line that begins with this mark would be a frame.
            print(" " + line if line.startswith("~") else line)
        if self.carrier is not None and self.carrier.is_on_console():
            return
        if self.endpoint is None or self.carrier is None or self.endpoint.session is None:
            self._unsent = self._unsent[-_UNSENT + 1 :]
            self._unsent.append((level, text))
        else:
            self.endpoint.log(level, text)
            self.carrier.wake()

    def _log_unsent(self) -> None:
        """What was said before there was anybody to hear it."""
        unsent, self._unsent = self._unsent, []
        if self.endpoint is not None and self.carrier is not None and not self.carrier.is_on_console():
            for level, text in unsent:
                self.endpoint.log(level, text)

    def _ask_time(self) -> None:
        if self.endpoint is not None and self.carrier is not None and self.endpoint.clock.offset is not None:
            self.endpoint.ask_time()
            self.carrier.wake()

    # Events ------------------------------------------------------------------------------------------------

    def _dispatch(self, events: "list[tuple[object, ...]]") -> None:
        for event in events:
            kind = event[0]
            if kind == "durable":
                self._finish(event[1])
                self._room.set()
            elif kind == "command":
                try:
                    self._tasks.append(asyncio.create_task(self._execute(event[1], event[2], event[3])))
                except MemoryError:
                    self._refuse(event[1])
            elif kind == "memory":
                self._count("memory")
                # Who waits for something that is done may not have been told.
                for item in [item for item in self._waiting if item.is_done]:  # any order
                    self._finish(item)
            elif kind == "reply":
                self._answer(event[1], event[2], event[3])
            elif kind == "failed" and event[2] == "timed_out":
                self._answer(event[1], wire.TIMED_OUT, "timed out")
            elif kind == "failed":
                self._answer(event[1], wire.NOT_NOW, "the session ended: the outcome is unknown")
            elif kind == "online":
                self._log_unsent()
                self._log(20, "online")
            elif kind == "refused":
                self._count("refused")
                self._log(30, "refused: " + _REFUSALS.get(event[1], "reason " + str(event[1])))

    def _finish(self, item: "Json") -> None:
        event = self._waiting.pop(item, None)
        if event is not None:
            event.set()

    def _answer(self, item: "Json", status: object, value: object) -> None:
        if item in self._waiting:
            self._answers[item] = (status, value)
            self._finish(item)

    async def _execute(self, id: "Json", number: "Json", arguments: "Json") -> None:
        endpoint, carrier = self._ready("command")
        try:
            status, result = await self._call(number, arguments)
            try:
                cbor.encode(result)
            except (TypeError, ValueError) as error:
                status, result = self._failed(number, "result: " + _text(error))
            endpoint.reply(id, status, result)
            carrier.wake()
        except MemoryError:
            self._refuse(id)  # one command too many must not take the node down
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.remove(task)

    def _refuse(self, id: "Json") -> None:
        endpoint, carrier = self._ready("command")
        self._count("memory")
        try:
            endpoint.reply(id, wire.NOT_NOW, "out of memory")
        except MemoryError:
            return  # whoever asked hears nothing and asks again
        carrier.wake()

    async def _call(self, number: "Json", arguments: "Json") -> "tuple[int, object]":
        command = self._commands.get(number) if isinstance(number, int) else None
        if command is None:
            return wire.NOT_FOUND, "no such command"
        try:
            result = command.call(arguments)
            if self.port.is_waitable(result):
                result = await result  # type: ignore[misc]
            return wire.OK, result
        except BadArguments as error:
            return wire.BAD_ARGUMENTS, _text(error)
        except Exception as error:
            return self._failed(number, _text(error))

    def _failed(self, number: int, text: str) -> "tuple[int, str]":
        self._count("command_failed")
        self._log(40, "command " + self._commands[number].name + ": " + text)
        return wire.HANDLER_FAILED, text

    def _count(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    # Commands of every node --------------------------------------------------------------------------------

    def _ping(self) -> "dict[str, int]":
        return {"uptime_s": (self.port.now() - self._started_at) // 1000}

    def _info(self) -> "dict[str, object]":
        endpoint, carrier = self._ready("info")
        drops: dict[str, int] = {}
        for counts in (self.dropped, endpoint.dropped, {} if carrier.link is None else carrier.link.dropped):
            for reason, count in counts.items():
                if count:
                    drops[reason] = drops.get(reason, 0) + count
        return {
            "fw": self._firmware,
            "heap_free": self.port.free_heap(),
            "uptime_s": (self.port.now() - self._started_at) // 1000,
            "reset": self._reset_reason,
            "boots": self._boots,
            "joins": endpoint.joins_total,
            "drops": drops,
        }


def _check(source: "str | dict[str, Json]") -> "dict[str, Json]":
    """The settings, checked. What checks them is needed once: on a board it gives its memory back."""
    from petiole_node import settings  # noqa: PLC0415

    checked = settings.check(source, LEVELS)
    del sys.modules["petiole_node.settings"]
    package = sys.modules["petiole_node"]
    if hasattr(package, "settings"):
        del package.settings
    return checked


_REFUSALS: "dict[object, str]" = {
    wire.REJECT_JOIN: "the gateway does not know this node, or the key is wrong",
    wire.REJECT_VERSION: "the gateway does not speak this version of the protocol",
    wire.REJECT_LATER: "the gateway takes no joins now",
}


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
