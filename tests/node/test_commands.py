"""Commands to a node and requests of a node."""

import asyncio
import struct

import pytest

from .conftest import Start
from .peer import Peer

RUNTIMES = ("micropython", "cpython")
IDLE = {"period_s": 60}


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_commands_take_arguments_by_position_and_by_name(start: Start, peer: Peer, runtime: str) -> None:
    await start("uart", runtime=runtime, options=IDLE)
    await peer.joined()
    assert await peer.command("led", [True]) == (0, True)
    assert await peer.command("led", {"on": False}) == (0, False)
    assert await peer.command("add", [1]) == (0, 2)
    assert await peer.command("add", {"b": 3, "a": 0.5}) == (0, 3.5)
    value = {"list": [1, -2, 2.5, None, "ü"], "raw": b"\x00\x01"}
    assert await peer.command("echo", [value]) == (0, value)
    status, ping = await peer.command("ping")
    assert status == 0
    assert set(ping) == {"uptime_s"}
    status, info = await peer.command("info")
    assert status == 0
    assert info["fw"] == "sim-1"
    assert info["boots"] == 1
    assert info["joins"] == 1
    assert (info["heap_free"] or 0 if runtime == "micropython" else 20000) > 10000


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_bad_arguments_are_refused_with_the_name_of_the_bad_one(start: Start, peer: Peer, runtime: str) -> None:
    await start("uart", runtime=runtime, options=IDLE)
    await peer.joined()
    assert await peer.command("led", []) == (400, "argument on is missing")
    assert await peer.command("led", [1]) == (400, "argument on: true or false is wanted")
    assert await peer.command("led", [True, 1]) == (400, "at most 1 arguments, got 2")
    assert await peer.command("led", {"on": True, "color": 1}) == (400, "argument color is not known")
    assert await peer.command("add", ["1"]) == (400, "argument a: a number is wanted")
    assert await peer.command("add", [True]) == (400, "argument a: a number is wanted")
    assert await peer.command("led", 7) == (400, "arguments are a list or a map")


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_what_a_handler_raises_is_the_reply_and_the_node_goes_on(start: Start, peer: Peer, runtime: str) -> None:
    node = await start("uart", runtime=runtime, options=IDLE)
    await peer.joined()
    assert await peer.command("fail", ["boom"]) == (500, "boom")
    await peer.wait(lambda: (40, "command fail: boom") in peer.logs)
    assert await peer.command("no-such-command") == (404, "no such command")
    assert (await peer.command("info"))[1]["drops"]["command_failed"] == 1
    assert node.resets_total == 0


async def test_slow_commands_run_beside_each_other_and_no_more_than_eight(start: Start, peer: Peer) -> None:
    await start("uart", options=IDLE)
    await peer.joined()
    slow = [asyncio.create_task(peer.command("slow", [0.6])) for _ in range(9)]
    assert await peer.command("ping") != (0, None)
    results = sorted(await asyncio.gather(*slow))
    assert results[0] == (0, "done")
    assert {status for status, _ in results} == {0, 429}
    assert await peer.command("add", [1, 1]) == (0, 2)


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_node_asks_services_and_gets_values_or_the_reason(start: Start, peer: Peer, runtime: str) -> None:
    peer.services["time.now"] = lambda arguments: (0, {"ms": 123, "asked": arguments})
    peer.services["broken"] = lambda _: (503, "come back later")
    await start("uart", runtime=runtime, options=IDLE)
    await peer.joined()
    assert await peer.command("ask", ["time.now", [1]]) == (0, {"ms": 123, "asked": [1]})
    assert await peer.command("ask", ["broken"]) == (500, "503 come back later")
    assert await peer.command("ask", ["nobody.there"]) == (500, "404 no responders")


async def test_long_arguments_and_results_go_in_fragments(start: Start, peer: Peer) -> None:
    await start("uart", options=IDLE)
    await peer.joined()
    text = "petiole " * 120
    assert await peer.command("echo", [text]) == (0, text)


async def test_a_number_beyond_the_floats_of_a_board_is_refused_and_never_becomes_infinite(
    start: Start, peer: Peer
) -> None:
    await start("uart", options=IDLE)
    await peer.joined()
    status, value = await peer.command("add", [1e300, 1])
    assert (status, value) in ((0, 1e300), (400, "argument a: a number is wanted"))
    assert await peer.command("add", [3e38, 1]) in (
        (0, 3e38),
        (0, float(struct.unpack("f", struct.pack("f", 3e38))[0])),
    )
    assert await peer.command("add", [1e-300, 1]) == (0, 1)
    assert await peer.command("add", [2**62, 1]) == (0, 2**62 + 1)
