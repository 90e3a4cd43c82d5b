"""What has to know of virtual time: a client of NATS, and the gateway's clocks."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from nats.aio.client import Client

from petiole_gateway.hub.readings import timestamp
from petiole_tools.sim.virtual_loop import Expected, running

# From publishing to the PubAck, and from any request to its answer: a leaf on the same machine, at a bad moment.
ANSWER_S = 0.005
# A ping costs a round trip in real time, and a server that fails is noticed by its socket.
PING_INTERVAL_S = 120
# 2027-01-15; seconds of real time since 1970 would differ from run to run.
WALL_MS = 1_800_000_000_000


def now_ms() -> int:
    """The gateway's clock that never goes back."""
    return int(asyncio.get_running_loop().time() * 1000)


def wall_ms() -> int:
    """The gateway's time, ms since 1970."""
    return WALL_MS + now_ms()


# When a message was stored, as the server says, which lives in real time.
_TIME = re.compile(rb"(Nats-Time-Stamp: )[^\r]*")


def _virtual_time(found: re.Match[bytes]) -> bytes:
    return found[1] + timestamp(wall_ms()).encode()


class Answers:
    """Makes every answer to a client of NATS take effect `ANSWER_S` after its request."""

    def __init__(self, client: Client) -> None:
        self._loop = running()
        self._open: dict[str, Expected] = {}
        self._pings: list[Expected] = []
        self._publish = client.publish
        self._process = client._process_msg
        self._ping = client._send_ping
        self._pong = client._process_pong
        patched: Any = client
        patched.publish = self.publish
        patched._process_msg = self.process
        patched._send_ping = self.ping
        patched._process_pong = self.pong
        patched.options["ping_interval"] = PING_INTERVAL_S

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Any = None) -> None:
        if reply and not self._loop.is_real:
            self._open[reply] = self._loop.expect(ANSWER_S)
        try:
            await self._publish(subject, payload, reply=reply, headers=headers)
        except BaseException:
            expected = self._open.pop(reply, None)
            if expected is not None:
                self._loop.forget(expected)
            raise

    def expect_message(self, subject: str) -> Expected:
        """What is asked now has a message on this subject for its effect, besides its answer."""
        expected = self._open[subject] = self._loop.expect(ANSWER_S)
        return expected

    def forget(self, expected: Expected) -> None:
        """It will not come."""
        self._open = {subject: each for subject, each in self._open.items() if each is not expected}
        self._loop.forget(expected)

    async def process(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        expected = self._open.get(subject.decode())
        if expected is None or expected.is_settled:
            await self._process(sid, subject, reply, data, headers)
            return

        def deliver() -> None:
            self._open.pop(subject.decode(), None)
            task = self._process(sid, subject, reply, data, _TIME.sub(_virtual_time, headers or b""))
            try:
                task.send(None)  # it only puts the message into a queue
            except StopIteration:
                return
            raise RuntimeError("the client waits while it takes a message")

        self._loop.answer(expected, deliver)

    async def ping(self, future: Any = None) -> None:
        if not self._loop.is_real:
            self._pings.append(self._loop.expect(ANSWER_S))
        await self._ping(future)

    async def pong(self) -> None:
        await self._pong()
        if self._pings:
            self._loop.forget(self._pings.pop(0))
