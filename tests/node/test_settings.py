"""Settings that are wrong say which key, what is wrong, and what is meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from petiole_node import SettingsError
from petiole_node.settings import check

from .conftest import Start
from .peer import Peer

GOOD: dict[str, Any] = {"name": "leaf-1", "key": "00" * 16, "links": [{"kind": "console"}]}
UART = {"kind": "uart"}
UDP = {"kind": "udp"}


def test_good_settings_have_defaults() -> None:
    values = check({**GOOD, "links": [UART, UDP]})
    assert values["level"] == 20
    assert values["outbox"] == 32
    assert values["links"][0]["baud"] == 115200
    assert values["links"][1] == {"kind": "udp", "host": "", "port": 6363, "ssid": "", "password": ""}
    assert values["warnings"] == []


@pytest.mark.parametrize(
    ("change", "key", "why"),
    [
        ({"name": None}, "name", "is missing; a text is wanted"),
        ({"name": "böse"}, "name", "1 to 32 of A-Z a-z 0-9 _ -, got 'böse'"),
        ({"name": 7}, "name", "a text of 1 to 32 characters, got 7"),
        ({"key": "00"}, "key", "32 hexadecimal digits, got 2 characters"),
        ({"key": "zz" * 16}, "key", "32 hexadecimal digits, got 32 characters"),
        ({"key": 5}, "key", "a text of 1 to 200 characters, got something else"),
        ({"links": None}, "links", "a list of 1 to 4 links, got nothing"),
        ({"links": []}, "links", "a list of 1 to 4 links, got []"),
        ({"links": ["uart"]}, "links[0]", 'an object such as {"kind": "console"}, got \'uart\''),
        ({"links": [{}]}, "links[0].kind", "one of console, uart, udp, got nothing"),
        ({"links": [UDP, {"kind": "usb"}]}, "links[1].kind", "one of console, uart, udp, got 'usb'"),
        ({"links": [{**UART, "baud": "fast"}]}, "links[0].baud", "a whole number from 300 to 4000000, got 'fast'"),
        ({"links": [{**UART, "baud": True}]}, "links[0].baud", "a whole number from 300 to 4000000, got True"),
        ({"links": [{**UDP, "port": 0}]}, "links[0].port", "a whole number from 1 to 65535, got 0"),
        (
            {"links": [{**UDP, "password": 1234}]},
            "links[0].password",
            "a text of 0 to 63 characters, got something else",
        ),
        ({"log": "loud"}, "log", "one of debug, info, warning, error, got 'loud'"),
        ({"log": 10}, "log", "one of debug, info, warning, error, got 10"),
        ({"outbox": 2}, "outbox", "a whole number from 4 to 1024, got 2"),
        ({"watchdog_s": -1}, "watchdog_s", "a whole number from 0 to 300, got -1"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], key: str, why: str) -> None:
    values = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(SettingsError) as raised:
        check(values)
    assert (raised.value.what, raised.value.why) == (key, why)


def test_a_key_is_never_shown() -> None:
    with pytest.raises(SettingsError) as raised:
        check({**GOOD, "key": "secret" * 4})
    assert "secret" not in str(raised.value)


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    path = tmp_path / "petiole.json"
    with pytest.raises(SettingsError, match="cannot be read"):
        check(str(path))
    path.write_text('{"name": "leaf-1",')
    with pytest.raises(SettingsError, match="not JSON"):
        check(str(path))
    path.write_text("[]")
    with pytest.raises(SettingsError, match="an object"):
        check(str(path))
    path.write_text(json.dumps(GOOD))
    assert check(str(path))["name"] == "leaf-1"


def test_unknown_keys_are_warned_about() -> None:
    values = check({**GOOD, "wifi": 1, "links": [{"kind": "udp", "hots": "x"}]})
    assert values["warnings"] == [
        "settings: wifi is not known and has no effect",
        "settings: links[0].hots is not known and has no effect",
    ]


async def test_a_node_tells_the_gateway_about_unknown_keys_once_it_is_online(start: Start, peer: Peer) -> None:
    await start("uart", settings={"colour": "green"}, options={"period_s": 60})
    await peer.joined()
    await peer.wait(lambda: (30, "settings: colour is not known and has no effect") in peer.logs)


async def test_a_node_with_broken_settings_says_so_on_its_console(start: Start, peer: Peer) -> None:
    await start("console", settings={"outbox": "many"})
    await peer.line("SettingsError: outbox: a whole number from 4 to 1024, got 'many'")
