"""The ports of a gateway by all their names."""

import os
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway.hub.ports import CommandError
from petiole_gateway.serial_ports import SerialPorts
from petiole_gateway.settings.config import SerialConfig

from .memory import NullLogger

AT = {"kitchen": "usb:E66A", "attic": "udp", "shed": None}


@pytest.fixture
async def ports(tmp_path: Path) -> SerialPorts:
    """Three ports that nobody opens: one by its number, one by its stable name, and one of another folder."""
    (tmp_path / "by-id").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("ttyACM0", "other/ttyACM0"):
        (tmp_path / name).touch()
    (tmp_path / "by-id" / "usb-Pico-if00").symlink_to(tmp_path / "ttyACM0")

    def link_of(device: str) -> str | None:
        if device not in AT:
            raise CommandError(404, f"no device {device}")
        return AT[device]

    names = ["usb:E66A", str(tmp_path / "by-id" / "usb-Pico-if00"), str(tmp_path / "other" / "ttyACM0")]
    found = SerialPorts(
        [SerialConfig(port=name, framing="console") for name in names],
        receive=lambda place, frame: None,
        log=lambda link, line: None,
        logger=NullLogger(),
        device_at=lambda link: next((name for name, at in AT.items() if at == link), None),
        link_of=link_of,
        own_name="gw1",
    )
    found.start()
    await found.stop()  # their names are all that is wanted
    return found


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("usb:E66A", "usb:E66A"),
        ("kitchen", "usb:E66A"),
        ("usb-Pico-if00", "by-id/usb-Pico-if00"),
        ("by-id/usb-Pico-if00", "by-id/usb-Pico-if00"),
        ("ttyACM0", "409 ttyACM0 may be by-id/usb-Pico-if00 or other/ttyACM0"),
        ("/ttyACM0", "by-id/usb-Pico-if00"),
        ("/other/ttyACM0", "other/ttyACM0"),
        ("attic", "404 attic is on udp, not on a serial port of this gateway; ports: "),
        ("shed", "404 shed was not heard yet, not on a serial port of this gateway; ports: "),
        ("cellar", "404 cellar is neither a serial port nor a device here; ports: "),
    ],
)
async def test_a_port_is_found_by_each_of_its_names(ports: SerialPorts, tmp_path: Path, name: str, port: str) -> None:
    for_whole = name.startswith("/") or name.startswith("by-id")
    try:
        found = ports.find(str(tmp_path / name.strip("/")) if for_whole else name).name
    except CommandError as error:
        found = f"{error.code} {error.text}"
    assert found.replace(f"{tmp_path}{os.sep}", "").startswith(port)


@pytest.mark.parametrize(
    ("method", "arguments", "text"),
    [
        ("port.release", {}, "port: a text is missing"),
        ("port.release", {"port": ["usb:E66A"]}, "port: a text is missing"),
        ("port.release", {"port": "usb:E66A", "for_s": 0}, "for_s: more than 0"),
        ("port.release", {"port": "usb:E66A", "for_s": True}, "for_s: more than 0"),
        ("port.release", {"port": "usb:E66A", "for_s": 86401}, "for_s: more than 0"),
        ("port.release", {"port": "usb:E66A", "for_s": float("nan")}, "for_s: more than 0"),
        ("port.resume", {"port": "usb:E66A", "restart": 1}, "restart: true or false"),
        ("gw1.port.show", {"port": ""}, "port: a text is missing"),
    ],
)
async def test_what_is_asked_badly_is_refused(
    ports: SerialPorts, method: str, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(CommandError, match=text) as raised:
        await ports.methods[method](arguments)
    assert raised.value.code == 400
    assert not any(link.is_released for link in ports.links.values())


async def test_a_port_that_was_plugged_in_this_moment_can_be_released_before_it_is_opened(tmp_path: Path) -> None:
    ports = SerialPorts(
        [SerialConfig(port=str(tmp_path / "ttyACM*"), framing="console")],
        receive=lambda place, frame: None,
        log=lambda link, line: None,
        logger=NullLogger(),
        device_at=lambda link: None,
        link_of=lambda device: None,
        own_name="gw1",
    )
    ports.start()
    plugged = tmp_path / "ttyACM0"
    plugged.touch()
    link = ports.find(str(plugged))
    link.release(60)
    assert (link.name, link.state, link.failed_total) == (str(plugged), "released", {})
    await ports.stop()
