"""A hub made by `petiole hub`, a gateway that joins it with the credentials it was given, readings at the hub."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway.nats.binary import find_nats_server
from petiole_gateway.nats.ports import free_ports
from petiole_tools.cli import main

PETIOLE = [sys.executable, "-m", "petiole_tools"]
pytestmark = pytest.mark.timeout(90)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PETIOLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@contextmanager
def process(*command: str, code: int | None = None) -> Iterator[None]:
    """A program that runs during the block, and then ends in order."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        ended = running.wait(30)
    assert code in (None, ended), command


def wait_for(what: str, probe: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not probe():
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.1)


def on_free_ports(folder: Path) -> str:
    """Move the hub to ports that nobody has, as an administrator would: in its files. Returns the clients' address."""
    paths = [folder / "hub.json", folder / "hub1.conf"]
    for number, free in zip((4222, 7422, 8222), free_ports(3), strict=True):
        for path in paths:
            path.write_text(path.read_text().replace(str(number), str(free)))
    server = json.loads(paths[0].read_text())["servers"][0]
    return f"nats://127.0.0.1:{server['client_port']}"


def test_readings_of_a_site_reach_a_hub_made_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub = tmp_path / "hub"
    assert main(["hub", "init", str(hub), "--name", "acme", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["commands"] == [f"nats-server -c {hub / 'hub1.conf'}"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in hub.rglob("*") if path.is_file())
    url = on_free_ports(hub)

    assert main(["hub", "site", str(hub), "cabin"]) == 1
    said = capsys.readouterr()
    assert "credentials are written, but the hub does not answer" in said.err
    credentials = (hub / "sites" / "cabin.creds").read_text()

    server = str(find_nats_server().path)
    config = tmp_path / "petiole.toml"
    petiole = [*PETIOLE, "--config", str(config)]
    with ExitStack() as stack:
        stack.enter_context(process(server, "-c", str(hub / "hub1.conf")))
        wait_for("hub", lambda: main(["hub", "site", str(hub), "cabin"]) == 0)
        capsys.readouterr()
        assert main(["hub", "site", str(hub), "cabin", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["is_source"] is True
        assert (hub / "sites" / "cabin.creds").read_text() == credentials, "credentials in use are not replaced"
        config.write_text(
            f'site = "cabin"\nstate_dir = "gateway"\n[udp]\nlisten = "127.0.0.1:0"\n'
            f'[nats]\nhub = {json.dumps(answer["hub"])}\nhub_credentials = "hub/sites/cabin.creds"\n'
        )
        stack.enter_context(process(*petiole, "gateway", "run", code=0))
        wait_for("gateway", lambda: main(["--config", str(config), "status"]) == 0)
        stack.enter_context(process(*petiole, "sim", "--udp", "1", "--period", "0.2", code=143))
        at_hub = ["--server", url, "--creds", str(hub / "application.creds")]
        wait_for("stream", lambda: main([*at_hub, "watch", "--hub", "--since", "5m", "--count", "1"]) == 0)
        capsys.readouterr()
        assert main([*at_hub, "watch", "--hub", "--since", "5m", "--count", "3", "--json"]) == 0
        readings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [reading["sequence"] for reading in readings] == [1, 2, 3]
        assert {reading["device"] for reading in readings} == {"sim-udp-1"}
        assert main([*at_hub, "--site", "cabin", "request", "sim-udp-1", "add", "1", "2"]) == 0
        assert capsys.readouterr().out == "3\n"
        assert main([*at_hub, "--site", "barn", "request", "sim-udp-1", "add", "1", "2"]) == 1
        assert "no gateway of site 'barn'" in capsys.readouterr().err
        # The credentials of a site open a leaf connection and nothing else.
        assert main(["--server", url, "--creds", str(hub / "sites" / "cabin.creds"), "status"]) == 1
        assert "does not let us in" in capsys.readouterr().err


def test_a_hub_of_three_is_described_and_not_made_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hub", "init", str(tmp_path / "hub"), "--servers", "3"]
    assert main(words) == 0
    text = capsys.readouterr().out
    for number in (1, 2, 3):
        assert f"nats-server -c {tmp_path}/hub/hub{number}.conf" in text
    assert main(words) == 1
    assert "holds a hub already" in capsys.readouterr().err
    assert main(["hub", "site", str(tmp_path / "hub"), "cabin", "--offline"]) == 0
    said = capsys.readouterr()
    assert (
        'hub = ["nats-leaf://127.0.0.1:7422", "nats-leaf://127.0.0.1:7423", "nats-leaf://127.0.0.1:7424"]' in said.out
    )
    assert "does not take readings of cabin yet" in said.err
    path = tmp_path / "hub" / "sites" / "cabin.creds"
    first = path.read_text()
    assert main(["hub", "site", str(tmp_path / "hub"), "cabin", "--offline", "--renew"]) == 0
    assert path.read_text() != first


def test_servers_on_hosts_of_their_own_have_the_usual_ports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [word for number in (1, 2, 3) for word in ("--host", f"n{number}.example.com")]
    words = ["hub", "init", str(tmp_path / "hub"), "--servers", "3", *hosts, "--store-dir", "/var/lib/nats", "--json"]
    assert main(words) == 0
    servers = json.loads(capsys.readouterr().out)["servers"]
    assert [(one["host"], one["client_port"]) for one in servers] == [(f"n{i}.example.com", 4222) for i in (1, 2, 3)]
    text = (tmp_path / "hub" / "hub2.conf").read_text()
    assert '"n2.example.com:4222"' in text
    assert '"/var/lib/nats/hub2/jetstream"' in text
