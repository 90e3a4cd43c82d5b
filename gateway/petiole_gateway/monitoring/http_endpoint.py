"""A little HTTP, enough for scrapers and probes: GET and HEAD of a few pages, one answer per connection.

Whoever connects may be slow or hostile: the head of a request has a size and a time, connections have a number, and
what is not read in time is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from ..hub.ports import Logger

# Prometheus sends some 300 bytes; a browser with cookies of other services on this name some thousands.
MAX_HEAD = 8192
# Whole exchange. A page is some 20 kB: even a modem takes that in 5 s. Prometheus gives up after 10 s.
EXCHANGE_S = 5.0
# Two scrapers, a probe and a person; each costs a descriptor and its head.
MAX_CONNECTIONS = 16


class EndpointError(Exception):
    """The endpoint cannot be opened."""

    def __init__(self, address: str, reason: str, hint: str) -> None:
        super().__init__(f"http {address}: {reason}")
        self.address = address
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page says now."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


Page = Callable[[], Awaitable[Answer]]


class HttpEndpoint:
    """`pages` by path; the time of one is a part of the exchange's."""

    def __init__(self, pages: Mapping[str, Page], logger: Logger) -> None:
        self.refused_total = 0  # connections beyond the bound, requests that were none, and those too slow
        self._pages = dict(pages)
        self._logger = logger
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def open(self, host: str, port: int) -> None:
        """Bind and listen. EndpointError."""
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_HEAD)
        except OSError as error:
            hint = "is another gateway running? give another address in [metrics] listen"
            raise EndpointError(f"{host}:{port}", (error.strerror or str(error)).lower(), hint) from error
        self._logger.info("http_opened", host=host, port=self.port)

    @property
    def port(self) -> int:
        """The port that is bound; 0 when closed."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server and self._server.sockets else 0

    async def close(self) -> None:
        """Listen no more and end what is open."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        # asyncio reports a task that is cancelled as a defect; one whose connection is gone ends by itself.
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MAX_CONNECTIONS:
            self.refused_total += 1
            writer.transport.abort()
            return
        self._open[task] = writer
        try:
            async with asyncio.timeout(EXCHANGE_S):
                await self._exchange(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            self.refused_total += 1
        finally:
            del self._open[task]
            writer.transport.abort()  # what was flushed has left; what was not, nobody reads

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_head = False
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            answer = self._refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            method, path = _request(head)
            is_head = method == b"HEAD"
            answer = await self._answer(method, path)
        lines = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET, HEAD")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if is_head else answer.body))
        await writer.drain()
        writer.write_eof()
        # The other end closes when it has all; an abort before that could take the end of the page away.
        while await reader.read(MAX_HEAD):
            pass

    async def _answer(self, method: bytes, path: str | None) -> Answer:
        if path is None:
            return self._refusal(HTTPStatus.BAD_REQUEST)
        if method not in (b"GET", b"HEAD"):
            return self._refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        page = self._pages.get(path)
        if page is None:
            return self._refusal(HTTPStatus.NOT_FOUND, "there are: " + " ".join(sorted(self._pages)))
        try:
            return await page()
        except Exception as error:
            # A defect of a page must not end what carries frames; and it must be seen.
            self._logger.error("page_failed", path=path, error=repr(error))
            return self._refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the gateway's log says more")

    def _refusal(self, status: HTTPStatus, more: str = "") -> Answer:
        self.refused_total += 1
        return Answer(f"{status.phrase}\n{more}\n".encode(), "text/plain; charset=utf-8", status)


def _request(head: bytes) -> tuple[bytes, str | None]:
    """Method and path without a query; None for the path of what is no request."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
        return b"", None
    with suppress(UnicodeDecodeError):
        return words[0], words[1].partition(b"?")[0].decode("ascii")
    return b"", None
