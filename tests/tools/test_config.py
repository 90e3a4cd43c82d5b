"""The settings file: what it accepts, and what it says about what it does not."""

from pathlib import Path

import pytest

from petiole_gateway.nats.uplink_recovery import GAP_SIZE
from petiole_gateway.nats.uplink_stream import BURN_COUNT
from petiole_gateway.settings.config import MIN_STORE_BYTES, Config, ConfigError, load
from petiole_gateway.settings.lines import key_lines

EVERYTHING = """\
site = "cabin"
state_dir = "state"

[[serial]]
port = "usb:E6614103E72B502C"

[[serial]]
port = "/dev/ttySIM*"
baud = 921600
framing = "console"

[udp]
listen = "127.0.0.1:0"

[nats]
hub = [
  "nats-leaf://one.example.com:7422", # a bracket in a comment ]
  "nats-leaf://two.example.com",
]
hub_credentials = "cabin.creds"
hub_timeout_s = 7.5
ignore_discovered_servers = true
store_max_bytes = 33554432
durability = "crash"

[log]
level = "debug"
format = "json"
"""


def problems(tmp_path: Path, text: str) -> list[tuple[int | None, str, str, str]]:
    path = tmp_path / "petiole.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(problem.file == str(path) for problem in caught.value.problems)
    return [(one.line, one.key, one.problem, one.meant) for one in caught.value.problems]


def test_a_gateway_needs_no_file() -> None:
    config = load(None)
    assert (config.site, config.serial, config.udp.port, config.nats.is_embedded) == ("home", (), 6363, True)
    assert config.nats.durability == "power-loss"


def test_every_setting_is_read_and_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "cabin.creds").write_text("x")
    path = tmp_path / "petiole.toml"
    path.write_text(EVERYTHING)
    config = load(path)
    assert config.site == "cabin"
    assert config.state_dir == tmp_path / "state"
    assert config.leaf_dir == tmp_path / "state" / "leaf"
    assert [(one.port, one.baud, one.framing) for one in config.serial] == [
        ("usb:E6614103E72B502C", 115200, "cobs"),
        ("/dev/ttySIM*", 921600, "console"),
    ]
    assert (config.udp.host, config.udp.port) == ("127.0.0.1", 0)
    assert config.nats.hub_credentials == tmp_path / "cabin.creds"
    assert config.nats.hub == ("nats-leaf://one.example.com:7422", "nats-leaf://two.example.com")
    assert (config.nats.hub_timeout_s, config.nats.ignore_discovered_servers) == (7.5, True)
    assert (config.log.level, config.log.format) == ("debug", "json")


def test_the_state_directory_of_systemd_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert load(None).state_dir == tmp_path / "one"
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert load(None).state_dir == tmp_path / "petiole"


