"""Carries out commands: those that somebody waits for, and those that waited in a mailbox."""

import asyncio

from petiole import cbor, wire
from petiole.errors import QueueFull
from petiole_node.errors import BadArguments, describe

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole.endpoint import NodeEndpoint
    from petiole_node.commands import Command
    from petiole_node.contracts import Json, Port

_SHORTAGE_S = 1  # a whole number: waiting so long takes no memory
# How often a result that finds no memory is said anew: eight commands end beside each other within a moment, and what
# they needed is free then. A wake is not over as long as one waits, so it is not for long.
_RESULT_TRIES = 3


class Execution:
    """`wake()`: there is something to say; `count(reason)` and `log(level, text)` say what goes wrong."""

    def __init__(
        self,
        endpoint: "NodeEndpoint",
        commands: "dict[int, Command]",
        port: "Port",
        wake: "Callable[[], None]",
        count: "Callable[[str], None]",
        log: "Callable[[int, str], None]",
    ) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.on_result: Callable[[], None] | None = None  # an item of mail has ended
        self._again: list[asyncio.Task[None]] = []
        self._endpoint = endpoint
        self._commands = commands
        self._port = port
        self._wake = wake
        self._count = count
        self._log = log

    def begin(self, event: "Json") -> None:
        """Carry out what a "command" or "mail" event says. Raises MemoryError if there is not even enough to refuse it:
        then nothing has happened."""
        place: Json = None  # there is one before there is a task
        try:
            self.tasks.append(place)
            try:
                self.tasks[-1] = asyncio.create_task(self._execute(event))
            except MemoryError:
                self.tasks.pop()
                raise
        except MemoryError:
            if not self._refuse(event, False):
                raise

    def is_redelivered(self) -> bool:
        """Whether the command that is being carried out may have been begun before."""
        return asyncio.current_task() in self._again

    def interrupt(self) -> None:
        """The node sleeps: commands are answered so, items of mail come again."""
        for task in self.tasks:
            task.cancel()
        for id in list(self._endpoint.executing):
            self._endpoint.reply(id, wire.NOT_NOW, "the node sleeps")
        self._endpoint.mail.interrupt()

    async def _execute(self, event: "Json") -> None:
        number = event[2]
        task: Json = asyncio.current_task()
        has_ended = False
        try:
            if len(event) > 4 and event[4]:
                self._again.append(task)
            status, result = await self._call(number, event[3])
            has_ended = True
            try:
                cbor.encode(result)
            except (TypeError, ValueError) as error:
                status, result = self._failed(number, "result: " + describe(error))
            self._answer(event, status, result)
        except (MemoryError, QueueFull):
            tries = _RESULT_TRIES if has_ended else 0
            while tries:
                self._port.use_reserve()  # what a result needs is less
                try:
                    self._answer(event, status, result)
                    break
                except (MemoryError, QueueFull):
                    tries -= 1
                    await asyncio.sleep(_SHORTAGE_S)
            # One command too many must not take the node down; whoever asked hears so, however long it takes.
            while not tries and not self._refuse(event, has_ended):  # noqa: ASYNC110 - memory is no event
                await asyncio.sleep(_SHORTAGE_S)
        finally:
            self.tasks.remove(task)
            if task in self._again:
                self._again.remove(task)

    def _answer(self, event: "Json", status: int, result: object) -> None:
        """Say how it ended; may be called again."""
        if event[0] == "mail":
            self._endpoint.finish(event[1], status, result)
            if self.on_result is not None:
                self.on_result()
        else:
            self._endpoint.reply(event[1], status, result)
        self._wake()

    def _refuse(self, event: "Json", has_ended: bool) -> bool:
        """Out of memory, before or after the handler has ended. False: there is not even enough to say so."""
        try:
            self._count("memory")
            if event[0] != "mail":
                self._endpoint.reply(event[1], wire.NOT_NOW, "out of memory")
            elif has_ended:
                self._endpoint.finish(event[1], wire.TOO_LARGE, "result")
            else:
                self._endpoint.mail.forget(event[1])
        except (MemoryError, QueueFull):
            return False
        self._wake()
        return True

    async def _call(self, number: "Json", arguments: "Json") -> "tuple[int, object]":
        command = self._commands.get(number) if isinstance(number, int) else None
        if command is None:
            return wire.NOT_FOUND, "no such command"
        try:
            result = command.call(arguments)
            if self._port.is_waitable(result):
                result = await result  # type: ignore[misc]
            return wire.OK, result
        except BadArguments as error:
            return wire.BAD_ARGUMENTS, describe(error)
        except Exception as error:
            return self._failed(number, describe(error))

    def _failed(self, number: int, text: str) -> "tuple[int, str]":
        self._count("command_failed")
        self._log(40, "command " + self._commands[number].name + ": " + text)
        return wire.HANDLER_FAILED, text
