"""The annotated example and the list of all settings are what the gateway reads, and nothing is missing."""

import json
import os
import re
from pathlib import Path

import pytest

from petiole_gateway.settings.config import Config, ConfigError, SerialConfig, load
from petiole_gateway.settings.example import example, settings, table
from petiole_tools.cli import main

ROOT = Path(__file__).parents[2]
SETTING = re.compile(r"#([a-z_]+) = ")
# What only goes together with others.
COMPANIONS = {
    "credentials": 'url = "nats://h:1"\nstore_dir = "/"\n',
    "user": 'url = "nats://h:1"\nstore_dir = "/"\npassword = "x"\n',
    "password": 'url = "nats://h:1"\nstore_dir = "/"\nuser = "x"\n',
    "store_dir": 'url = "nats://h:1"\n',
    "linked_to_hub": 'url = "nats://h:1"\nstore_dir = "/"\n',
    "url": 'store_dir = "/"\n',
    "hub_credentials": 'hub = ["nats-leaf://h:1"]\n',
    "framing": 'port = "/dev/x"\n',
    "baud": 'port = "/dev/x"\n',
}


def test_the_example_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "petiole.toml"
    path.write_text(example())
    assert load(path) == load(None)


@pytest.mark.parametrize("setting", list(settings()), ids=lambda one: f"{one.section}.{one.key}")
def test_every_line_of_the_example_is_a_setting_that_can_be_used(setting: object, tmp_path: Path) -> None:
    section, key, shown = (getattr(setting, name) for name in ("section", "key", "example"))
    (tmp_path / "gateway.creds").touch()
    (tmp_path / "cabin.creds").touch()
    (tmp_path / "nats-server").touch()
    header = "" if not section else "[[serial]]\n" if section == "serial" else f"[{section}]\n"
    path = tmp_path / "petiole.toml"
    path.write_text(f"{header}{COMPANIONS.get(key, '')}{key} = {shown}\n")
    load(path)


def test_every_key_of_every_section_is_in_the_example() -> None:
    named: dict[str, set[str]] = {"": set()}
    section = ""
    for line in example().splitlines():
        header = re.fullmatch(r"#?\[\[?([a-z]+)\]\]?", line)
        if header:
            section = header[1]
        found = SETTING.match(line)
        if found:
            named.setdefault(section, set()).add(found[1])
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    for name, keys in named.items():
        model = Config if not name else SerialConfig if name == "serial" else sections[name]
        assert keys | (set(named) if not name else set()) == set(model.model_fields) | ({""} if not name else set())


def test_the_list_of_settings_is_current() -> None:
    hint = "run: python -m petiole_tools.make_settings docs/settings.md"
    assert (ROOT / "docs" / "settings.md").read_text() == table(), hint


def test_check_names_file_line_key_and_what_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('site = "cabin"\n\n[udp]\nlisten = "6363"\n[nats]\nhubs = []\n')
    assert main(["config", "check", str(path)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"error: {path} has 2 problems",
        f"  {path}:4: udp.listen: '6363' is not HOST:PORT (for example \"0.0.0.0:6363\"; port 0 takes any free one)",
        f"  {path}:6: nats.hubs: there is no such setting (did you mean 'hub'?)",
        "hint: correct them all",
    ]
    assert main(["config", "check", "--json", str(path)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [(one["line"], one["key"], one["meant"]) for one in document["problems"]] == [
        (4, "udp.listen", 'for example "0.0.0.0:6363"; port 0 takes any free one'),
        (6, "nats.hubs", "did you mean 'hub'?"),
    ]


def test_check_says_what_good_settings_come_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('site = "cabin"\nstate_dir = "/var/lib/petiole"\n[[serial]]\nport = "usb:123"\n')
    assert main(["--config", str(path), "config", "check"]) == 0
    assert capsys.readouterr().out == (
        f"{path}: no problem; site cabin, usb:123, UDP 0.0.0.0:6363, no hub, state in /var/lib/petiole\n"
    )
    assert main(["config", "check"]) == 1
    assert "no settings file is named" in capsys.readouterr().err


def test_a_secret_that_the_service_manager_has_loaded_comes_before_its_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[nats]\nhub = ["nats-leaf://h"]\nhub_credentials = "cabin.creds"\n')
    with pytest.raises(ConfigError, match="there is no file"):
        load(path)
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "cabin.creds").touch()
    assert load(path).nats.hub_credentials == folder / "cabin.creds"
    copies = tmp_path / "run"
    copies.mkdir()
    (copies / "petiole_cabin.creds").touch()
    monkeypatch.setitem(os.environ, "CREDENTIALS_DIRECTORY", str(copies))
    assert load(path).nats.hub_credentials == copies / "petiole_cabin.creds"
