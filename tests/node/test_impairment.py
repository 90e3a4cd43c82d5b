"""Bad links are bad in the way they were told, and the same for the same seed."""

import asyncio
import os
import socket

import pytest

from petiole_tools.sim.impairment import PERFECT, Impairment, Pump, Scheduler, UdpRelay


def run(impairment: Impairment, seed: int, is_stream: bool = False, count: int = 2000) -> list[bytes]:
    scheduler = Scheduler(impairment, seed, is_stream)
    for number in range(count):
        scheduler.push(number.to_bytes(4, "big"), number / 1000)
    return scheduler.pop(1e9)


def test_a_perfect_link_changes_nothing() -> None:
    assert run(PERFECT, 1) == [number.to_bytes(4, "big") for number in range(2000)]


@pytest.mark.parametrize("is_stream", [False, True])
def test_equal_seeds_have_equal_luck(is_stream: bool) -> None:
    bad = Impairment(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, jitter_ms=5)
    assert run(bad, 1, is_stream) == run(bad, 1, is_stream)
    assert run(bad, 1, is_stream) != run(bad, 2, is_stream)


def test_each_kind_of_harm_happens_as_often_as_told() -> None:
    assert 1700 < len(run(Impairment(loss=0.1), 1)) < 1900
    assert 2100 < len(run(Impairment(duplicate=0.1), 1)) < 2300
    assert 100 < len(set(run(Impairment(corrupt=0.1), 1)) - set(run(PERFECT, 1))) < 300
    late = run(Impairment(reorder=0.1), 1)
    assert late != sorted(late)
    assert sorted(late) == run(PERFECT, 1)


def test_a_stream_never_overtakes_itself() -> None:
    out = run(Impairment(reorder=0.5, jitter_ms=100), 1, is_stream=True)
    assert out == sorted(out)


def test_one_setting_does_not_change_the_luck_of_another() -> None:
    lost = set(run(PERFECT, 1)) - set(run(Impairment(loss=0.1), 1))
    both = set(run(PERFECT, 1)) - set(run(Impairment(loss=0.1, duplicate=0.3, jitter_ms=9), 1))
    assert lost == both


def test_a_slow_line_takes_its_time() -> None:
    scheduler = Scheduler(Impairment(rate=1000), 1, True)
    for _ in range(10):
        scheduler.push(bytes(100), 0)
    assert len(scheduler.pop(0.55)) == 5
    assert len(scheduler.pop(1.001)) == 5


def test_chances_are_checked() -> None:
    with pytest.raises(ValueError, match="loss: from 0 to 1, got 10"):
        Impairment(loss=10)


async def test_a_pump_moves_bytes_both_ways_and_forgets_what_an_absent_end_missed() -> None:
    node, inner = socket.socketpair()
    outer, gateway = socket.socketpair()
    for end in (node, inner, outer, gateway):
        end.setblocking(False)
    pump = Pump(PERFECT, 1, b"\0")
    pump.connect_node(inner.fileno())
    pump.connect_outer(outer.fileno())
    loop = asyncio.get_running_loop()
    os.write(node.fileno(), b"up\0pa")
    assert await loop.sock_recv(gateway, 100) == b"up\0"
    os.write(node.fileno(), b"rt\0")
    assert await loop.sock_recv(gateway, 100) == b"part\0"
    os.write(gateway.fileno(), b"down\0")
    assert await loop.sock_recv(node, 100) == b"down\0"
    pump.connect_outer(None)
    os.write(node.fileno(), b"lost\0")
    await asyncio.sleep(0.05)
    pump.connect_outer(outer.fileno())
    os.write(node.fileno(), b"found\0")
    assert await loop.sock_recv(gateway, 100) == b"found\0"
    pump.close()
    for end in (node, inner, outer, gateway):
        end.close()


async def test_a_relay_carries_datagrams_both_ways() -> None:
    loop = asyncio.get_running_loop()
    gateway = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gateway.bind(("127.0.0.1", 0))
    gateway.setblocking(False)
    relay = UdpRelay(gateway.getsockname(), PERFECT, 1)
    await relay.start()
    node = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    node.setblocking(False)
    node.connect(relay.address)
    node.send(b"up")
    data, source = await loop.sock_recvfrom(gateway, 100)
    assert data == b"up"
    gateway.sendto(b"down", source)
    assert await loop.sock_recv(node, 100) == b"down"
    relay.close()
    node.close()
    gateway.close()
