"""Serial links over pseudo-terminals: what a cable, a board and another program can do to them."""

from __future__ import annotations

import asyncio
import grp
import os
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer
from petiole_gateway.hub.ports import Place
from petiole_gateway.links import serial as links
from petiole_gateway.links.port import PortError, open_port, resolve
from petiole_gateway.links.serial import MAX_UNSENT, SerialLink

from .memory import NullLogger
from .real_time import until

FRAMES = [bytes([0x20, n]) + bytes(range(n, n + 20)) for n in range(40)]


class Board:
    """The other end of a cable: a pseudo-terminal behind a path that stays the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self._theirs = -1

    def plug(self) -> None:
        self.fd, self._theirs = os.openpty()
        tty.setraw(self.fd)
        tty.setraw(self._theirs)
        os.set_blocking(self.fd, False)
        self.path.symlink_to(os.ttyname(self._theirs))

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        for fd in (self.fd, self._theirs):
            if fd >= 0:
                os.close(fd)
        self.fd = self._theirs = -1

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""


class Rig:
    """A link on a board, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.board = Board(folder / "tty")
        self.logger = NullLogger()
        self.frames: list[bytes] = []
        self.lines: list[str] = []
        self.link: SerialLink
        self._task: asyncio.Task[None] | None = None

    def start(self, framing: str = "cobs", port: str = "") -> SerialLink:
        self.link = SerialLink(
            port or str(self.board.path),
            baud=115200,
            framing=framing,
            receive=self._receive,
            log=lambda link, line: self.lines.append(line),
            logger=self.logger,
        )
        self._task = asyncio.get_running_loop().create_task(self.link.run())
        return self.link

    def _receive(self, place: Place, frame: bytes) -> None:
        assert place == Place(self.link, None)
        self.frames.append(frame)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.board.unplug()


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(links, "RETRY_S", 0.02)
    monkeypatch.setattr(links, "RETRY_MAX_S", 0.05)
    rig = Rig(tmp_path)
    yield rig
    await rig.stop()


def collected(got: list[bytes], frames: list[bytes]) -> list[bytes]:
    """All frames so far, with these."""
    got.extend(frames)
    return got


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


async def test_a_port_in_use_is_named_and_taken_when_it_is_free(rig: Rig) -> None:
    rig.board.plug()
    other = serial.Serial(str(rig.board.path), 115200, exclusive=True)
    link = rig.start()
    await until(lambda: rig.logger.events("port_unavailable"))
    said = rig.logger.events("port_unavailable")[0]
    assert said["reason"] == "is in use"
    assert "another program" in said["hint"]
    other.close()
    await until(lambda: link.is_open)
    with pytest.raises(serial.SerialException):
        serial.Serial(str(rig.board.path), 115200, exclusive=True)


@pytest.mark.parametrize(
    ("make", "reason", "hint"),
    [
        (lambda path: None, "does not exist", "plug the board in"),
        (lambda path: path.mkdir(), "is no serial port", "path"),
        (lambda path: path.touch(), "is no serial port", "path"),
    ],
)
def test_what_is_no_port_is_named(tmp_path: Path, make: Callable[[Path], None], reason: str, hint: str) -> None:
    path = tmp_path / "port"
    make(path)
    with pytest.raises(PortError, match=reason) as raised:
        open_port(str(path), 115200)
    assert hint in raised.value.hint
    assert raised.value.port == str(path)


def usb(device: str, number: str | None) -> ListPortInfo:
    info = ListPortInfo(device)
    info.serial_number = number
    return info


def test_a_usb_number_is_looked_up_and_one_that_is_absent_lists_those_present(monkeypatch: pytest.MonkeyPatch) -> None:
    present = [usb("/dev/ttyS0", None), usb("/dev/ttyACM1", "E66B"), usb("/dev/ttyACM0", "E66A")]
    monkeypatch.setattr(list_ports, "comports", lambda: present)
    assert resolve("usb:E66A") == "/dev/ttyACM0"
    assert resolve("/dev/ttyACM7") == "/dev/ttyACM7"
    with pytest.raises(PortError, match="usb:E66C: no such USB device") as raised:
        open_port("usb:E66C", 115200)
    assert raised.value.hint == "USB serial numbers present: E66A, E66B"
    assert raised.value.kind == "missing"
    present.clear()
    with pytest.raises(PortError) as raised:
        open_port("usb:E66C", 115200)
    assert raised.value.hint == "USB serial numbers present: none"


def test_a_usb_device_in_use_is_busy_under_the_name_it_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board = Board(tmp_path / "tty")
    board.plug()
    monkeypatch.setattr(list_ports, "comports", lambda: [usb(str(board.path), "E66A")])
    first = open_port("usb:E66A", 115200)
    with pytest.raises(PortError, match="usb:E66A: is in use") as raised:
        open_port("usb:E66A", 115200)
    first.close()
    board.unplug()
    assert raised.value.kind == "busy"
    assert "another program" in raised.value.hint


@contextmanager
def as_nobody() -> Iterator[None]:
    """The block is run by a user who may nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not open a port")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("mode", "group", "hint"),
    [
        (0o660, "dialout", "sudo usermod -aG dialout nobody"),
        (0o600, "dialout", "its group dialout may not use it either: have a rule of udev"),
        (0o600, "root", "have a rule of udev give it to the group dialout"),
    ],
)
def test_a_port_without_permission_names_the_group(mode: int, group: str, hint: str) -> None:
    ours, theirs = os.openpty()
    path = os.ttyname(theirs)
    if os.geteuid() == 0:
        os.chown(path, 0, grp.getgrnam(group).gr_gid)
    os.fchmod(theirs, mode)
    try:
        with as_nobody(), pytest.raises(PortError, match="permission denied") as raised:
            open_port(path, 115200)
    finally:
        os.close(ours)
        os.close(theirs)
    assert hint in raised.value.hint
    assert raised.value.kind == "denied"


async def test_a_port_is_opened_when_permission_comes(rig: Rig) -> None:
    rig.board.plug()
    theirs = rig.board._theirs
    os.fchmod(theirs, 0o600)
    with as_nobody():
        link = rig.start(port=os.ttyname(theirs))  # nobody may not look into the folder of the link to it
        await until(lambda: link.failed_total.get("denied", 0) >= 3)
        assert len(rig.logger.events("port_unavailable")) == 1, "a problem is said once"
        assert (link.state, link.problem) == ("unavailable", f"{link.name}: permission denied")
        assert "udev" in link.hint
    os.fchmod(theirs, 0o666)  # what a rule of udev does
    with as_nobody():
        await until(lambda: link.is_open)
    assert (link.problem, link.hint) == ("", "")


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


# Lending the port ----------------------------------------------------------------------------------------------


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


async def test_a_board_of_that_number_is_found_under_its_new_name(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    present = [usb(str(rig.board.path), "E66A")]
    monkeypatch.setattr(list_ports, "comports", lambda: present)
    rig.board.plug()
    link = rig.start(port="usb:E66A")
    await until(lambda: link.is_open)
    assert link.path == str(rig.board.path)
    rig.board.unplug()
    present.clear()
    await until(lambda: link.problem == "usb:E66A: no such USB device")
    rig.board.path = tmp_path / "ttyACM1"
    rig.board.plug()
    present.append(usb(str(rig.board.path), "E66A"))
    await until(lambda: link.is_open)
    assert link.path == str(rig.board.path)


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
