"""The UDP link on the loopback interface."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import pytest

from petiole import join, manifest
from petiole.endpoint import NodeEndpoint
from petiole.outbox import Outbox
from petiole_gateway.aead import AesCcm
from petiole_gateway.hub.hub import monotonic_ms
from petiole_gateway.hub.ports import Place
from petiole_gateway.links.udp import UdpError, UdpLink

from .memory import MANIFEST, NullLogger, Site
from .real_time import until


class Inbox:
    """A link and what came over it."""

    def __init__(self) -> None:
        self.received: list[tuple[Place, bytes]] = []
        self.link = UdpLink(lambda place, frame: self.received.append((place, frame)), NullLogger())


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    await inbox.link.open("127.0.0.1", 0)
    yield inbox
    await inbox.link.close()


def client() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


async def test_a_datagram_is_a_frame_and_its_answer_goes_back(inbox: Inbox) -> None:
    with client() as sock:
        sock.sendto(b"frame", ("127.0.0.1", inbox.link.port))
        await until(lambda: inbox.received)
        place, frame = inbox.received[0]
        assert (frame, place.peer) == (b"frame", sock.getsockname())
        place.send(b"answer")
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(sock, 300), 5) == b"answer"


async def test_datagrams_of_any_size_are_passed_on_whole(inbox: Inbox) -> None:
    with client() as sock:
        for size in (0, 1, 250, 251, 9000, 60_000):
            sock.sendto(bytes(size), ("127.0.0.1", inbox.link.port))
        await until(lambda: len(inbox.received) == 6)
    assert [len(frame) for _, frame in inbox.received] == [0, 1, 250, 251, 9000, 60_000]


async def test_a_node_that_is_not_there_disturbs_nobody(inbox: Inbox) -> None:
    with client() as gone:
        nowhere = gone.getsockname()
    with client() as sock:
        for _ in range(20):
            inbox.link.send(b"hello?", nowhere)
        sock.sendto(b"frame", ("127.0.0.1", inbox.link.port))
        await until(lambda: inbox.received)


@pytest.mark.parametrize("peer", [("::1", 6363, 0, 0), ("127.0.0.1",), ("127.0.0.1", "6363"), "127.0.0.1", None])
async def test_a_place_from_before_the_address_family_was_changed_does_not_close_the_socket(
    inbox: Inbox, peer: object
) -> None:
    Place(inbox.link, peer).send(b"frame")
    assert inbox.link.errors_total == 1
    with client() as sock:
        Place(inbox.link, sock.getsockname()).send(b"frame")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 300), 5) == b"frame"
    assert inbox.link.is_open


async def test_a_port_that_is_taken_is_said_with_what_to_do(inbox: Inbox) -> None:
    second = Inbox()
    with pytest.raises(UdpError, match=f"127.0.0.1:{inbox.link.port}: .*in use") as raised:
        await second.link.open("127.0.0.1", inbox.link.port)
    assert "another gateway" in raised.value.hint
    assert second.link.port == 0
    second.link.send(b"nothing happens", ("127.0.0.1", 1))


async def test_an_address_of_another_machine_is_said(inbox: Inbox) -> None:
    with pytest.raises(UdpError) as raised:
        await Inbox().link.open("192.0.2.1", 0)
    assert "0.0.0.0" in raised.value.hint


class UdpNode:
    """A node's endpoint behind a socket that can be replaced."""

    def __init__(self, key: bytes, target: tuple[str, int]) -> None:
        self.endpoint = NodeEndpoint(
            join.Joiner(AesCcm, key), random.Random(1).randbytes, MANIFEST, Outbox(64, 1), 1, 1
        )
        self.target = target
        self.sources: list[tuple[str, int]] = []
        self._sock: socket.socket | None = None
        self._task = asyncio.get_running_loop().create_task(self._keep_pumping())

    def bind(self) -> None:
        """A new socket, hence a new port."""
        self.close()
        self._sock = client()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._readable)
        self.endpoint.link_up(monotonic_ms(), True)
        self.pump()

    def close(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.close()

    def _readable(self) -> None:
        assert self._sock is not None
        data, source = self._sock.recvfrom(300)
        self.sources.append(source)
        self.endpoint.receive(data, monotonic_ms())
        self.pump()

    def pump(self) -> None:
        now = monotonic_ms()
        while self._sock is not None and (frame := self.endpoint.next_frame(now)) is not None:
            self._sock.sendto(frame, self.target)

    async def _keep_pumping(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.pump()


async def real_site(host: str) -> tuple[Site, UdpLink]:
    site = Site(clock=monotonic_ms)
    await site.start()
    link = UdpLink(site.hub.receive, NullLogger())
    await link.open(host, 0)
    return site, link


async def test_a_node_that_changes_its_address_goes_on(inbox: Inbox) -> None:
    site, link = await real_site("127.0.0.1")
    device = await site.hub.add_device("a")
    node = UdpNode(device.key, ("127.0.0.1", link.port))
    try:
        for value in range(3):
            node.bind()
            node.endpoint.publish(0, value, monotonic_ms())
            node.pump()
            await until(lambda: not node.endpoint.outbox.items)
            assert device.current is not None
            assert node._sock is not None
            assert device.current.place == Place(link, node._sock.getsockname())
        assert node.endpoint.joins_total == 1
        assert site.uplinks.numbers("a") == [1, 2, 3]
    finally:
        await node.stop()
        await link.close()
        await site.stop()


async def test_a_node_without_an_address_finds_the_gateway_by_broadcast(inbox: Inbox) -> None:
    site, link = await real_site("0.0.0.0")
    device = await site.hub.add_device("a")
    node = UdpNode(device.key, ("127.255.255.255", link.port))
    try:
        node.bind()
        await until(lambda: node.sources)
        node.target = node.sources[0]  # of an accept that opened
        node.endpoint.publish(0, 1, monotonic_ms())
        node.pump()
        await until(lambda: not node.endpoint.outbox.items)
        assert manifest.digest(MANIFEST) == device.manifest_hash
    finally:
        await node.stop()
        await link.close()
        await site.stop()