@pytest.mark.parametrize(
    ("text", "line", "key", "problem", "meant"),
    [
        ('[[serial]]\nport = "/dev/a"\nbauds = 1', 3, "serial[0].bauds", "no such setting", "did you mean 'baud'?"),
        ('sight = "x"', 1, "sight", "no such setting", "did you mean 'site'?"),
        ('listen = "0.0.0.0:1"', 1, "listen", "no such setting", "'listen' belongs in [udp]"),
        ("\n\n[mqtt]\nport = 1", 3, "mqtt", "no such setting", "known here: site, state_dir"),
        ('site = "a.b"', 1, "site", "'a.b' cannot be part", "A-Z a-z 0-9 _ -"),
        ("site = 3", 1, "site", "wrong type", 'site = "home"'),
        ("\nsite = home", 2, "", "not TOML", "text needs quotes"),
        ('[serial]\nport = "/dev/a"', 1, "serial", "not a list", "[[serial]]"),
        ("[[serial]]\nbaud = 9600", 1, "serial[0].port", "missing", "usb:"),
        ('[[serial]]\nport = "ttyUSB0"', 2, "serial[0].port", "not a port", "/dev/serial/by-id"),
        ('[[serial]]\nport = "usb:"', 2, "serial[0].port", "no serial number", "by-id"),
        ('[[serial]]\nport = "/a"\nbaud = "fast"', 3, "serial[0].baud", "wrong type", "whole number"),
        ('[[serial]]\nport = "/a"\nframing = "slip"', 3, "serial[0].framing", "'slip'", "'cobs' or 'console'"),
        ('[[serial]]\nport = "/a"\n[[serial]]\nport = "/a"', 4, "serial[1].port", "twice", "once"),
        ('[udp]\nlisten = "6363"', 2, "udp.listen", "not HOST:PORT", "0.0.0.0:6363"),
        ('[udp]\nlisten = "h:99999"', 2, "udp.listen", "not HOST:PORT", "0.0.0.0:6363"),
        ("udp = 1", 1, "udp", "not a section", "[udp]"),
        ('[nats]\nurl = "http://h"', 2, "nats.url", "not the address", "nats://HOST:PORT"),
        ('[nats]\nurl = "nats://u:p@h"', 2, "nats.url", "more than an address", "keys"),
        ('[nats]\nurl = "nats://h"', 2, "nats.url", "cannot be flushed", "store_dir"),
        ('[nats]\nurl = "nats://h"\nhub = ["nats-leaf://x"]', 3, "nats.hub", "gateway starts", "leave url out"),
        ("[nats]\nlinked_to_hub = false", 2, "nats.linked_to_hub", "no url", "leave it out"),
        ('[nats]\nuser = "u"', 2, "nats.user", "no url", "url"),
        ('[nats]\nhub = ["nats-leaf://x",\n"b"]', 2, "nats.hub[1]", "'b' is not", "nats-leaf://HOST:PORT"),
        ('[nats]\nhub_credentials = "gone.creds"', 2, "nats.hub_credentials", "no file", "relative path"),
        ("[nats]\nport = 77777", 2, "nats.port", "out of range", "at most 65535"),
        ("[nats]\n\nhub_timeout_s = 1", 3, "nats.hub_timeout_s", "out of range", "at least 3"),
        ('[nats]\nhub_timeout_s = "x"', 2, "nats.hub_timeout_s", "wrong type", "a number"),
        ('[nats]\nignore_discovered_servers = "x"', 2, "nats.ignore_discovered_servers", "wrong type", "true or false"),
        ('[nats]\nurl = "nats://h"\nhub_timeout_s = 9', 3, "nats.hub_timeout_s", "gateway starts", "leave url out"),
        ("[nats]\nstore_max_bytes = 5", 2, "nats.store_max_bytes", "out of range", "at least"),
        ('[log]\nlevel = "loud"', 2, "log.level", "'loud'", "'debug', 'info'"),
    ],
)
def test_a_problem_has_its_line_and_what_is_meant(
    tmp_path: Path, text: str, line: int, key: str, problem: str, meant: str
) -> None:
    [found] = problems(tmp_path, text)
    assert found[:2] == (line, key)
    assert problem in found[2]
    assert meant in found[3]


def test_all_problems_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(tmp_path, 'sight = 1\nsite = "a b"\n[udp]\nlisten = 1\n[log]\nformat = "xml"\n')
    assert [(line, key) for line, key, _, _ in found] == [
        (1, "sight"),
        (2, "site"),
        (4, "udp.listen"),
        (6, "log.format"),
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"site = 'x'\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary.toml:2: not UTF-8"):
        load(tmp_path / "binary.toml")


def test_the_command_line_overrides_single_keys_and_is_named_in_its_problems(tmp_path: Path) -> None:
    path = tmp_path / "petiole.toml"
    path.write_text('site = "cabin"\n[udp]\nenabled = true\nlisten = "127.0.0.1:1"\n')
    config = load(path, {"udp": {"listen": "127.0.0.1:2"}, "serial": [{"port": "/dev/a"}]})
    assert (config.site, config.udp.port, config.serial[0].port) == ("cabin", 2, "/dev/a")
    with pytest.raises(ConfigError) as caught:
        load(path, {"site": "a b"})
    assert (caught.value.file, caught.value.line, caught.value.key) == ("command line", None, "site")


def test_the_smallest_store_has_room_for_the_numbers_burnt_after_a_crash() -> None:
    assert BURN_COUNT * GAP_SIZE <= MIN_STORE_BYTES // 8


def test_a_password_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "petiole.toml"
    path.write_text('[nats]\nurl = "nats://h"\nuser = "u"\npassword = "sesame"\ndurability = "crash"\n')
    assert "sesame" not in repr(load(path))


def test_lines_are_found_behind_multi_line_values() -> None:
    text = 'a = """\n[b]\nc = 1\n"""\nd.e = [\n 1, # ]\n]\n[[f]]\ng = {h = 1}\n[[f]]\ng = 2\n'
    assert key_lines(text) == {
        ("a",): 1,
        ("d",): 5,
        ("d", "e"): 5,
        ("f",): 8,
        ("f", 0): 8,
        ("f", 0, "g"): 9,
        ("f", 1): 10,
        ("f", 1, "g"): 11,
    }


def test_settings_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().site = "other"
