"""A node as an application sees it: channels, commands, requests, time and log."""

import asyncio
import sys

from petiole import manifest, wire
from petiole.endpoint import NodeEndpoint
from petiole.errors import LocalError, QueueFull
from petiole.join import Joiner
from petiole.outbox import Outbox
from petiole_node import links
from petiole_node import port as ports
from petiole_node.carrier import Carrier
from petiole_node.channel import Channel, Pending
from petiole_node.declarations import Declarations
from petiole_node.errors import RequestError, describe
from petiole_node.execution import Execution
from petiole_node.log import LEVELS, Log
from petiole_node.periodic import repeat

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import Outbox as AnyOutbox
    from petiole.items import Item, Measured
    from petiole_node.contracts import Handler, Json, Port
    from petiole_node.cycle import Cycle
    from petiole_node.store import Store

VERSION = "0.1.0"
_LOOK_AGAIN_S = 1  # a whole number: waiting so long takes no memory
_OUTBOX_BYTES = 65536  # where a node sleeps and nobody has said otherwise
_ASK_TIME_S = 3600  # a bad crystal is 0.4 s off by then


class Node(Declarations):
    """`settings`: a dict, or the path of a JSON file. `firmware`: version of the application, for people.

    Channels and commands are declared first; then `run` (or `start`, inside a program with an event loop of its own).
    Raises SettingsError. `dropped`: what was lost or refused, by reason.
    """

    def __init__(
        self, settings: "str | dict[str, Json]" = "petiole.json", port: "Port | None" = None, firmware: str = VERSION
    ) -> None:
        super().__init__(port or ports.choose())
        # What compiling the application left lies everywhere: what stays, the reserve first, is put where it was.
        self.port.settle()
        self.settings = _check(settings)
        self.name: str = self.settings["name"]
        self.port.use_folder(self.settings["folder"])
        self.dropped: dict[str, int] = {}
        self.endpoint: NodeEndpoint | None = None
        self.carrier: Carrier | None = None
        self._log = Log(self.settings["level"])
        self._execution: Execution | None = None
        self._store: Store | None = None
        self._cycle: Cycle | None = None
        self._firmware = firmware
        self._boots = self._reset_reason = 0  # known when it is known whether this was a sleep
        self._started_at = self.port.now()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[Item, asyncio.Event] = {}  # for the end of an item
        self._answers: dict[Item, tuple[object, ...]] = {}
        self._gate = asyncio.Lock()  # readings keep their order while the outbox is full
        self._room = asyncio.Event()
        self.command("ping", "")(self._ping)
        self.command("info", "")(self._info)

    # Running -----------------------------------------------------------------------------------------------

    def run(self, main: "Handler | None" = None, period_s: "int | None" = None) -> None:
        """Run for ever; `main`, an async function, beside. Ctrl-C and what `main` raises come out.

        `period_s` makes a sleepy node: `main` runs in each wake, and when it has returned and everything is said and
        answered, the node sleeps. It may return the seconds until the next wake, if they are not the period. What has
        not returned when the wake has had its time (`awake_ms`) is cancelled; what there is to say then has as long
        again, and the node sleeps.
        """
        try:
            asyncio.run(self._run(main, period_s))
        except KeyboardInterrupt:
            self.port.interrupted()
            raise

    async def _run(self, main: "Handler | None", period_s: "int | None") -> None:
        await self.start(period_s)
        try:
            if self._cycle is not None and (period_s or main is None):
                self._tasks.append(asyncio.create_task(self._ready("run")[1].guard(self._cycle.run(main))))
            elif main is not None:
                self._tasks.append(asyncio.create_task(self._ready("run")[1].guard(main())))
            await self._tasks[0]
        finally:
            await self.stop()

    def awake(self) -> "Cycle":
        """`async with node.awake() as wake:`, one wake of a node with `period_s` in its settings, then it sleeps; for
        `wake.next_s` seconds if that is set. The body is cancelled when the wake has had its time (`awake_ms`), and the
        program goes on behind it. An exception ends the wake without a sleep."""
        if self._cycle is None:
            raise LocalError("awake", "only a node with period_s sleeps")
        return self._cycle

    def is_redelivered(self) -> bool:
        """In a command's handler: whether it may have been begun before, and ended by a sleep or a reset."""
        return self._execution is not None and self._execution.is_redelivered()

    async def start(self, period_s: "int | None" = None) -> None:
        """Join the gateway, and keep at it, in the background."""
        if self.endpoint is not None:
            raise LocalError("start", "the node has started already")
        self._is_closed = True
        entries = [self._commands[number].entry() for number in range(len(self._commands))]
        period_s = self._rest(period_s)
        self._boots = self.port.boot_count()
        self._reset_reason = self.port.reset_reason()
        power: list[int] = [1 if period_s else 0, period_s]
        data = manifest.encode(self._firmware, list(self._channels), list(entries), power)
        joiner = Joiner(self.port.aead, self.settings["key"])
        outbox = self._open_outbox()
        self.endpoint = NodeEndpoint(joiner, self.port.random, data, outbox, self._boots & 255, self._reset_reason)
        used = [links.create(settings, self.port) for settings in self.settings["links"]]
        self.port.settle()
        write = self._log.write
        self.carrier = Carrier(self.endpoint, used, self.port, self._dispatch, write)
        self._execution = Execution(self.endpoint, self._commands, self.port, self.carrier.wake, self._count, write)
        self._log.attach(self.endpoint, self.carrier)
        if self._store is not None:
            self._store.attach(self.endpoint, self.carrier.wake)
        if self._cycle is not None:
            self._cycle.attach(self.endpoint, self.carrier, self._execution, self._store)
        else:
            self.every(_ASK_TIME_S)(self._ask_time)
        for warning in self.settings["warnings"]:
            self._log.write(30, warning)
        crash = self.port.take_crash()
        if crash:
            # A log record is short, and the end of a traceback says what and where.
            self._log.write(40, "restarted after: " + crash[-120:])
        if self.settings["watchdog_s"]:
            self.port.start_watchdog(self.settings["watchdog_s"])
        self._tasks.append(asyncio.create_task(self.carrier.run()))
        if self._store is not None:
            self._tasks.append(asyncio.create_task(self._store.run()))
        for seconds, handler in self._periodic:
            self._tasks.append(asyncio.create_task(repeat(seconds, handler, self.port, self._count, write)))

    def _rest(self, period_s: "int | None") -> int:
        """The period of a sleepy node, of which what sleeps is imported here; 0 of one that stays awake."""
        period: int = self.settings["period_s"] if period_s is None else period_s
        if period or self.settings["outbox_bytes"]:
            self.port.settle()  # while there is room in one piece, before more modules are loaded
        if period:
            from petiole_node.cycle import Cycle  # noqa: PLC0415 - sleepy nodes only

            self._cycle = Cycle(self.port, self.settings, period)
            if self.settings["sleep"] == "deep" and not self.settings["outbox_bytes"]:
                self.settings["outbox_bytes"] = _OUTBOX_BYTES  # RAM does not outlive a sleep
        return period

    def _open_outbox(self) -> "AnyOutbox":
        if not self.settings["outbox_bytes"]:
            return Outbox(self.settings["outbox"])
        from petiole_node.store import Store  # noqa: PLC0415 - nodes with a durable outbox only

        retained = None if self._cycle is None else self._cycle.sleeper.outbox
        self._store = Store(self.port, self.settings, self._boots, retained, self._policies, self._stored)
        return self._store.outbox

    async def stop(self) -> None:
        """Stop everything that `start` began. What the outbox holds is lost with the node."""
        for task in self._tasks + ([] if self._execution is None else self._execution.tasks):
            task.cancel()
        self._tasks = []
        await asyncio.sleep(0)

    def _ready(self, what: str) -> "tuple[NodeEndpoint, Carrier]":
        if self.endpoint is None or self.carrier is None:
            raise LocalError(what, "the node has not started: `node.run()` or `await node.start()`")
        return self.endpoint, self.carrier

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
            raise LocalError(channel.name, describe(error))
        if self._store is not None:
            self._store.look()
        carrier.wake()
        if wait:
            await self._durable(item)
        return Pending(self, item)

    def _accept(self, channel: Channel, value: object, taken: int) -> "Measured | None":
        """Put a reading into the outbox. None: it is full, or memory is; both get better with what leaves it."""
        endpoint = self._ready("publish")[0]
        waiting = len(endpoint.outbox.items)
        is_full = self._store is None and waiting >= self.settings["outbox"]
        if is_full or (waiting and not self.port.has_room()):
            return None
        try:
            return endpoint.publish(channel.number, value, taken)
        except QueueFull:
            if self._store is not None:
                self._store.press()
            return None
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

    async def _durable(self, item: "Measured") -> None:
        """Raises QueueFull if a durable outbox has thrown it away."""
        while not (item.is_done or item.outcome):
            try:
                if self._cycle is not None:
                    self._cycle.speak()
                event = self._waiting.get(item)
                if event is None:
                    event = self._waiting[item] = asyncio.Event()
                await event.wait()
            except MemoryError:
                await asyncio.sleep(_LOOK_AGAIN_S)  # the reading is on its way all the same
        if item.outcome == "refused":
            raise QueueFull("outbox", "flash is full, or cannot be written")

    def _stored(self, items: "list[Measured]") -> None:
        for item in items:
            self._finish(item)
        self._room.set()

    # Requests ----------------------------------------------------------------------------------------------

    async def request(self, subject: str, arguments: object = None, timeout_s: float = 5) -> object:
        """Ask a NATS service and return its answer. Raises RequestError, or LocalError for unfit arguments."""
        endpoint, carrier = self._ready("request")
        event = asyncio.Event()
        try:
            item = endpoint.request(subject, arguments, int(timeout_s * 1000), self.port.now())
        except QueueFull as error:
            raise RequestError(wire.TOO_MANY, error.why)
        except (TypeError, ValueError) as error:
            raise LocalError("arguments", describe(error))
        if self._cycle is not None:
            self._cycle.speak()
        carrier.wake()
        self._waiting[item] = event
        try:
            await event.wait()
            status, value = self._answers[item]
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
        self._log.write(LEVELS[level], text)

    def _ask_time(self) -> None:
        if self.endpoint is not None and self.carrier is not None and self.endpoint.clock.offset is not None:
            self.endpoint.ask_time(self.port.now())
            self.carrier.wake()

    # Events ------------------------------------------------------------------------------------------------

    def _dispatch(self, event: "tuple[object, ...]") -> None:
        """Deal with an event. Raises MemoryError; then it comes again, and nothing is done twice that matters."""
        kind = event[0]
        if kind == "durable":
            self._finish(event[1])
            self._room.set()
            if self._store is not None:
                self._store.look()
        elif kind in ("command", "mail") and self._execution is not None:
            self._execution.begin(event)
        elif kind == "memory":
            self._count("memory")
        elif kind == "reply":
            self._answer(event[1], event[2], event[3])
        elif kind == "failed" and event[2] == "timed_out":
            self._answer(event[1], wire.TIMED_OUT, "timed out")
        elif kind == "failed":
            self._answer(event[1], wire.NOT_NOW, "the session ended: the outcome is unknown")
        elif kind == "online":
            self.port.confirm()
            if self._store is not None:
                self._store.look()
            if self._cycle is not None:
                self._cycle.joined()
            self._log.joined()
            self._log.write(20, "online")
        elif kind in ("awake", "policy") and self._cycle is not None:
            self._cycle.hear(event)
        elif kind == "refused":
            self._count("refused")
            self._log.write(30, "refused: " + _REFUSALS.get(event[1], "reason " + str(event[1])))

    def _finish(self, item: "Json") -> None:
        event = self._waiting.pop(item, None)
        if event is not None:
            event.set()

    def _answer(self, item: "Json", status: object, value: object) -> None:
        if item in self._waiting:
            self._answers[item] = (status, value)
            self._finish(item)

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

    checked = settings.check(source)
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
