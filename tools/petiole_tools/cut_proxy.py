"""A TCP proxy that can cut and freeze what passes, to show and test what a bad link does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

_CHUNK = 64 * 1024


class CutProxy:
    """Listens on 127.0.0.1 and forwards every connection to the first of `targets` that accepts it.

    `cut` resets all connections and refuses new ones; `freeze` keeps them open and passes nothing, like a router that
    forgot them; `restore` ends both. `bytes_total` counts what passed in either direction.
    """

    def __init__(self, targets: Sequence[tuple[str, int]], *, port: int = 0, delay_s: float = 0.0) -> None:
        self.targets = list(targets)
        self.port = port
        self.delay_s = delay_s
        self.bytes_total = 0
        self.connections_total = 0
        self._open = True
        self._cuts = 0
        self._flow = asyncio.Event()
        self._flow.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; `port` is known afterwards."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End the listener and all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()
        self._flow.set()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset everything and refuse new connections."""
        self._open = False
        self._cuts += 1
        for writer in tuple(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Pass nothing, close nothing, go on accepting: a black hole."""
        self._flow.clear()

    def restore(self) -> None:
        """Be a good link again; what a freeze held back is passed on."""
        self._open = True
        self._flow.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections_total += 1
        cuts = self._cuts
        onward = await self._dial() if self._open else None
        if onward is None or cuts != self._cuts:  # what was being set up is cut, too
            for each in (writer, *(onward or ())[1:]):
                each.transport.abort()
            return
        far_reader, far_writer = onward
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            for each in (writer, far_writer):
                each.transport.abort()
            self._writers -= {writer, far_writer}

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for host, port in self.targets:
            try:
                return await asyncio.open_connection(host, port)
            except OSError:
                continue
        return None

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                await self._flow.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                self.bytes_total += len(data)
                await writer.drain()
        except OSError:
            return  # the other side of a cut
        finally:
            writer.transport.abort()
