"""A port that is lent to another program, and what becomes of the board's REPL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import serial

from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer

from .real_time import until
from .serial_rig import FRAMES, Rig, collected


def is_free(path: Path) -> bool:
    """Whether another program could use the port for itself, as mpremote does."""
    try:
        serial.Serial(str(path), 115200, exclusive=True).close()
    except serial.SerialException:
        return False
    return True


async def test_a_port_that_is_released_is_free_until_it_is_resumed(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    assert not is_free(rig.board.path)
    framer = CobsFramer(250)
    rig.board.write(framer.wrap(FRAMES[0])[:9])  # in the middle of a frame
    link.release(60)
    assert is_free(rig.board.path), "at once, not when the event loop comes to it"
    assert (link.state, link.is_open, link.problem) == ("released", False, "")
    assert link.released_for_s == pytest.approx(60, abs=5)
    assert "is released for" in link.absence
    link.send(FRAMES[1], None)  # goes nowhere, and raises nothing
    rig.board.read()
    rig.board.write(b"what another program is answered")
    assert await link.resume() == "", "a port without a REPL"
    assert (link.state, link.opened_total, link.released_total, link.absence) == ("open", 2, 1, "")
    assert not is_free(rig.board.path)
    rig.board.write(framer.wrap(FRAMES[2]))
    link.send(FRAMES[3], None)
    await until(lambda: rig.frames == [FRAMES[2]])
    got: list[bytes] = []
    await until(lambda: collected(got, framer.feed(rig.board.read())) == [FRAMES[3]])
    assert rig.logger.events("port_lost") == []


async def test_a_release_that_is_forgotten_ends_by_itself(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    link.release(60)
    await asyncio.sleep(0.02)  # it waits by now
    link.release(0.1)  # the last word counts
    await until(lambda: link.is_open, 5)
    assert [said["reason"] for said in rig.logger.events("port_taken_back")] == ["its time is over"]


async def test_a_port_that_somebody_still_has_at_the_end_is_taken_when_it_is_free(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start()
    await until(lambda: link.is_open)
    link.release(60)
    other = serial.Serial(str(rig.board.path), 115200, exclusive=True)
    assert await link.resume() == ""
    assert (link.state, link.problem) == ("unavailable", f"{link.name}: is in use")
    assert link.failed_total["busy"] >= 1
    other.close()
    await until(lambda: link.is_open)


async def test_a_port_that_is_away_can_be_released_too(rig: Rig) -> None:
    link = rig.start()
    await until(lambda: link.failed_total.get("missing", 0) >= 1)
    link.release(60)
    rig.board.plug()
    tried = link.failed_total["missing"]
    await asyncio.sleep(0.1)  # several pauses between tries
    assert (link.failed_total["missing"], link.is_open) == (tried, False)
    assert is_free(rig.board.path)
    await link.resume()
    assert link.is_open


async def test_nothing_is_typed_into_the_repl_but_the_way_out_of_it(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start("console")
    await until(lambda: link.is_open)
    link.release(60)
    resuming = asyncio.create_task(link.resume())
    await until(lambda: link.is_open)
    heard = bytearray()

    def has_heard(what: bytes) -> bool:
        heard.extend(rig.board.read())
        return heard.endswith(what)

    await until(lambda: has_heard(b"\r\x02"))
    link.send(FRAMES[0], None)
    rig.board.write(b"\r\nMicroPython v1.26.0\r\n>>> ")
    await until(lambda: has_heard(b"\x04"))
    link.send(FRAMES[1], None)
    framer = LineFramer(250)
    rig.board.write(b"\r\nMPY: soft reboot\r\n" + framer.wrap(FRAMES[2]))
    assert await resuming == "restarted"
    assert bytes(heard).strip(b"\r\x02") == b"\x04"
    assert rig.frames == [FRAMES[2]]
    link.send(FRAMES[3], None)
    await until(lambda: has_heard(framer.wrap(FRAMES[3])))
    assert framer.feed(bytes(heard)) == [FRAMES[3]], "what comes after the way out is a frame"


async def test_a_release_ends_the_way_out_of_the_repl(rig: Rig) -> None:
    rig.board.plug()
    link = rig.start("console")
    await until(lambda: link.is_open)
    resuming = asyncio.create_task(link.resume())  # it was not released: only the board is looked after
    await until(lambda: rig.board.read().endswith(b"\r\x02"))
    link.release(60)
    assert await resuming == "silent"
    assert is_free(rig.board.path)
    await asyncio.sleep(0)
    assert rig.board.read() == b""
