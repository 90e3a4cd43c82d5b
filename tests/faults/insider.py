"""A device that has a key and a session, and puts into its frames what no node would."""

from __future__ import annotations

import asyncio
from collections import Counter

from petiole import frame as frames
from petiole import wire

from ..gateway.whole import UdpNode

# Slower than the gateway reads, so that the socket's buffer loses nothing and every frame can be counted.
_PER_SECOND = 400
_SIZE = wire.FRAGMENT_SIZE


def _fragment(message: int, index: int, total: int, size: int, content: int = 0) -> bytes:
    return bytes((wire.FRAGMENT, message, index)) + total.to_bytes(2, "big") + bytes((content,)) * size


class Insider(UdpNode):
    """`send_bad` sends sets of every kind; `reasons` is what must be counted for them. As a node it goes on as any."""

    # Plaintexts of one frame each, by what is wrong with them. The numbers of messages are far from those of the node.
    MALFORMED_FRAGMENTS = (
        _fragment(200, 0, 0, 0),
        _fragment(201, 0, wire.MAX_MESSAGE + 1, _SIZE),
        _fragment(202, 0, 0xFFFF, _SIZE),
        _fragment(203, 3, 500, _SIZE),  # there are 0, 1 and 2
        _fragment(204, 255, wire.MAX_MESSAGE, _SIZE),
        _fragment(205, 0, 500, _SIZE - 1),
        _fragment(206, 1, 300, 300 - _SIZE + 1),
    )
    MALFORMED_RECORDS = (
        bytes((wire.FRAGMENT,)),
        bytes((wire.FRAGMENT, 207, 0, 1)),
        _fragment(208, 0, 100, 100, wire.FRAGMENT),  # a fragment in a message
    )

    def __init__(self, key: bytes, port: int, *, seed: int = 1) -> None:
        super().__init__(key, port, seed=seed)
        self.reasons: Counter[str] = Counter()
        self.truncated_total = 0

    def _send(self, plaintext: bytes) -> None:
        session = self.endpoint.session
        assert session is not None
        counter = session.send_counter
        session.send_counter += 1
        self._sock.send(frames.seal_data(session.keys, counter, plaintext, session.address, True))

    async def send_bad(self, rounds: int) -> None:
        for number in range(rounds):
            for plaintext in self.MALFORMED_FRAGMENTS:
                await self._send_counted(plaintext, "malformed_fragment")
            for plaintext in self.MALFORMED_RECORDS:
                await self._send_counted(plaintext, "malformed_record")
            # The second part of a message of another length; and sets of which the rest never comes.
            await self.send_truncated(210 + number % 20)
            await self._send_counted(_fragment(210 + number % 20, 1, 500, _SIZE), "malformed_fragment")

    async def _send_counted(self, plaintext: bytes, reason: str) -> None:
        self._send(plaintext)
        self.reasons[reason] += 1
        await asyncio.sleep(1 / _PER_SECOND)

    async def send_truncated(self, message: int) -> None:
        self._send(_fragment(message, 0, wire.MAX_MESSAGE, _SIZE))
        self.truncated_total += 1
        await asyncio.sleep(1 / _PER_SECOND)
