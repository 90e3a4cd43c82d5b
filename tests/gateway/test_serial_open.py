"""Opening a port: by name or USB number, in use, absent, forbidden, or no port at all."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from petiole_gateway.links.port import PortError, open_port, resolve

from .real_time import until
from .serial_rig import Board, Rig


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
