"""Serial links over pseudo-terminals: what a cable, a board and another program can do to them."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer
from petiole_gateway.links.serial import MAX_UNSENT, RETRY_S, SerialLink

from .memory import NullLogger
from .real_time import until
from .serial_rig import FRAMES, Rig, collected


async def test_frames_pass_both_ways(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    framer = CobsFramer(250)
    for frame in FRAMES[:10]:
        rig.board.write(framer.wrap(frame))
        link.send(frame, None)
    await until(lambda: rig.frames == FRAMES[:10])
    got: list[bytes] = []
    await until(lambda: collected(got, framer.feed(rig.board.read())) == FRAMES[:10])


async def test_half_frames_and_noise_cost_no_more_than_themselves(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    framer = CobsFramer(250)
    data = b"\xff\xfe noise \x00" + framer.wrap(FRAMES[0]) + framer.wrap(FRAMES[1])[:9]
    for byte in data:
        rig.board.write(bytes([byte]))
        await asyncio.sleep(0)
    rig.board.write(b"\x00" + framer.wrap(FRAMES[2]))
    await until(lambda: rig.frames == [FRAMES[0], FRAMES[2]])
    assert link.dropped["cobs"] == 2


async def test_a_port_that_is_plugged_in_later_is_opened(rig: Rig) -> None:
    link = rig.start()
    await until(lambda: rig.logger.events("port_unavailable"))
    assert "does not exist" in link.problem
    link.send(FRAMES[0], None)  # goes nowhere, and raises nothing
    rig.board.plug()
    await until(lambda: link.is_open)
    assert link.problem == ""
    assert len(rig.logger.events("port_unavailable")) == 1, "a problem is said once"


async def test_a_port_that_is_unplugged_comes_back_without_old_bytes(rig: Rig) -> None:
    framer = CobsFramer(250)
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    rig.board.write(framer.wrap(FRAMES[0]) + framer.wrap(FRAMES[1])[:7])
    await until(lambda: rig.frames == [FRAMES[0]])

    async def replug(count: int) -> None:
        rig.board.unplug()
        await until(lambda: not link.is_open)
        link.send(FRAMES[5], None)
        rig.board.plug()
        await until(lambda: link.is_open and link.opened_total == count)
        rig.board.write(framer.wrap(FRAMES[2]))
        link.send(FRAMES[3], None)
        await until(lambda: len(rig.frames) == count)
        got: list[bytes] = []
        await until(lambda: collected(got, framer.feed(rig.board.read())))
        assert got == [FRAMES[3]]

    for count in (2, 3, 4):
        await replug(count)
    assert rig.frames == [FRAMES[0]] + [FRAMES[2]] * 3


async def test_what_is_lost_while_the_gateway_stops_is_not_opened_again(rig: Rig) -> None:
    """The path may be another program's board by then."""
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    link.open_no_more()
    framer = CobsFramer(250)
    rig.board.write(framer.wrap(FRAMES[0]))
    await until(lambda: rig.frames == [FRAMES[0]])
    rig.board.unplug()
    await until(lambda: not link.is_open)
    rig.board.plug()
    await asyncio.sleep(3 * RETRY_S)
    assert (link.is_open, link.opened_total) == (False, 1)


async def test_a_port_that_is_away_when_the_gateway_stops_is_not_opened(rig: Rig) -> None:
    link = rig.start()
    await until(lambda: rig.logger.events("port_unavailable"))
    link.open_no_more()
    rig.board.plug()
    await asyncio.sleep(3 * RETRY_S)
    assert link.opened_total == 0


async def test_a_console_carries_frames_between_what_the_board_prints(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start("console")
    await until(lambda: link.is_open)
    framer = LineFramer(250)
    rig.board.write(b"booting\r\n" + framer.wrap(FRAMES[0]) + b"no newline" + framer.wrap(FRAMES[1]) + b"~not base64\n")
    rig.board.write(b"\x1b[31mred\xff\n" + framer.wrap(FRAMES[2]))
    await until(lambda: len(rig.frames) == 3)
    assert rig.frames == FRAMES[:3]
    assert rig.lines[:3] == ["booting", "no newline", "~not base64"]
    assert link.dropped["base64"] == 1
    link.send(FRAMES[4], None)
    sent = bytearray()

    def is_whole() -> bool:
        sent.extend(rig.board.read())
        return sent.endswith(b"\n")

    await until(is_whole)
    assert all(byte >= 32 for byte in sent[:-1]), "a control character would stop the board's program"


async def test_a_reader_that_does_not_read_costs_bounded_memory_and_no_time(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    frame = bytes(range(1, 241))
    for _ in range(1000):
        link.send(frame, None)
    assert len(link._unsent) <= MAX_UNSENT
    assert link.unsent_dropped_total > 0
    framer = CobsFramer(250)
    got: list[bytes] = []
    whole = 1000 - link.unsent_dropped_total
    await until(lambda: collected(got, framer.feed(rig.board.read())) and not link._unsent)
    await until(lambda: collected(got, framer.feed(rig.board.read())) and len(got) == whole)
    assert set(got) == {frame}, "what was sent is whole"
    got.clear()
    link.send(FRAMES[0], None)
    await until(lambda: collected(got, framer.feed(rig.board.read())) == [FRAMES[0]])


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(chunks=st.lists(st.binary(max_size=700), max_size=20), framing=st.sampled_from(["cobs", "console"]))
def test_any_bytes_from_a_board_are_frames_lines_or_counted(chunks: list[bytes], framing: str) -> None:
    frames: list[bytes] = []
    lines: list[str] = []
    link = SerialLink(
        "/dev/null",
        baud=115200,
        framing=framing,
        receive=lambda place, frame: frames.append(frame),
        log=lambda name, line: lines.append(line),
        logger=NullLogger(),
    )
    for chunk in chunks:
        link.take(chunk)
        assert len(link._framer._pending) <= 600  # type: ignore[attr-defined]
    assert all(0 < len(frame) <= 250 for frame in frames)
    assert set(link.dropped) <= {"oversize", "cobs", "base64", "lines"}
    good = CobsFramer(250) if framing == "cobs" else LineFramer(250)
    frames.clear()
    link.take((b"\x00" if framing == "cobs" else b"\n") + good.wrap(FRAMES[0]))
    assert frames[-1] == FRAMES[0]
