"""A link that can be cut, on real sockets."""

import asyncio
import contextlib

import pytest

from petiole_tools.cut_proxy import CutProxy


class SlowProxy(CutProxy):
    """Takes its time to reach the other side."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        super().__init__(targets)
        self.is_dialling = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        onward = await super()._dial()
        self.is_dialling.set()
        await self.may_go_on.wait()
        return onward


@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_connection_that_is_being_set_up_while_the_link_is_cut_is_cut_at_both_ends(is_restored: bool) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            assert await reader.read(1) == b""
        ended.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = SlowProxy([server.sockets[0].getsockname()[:2]])
    await proxy.start()
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            await proxy.is_dialling.wait()
            proxy.cut()
            if is_restored:
                proxy.restore()
            proxy.may_go_on.set()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(1) == b""
            await ended.wait()
            writer.close()
    finally:
        await proxy.stop()
        server.close()
