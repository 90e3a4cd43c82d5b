"""The command line against a real gateway with real nodes: a process each, one leaf server, ptys and UDP."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from petiole_node import settings
from petiole_tools.cli import main
from petiole_tools.sim.runtime import find_micropython

from .cli_site import PETIOLE, Site, clean, logged, run, wait_for

NODES = {"sim-uart-1": "uart", "sim-console-1": "console", "sim-udp-1": "udp"}
# A test that waits for a line that never comes must not wait for the five minutes of all tests.
# The first one waits for all that they share, twice READY_S at most.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("cli")
    ports = folder / "ports"
    config = folder / "petiole.toml"
    config.write_text(
        f'site = "cabin"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n'
        f'[[serial]]\nport = "{ports}/ttySIM*"\n[[serial]]\nport = "{ports}/ttyACMSIM*"\nframing = "console"\n'
    )
    log = (folder / "gateway.log").open("w")
    command = [*PETIOLE, "--config", str(config)]
    gateway = subprocess.Popen([*command, "gateway", "run"], stdout=log, stderr=log, text=True, env=clean())
    try:
        wait_for("gateway", lambda: logged(folder, "gateway_started"))
        words = ["sim", "--json", "--uart", "1", "--console", "1", "--udp", "1", "--dir", str(ports), "--period", "0.5"]
        sim = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, env=clean())
        assert sim.stdout is not None
        try:
            announced = [json.loads(sim.stdout.readline()) for _ in NODES]
            found = Site(config, ports, gateway, sim, announced)

            def described() -> bool:
                return {one["device"] for one in logged(folder, "manifest_received")} >= set(NODES)

            wait_for("online nodes", described)
            yield found
        finally:
            sim.send_signal(signal.SIGINT)
            assert sim.wait(30) == 130
            sim.stdout.close()
        left = json.loads(run(config, "device", "list", "--json").stdout)["devices"]
        assert not {one["name"] for one in left} & set(NODES), "the simulation removes its devices"
        leaf = json.loads(run(config, "status", "--json").stdout)["gateways"][0]["leaf"]["pid"]
    finally:
        gateway.send_signal(signal.SIGTERM)
        code = gateway.wait(30)
        log.close()
    assert code == 0
    assert not Path(f"/proc/{leaf}").exists()


@pytest.fixture
def petiole(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, list[str]]]:
    """Run a command in this process: (exit code, standard output, lines of standard error)."""
    for name in os.environ:
        if name.startswith("PETIOLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PETIOLE_CONFIG", str(site.config))

    def run(*words: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run


Run = Callable[..., tuple[int, str, list[str]]]


def test_the_simulation_says_what_it_started(site: Site) -> None:
    runtime = "micropython" if find_micropython() else "cpython"
    assert {one["name"]: one["kind"] for one in site.announced} == NODES
    assert {one["runtime"] for one in site.announced} == {runtime}
    at = {one["kind"]: one["at"] for one in site.announced}
    assert at["uart"] == str(site.ports / "ttySIM0")
    assert at["console"] == str(site.ports / "ttyACMSIM0")
    assert at["udp"].startswith("127.0.0.1:")


def test_a_device_is_listed_and_shown(petiole: Run) -> None:
    code, text, _ = petiole("device", "list", "--json")
    assert code == 0
    row = next(one for one in json.loads(text)["devices"] if one["name"] == "sim-uart-1")
    assert row["state"] == "online"
    assert row["link"].endswith("ttySIM0")
    code, text, _ = petiole("device", "list")
    assert code == 0
    assert text.splitlines()[0].split()[:2] == ["NAME", "STATE"]
    assert "sim-console-1" in text
    code, text, _ = petiole("device", "show", "sim-udp-1", "--json")
    assert code == 0
    shown = json.loads(text)
    assert {one["name"] for one in shown["channels"]} >= {"temperature", "humidity"}
    assert "add" in {one["name"] for one in shown["commands"]}
    code, text, _ = petiole("device", "show", "sim-udp-1")
    assert code == 0
    for part in ("temperature", "Cel", "a:f [b:f]", "round trip ms", "online"):
        assert part in text


def test_a_key_is_shown_once_and_a_name_is_taken_once(petiole: Run) -> None:
    code, text, lines = petiole("device", "add", "pantry", "--json")
    assert code == 0
    key = json.loads(text)["key"]
    assert len(bytes.fromhex(key)) == 16
    assert lines == []
    assert key not in petiole("device", "show", "pantry", "--json")[1]
    code, text, lines = petiole("device", "add", "pantry")
    assert (code, text) == (1, "")
    assert lines == [
        "error: the name pantry is taken",
        "hint: it has never joined: if nobody has its key, `petiole device add pantry --replace` gives it another",
    ]
    code, _, lines = petiole("device", "add", "sim-udp-1")
    assert (code, lines[1]) == (
        1, "hint: choose another name, or remove the old device: `petiole device remove sim-udp-1`"
    )  # fmt: skip
    code, _, lines = petiole("request", "pantry", "led", "true")
    assert code == 1
    assert lines[0] == "error: pantry has not joined (503)"
    assert petiole("device", "remove", "pantry")[:2] == (0, "device pantry removed\n")
    code, _, lines = petiole("device", "show", "pantry")
    assert code == 1
    assert lines[0] == "error: no device pantry (404)"
    assert "petiole device list" in lines[1]
    code, text, lines = petiole("device", "add", "pantry", "--key", key.upper())
    assert code == 0
    assert key in text
    assert "not shown again" in lines[0]
    assert petiole("device", "remove", "pantry", "--json")[0] == 0


def test_the_settings_of_a_node_are_written_for_its_owner_only(petiole: Run, tmp_path: Path) -> None:
    path = tmp_path / "petiole.json"
    words = ["device", "add", "attic", "--output", str(path), "--link", "udp://192.168.1.20", "--link", "uart"]
    code, text, _ = petiole(*words)
    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = settings.check(str(path))
    assert found["warnings"] == []
    assert [link["kind"] for link in found["links"]] == ["udp", "uart"]
    assert found["links"][0]["host"] == "192.168.1.20"
    assert found["key"].hex() not in text
    code, _, lines = petiole(*words, "--link", "console")
    assert code == 1
    assert "is there already" in lines[0]
    assert petiole("device", "remove", "attic")[0] == 0


@pytest.mark.parametrize("device", NODES)
def test_a_command_goes_there_and_back(petiole: Run, device: str) -> None:
    assert petiole("request", device, "add", "19", "23") == (0, "42\n", [])
    assert petiole("request", device, "add", "a=2", "b=3") == (0, "5\n", [])
    code, text, _ = petiole("request", device, "echo", '{"value": {"any": [1, null, "ü"]}}')
    assert code == 0
    assert json.loads(text) == {"any": [1, None, "ü"]}


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (["nobody", "led", "true"], "no device nobody (404)", "petiole device list"),
        (["sim-udp-1", "nope"], "sim-udp-1 has no command nope", "petiole device show"),
        (["sim-udp-1", "add", "true"], "a is a number, got True (400)", "arguments"),
        (["sim-udp-1", "add"], "a is missing", "arguments"),
        (["sim-udp-1", "add", "c=1"], "no argument c", "arguments"),
        (["sim-udp-1", "fail", '"on purpose"'], "on purpose (500)", "petiole tap"),
        (["sim-udp-1", "slow", "5", "--timeout", "300ms"], "did not answer within 0.3 s (408)", "--timeout"),
    ],
)
def test_a_refused_command_says_why(petiole: Run, words: list[str], problem: str, hint: str) -> None:
    code, text, lines = petiole("request", *words)
    assert (code, text, len(lines)) == (1, "", 2)
    assert problem in lines[0]
    assert hint in lines[1]


def test_readings_are_watched_as_json_lines(petiole: Run) -> None:
    code, text, _ = petiole("watch", "--json", "--count", "6")
    assert code == 0
    readings = [json.loads(line) for line in text.splitlines()]
    assert len(readings) == 6
    for reading in readings:
        assert reading.keys() >= {"device", "name", "at", "value"}
    code, text, _ = petiole("watch", "sim-udp-1", "--count", "4")
    assert code == 0
    assert len(text.splitlines()) == 4
    assert all("sim-udp-1" in line for line in text.splitlines())


def test_frames_are_tapped_with_names_and_values(petiole: Run) -> None:
    code, text, _ = petiole("tap", "sim-uart-1", "--json", "--count", "8")
    assert code == 0
    frames = [json.loads(line) for line in text.splitlines()]
    assert {frame["device"] for frame in frames} == {"sim-uart-1"}
    assert {frame["direction"] for frame in frames} == {"up", "down"}
    kinds = {(record["kind"], record.get("channel")) for frame in frames for record in frame["records"]}
    assert ("READING", "temperature") in kinds
    code, text, _ = petiole("tap", "--hex", "--count", "6")
    assert code == 0
    assert "▲ sim-" in text
    assert "temperature" in text
    code, _, lines = petiole("tap", "nobody", "--count", "1")
    assert code == 1
    assert lines[0] == "error: no device nobody (404)"


def test_frames_are_captured_for_wireshark(site: Site, petiole: Run, tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    code, text, lines = petiole("tap", "--pcapng", str(path), "--count", "6")
    assert (code, len(text.splitlines())) == (0, 6), "what is written is shown, too"
    assert lines == [f"6 frames in {path}"]
    assert path.read_bytes()[:4] == b"\n\r\r\n"
    code, _, lines = petiole("tap", "--pcapng", str(tmp_path / "none" / "x"), "--count", "1")
    assert code == 1
    assert "no such file" in lines[0]
    # A reader that leaves ends it quietly.
    reader = site.start("tap", "--pcapng", "-")
    assert reader.stdout is not None
    assert reader.stdout.buffer.read(4) == b"\n\r\r\n"
    reader.stdout.close()
    assert reader.wait(30) == 0


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark: apt install tshark")
def test_a_running_gateway_is_seen_in_wireshark(site: Site) -> None:
    """The pipe of the documentation, with tshark at its end."""
    words = ["tap", "--pcapng", "-", "--count", "12"]
    captured = subprocess.Popen([*PETIOLE, "--config", str(site.config), *words], stdout=subprocess.PIPE, env=clean())
    lua = Path(__file__).parents[2] / "tools" / "wireshark" / "petiole.lua"
    fields = ["frame.interface_name", "petiole.device", "petiole.reading.value", "petiole.malformed"]
    command = ["tshark", "-X", f"lua_script:{lua}", "-l", "-i", "-", "-T", "fields", "-E", "separator=;"]
    done = subprocess.run(
        [*command, *(word for field in fields for word in ("-e", field))],
        stdin=captured.stdout, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert captured.stdout is not None
    captured.stdout.close()
    assert captured.wait(30) == 0
    rows = [line.split(";") for line in done.stdout.splitlines()]
    assert len(rows) == 12, done.stderr
    assert {device for _, device, *_ in rows} <= set(NODES)
    assert any(value for *_, value, _ in rows), "readings are seen with their values"
    assert not any(malformed for *_, malformed in rows)
    assert {link for link, *_ in rows} <= {"udp", *(str(path) for path in site.ports.iterdir())}


def test_the_status_has_links_store_and_leaf(petiole: Run) -> None:
    code, text, _ = petiole("status", "--json")
    assert code == 0
    (status,) = json.loads(text)["gateways"]
    assert status["site"] == "cabin"
    assert {link["kind"] for link in status["links"]} == {"serial", "udp"}
    assert status["store"]["durability"] == "power-loss"
    code, text, _ = petiole("status")
    assert code == 0
    for part in ("cabin", "ttySIM0", "no hub", "ONLINE", "synchronised"):
        assert part in text


def test_a_serial_port_that_another_program_has_is_named_in_the_status(petiole: Run, site: Site) -> None:
    ours, theirs = os.openpty()
    path = site.ports / "ttySIM9"
    fcntl.flock(theirs, fcntl.LOCK_EX)
    try:
        path.symlink_to(os.ttyname(theirs))

        def problem() -> str:
            links = json.loads(petiole("status", "--json")[1])["gateways"][0]["links"]
            return next((link["problem"] or "" for link in links if link["name"] == str(path)), "")

        wait_for("busy port", lambda: problem().endswith("is in use"))
        assert "is in use" in petiole("status")[1]
    finally:
        path.unlink()
        os.close(theirs)
        os.close(ours)


def test_another_site_is_not_answered_for(petiole: Run) -> None:
    code, _, lines = petiole("status", "--site", "barn")
    assert code == 1
    assert lines[0].startswith("error: no gateway of site 'barn' answers at nats://127.0.0.1:")
    assert "--site" in lines[1]


def test_a_server_wants_credentials(petiole: Run, site: Site) -> None:
    access = json.loads((site.config.parent / "state" / "leaf" / "leaf.json").read_text())
    code, _, lines = petiole("status", "--server", access["url"], "--site", "cabin")
    assert code == 1
    assert "does not let us in" in lines[0]
    assert "--creds" in lines[1]


def test_a_second_gateway_does_not_touch_the_state_of_the_first(site: Site) -> None:
    done = site.run("gateway", "run")
    assert done.returncode == 1
    assert "is in use by another gateway process" in done.stderr.splitlines()[-2]
    assert done.stderr.splitlines()[-1].startswith("hint: ")
    assert site.gateway.poll() is None


def test_a_fleet_reports_what_became_durable_and_takes_its_devices_away(site: Site, petiole: Run) -> None:
    fleet = site.start("sim", "--fleet", "5", "--rate", "20", "--json")
    assert fleet.stdout is not None
    reports = [json.loads(fleet.stdout.readline()) for _ in range(2)]
    fleet.send_signal(signal.SIGINT)
    _, error = fleet.communicate(timeout=30)
    assert (fleet.returncode, error) == (130, "")
    assert (reports[1]["nodes"], reports[1]["online"]) == (5, 5)
    assert reports[1]["durable"] > reports[0]["durable"] > 0
    assert "fleet" not in petiole("device", "list")[1]


def test_ctrl_c_ends_watch_and_tap_quietly(site: Site) -> None:
    for command in ("watch", "tap"):
        process = site.start(command)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
        assert (process.returncode, error) == (130, "")


def test_a_reader_that_leaves_ends_watch_quietly(site: Site) -> None:
    process = site.start("watch", "--json")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_watch_and_tap_go_on_after_the_leaf_server_was_killed(site: Site) -> None:
    pid = json.loads(site.run("status", "--json").stdout)["gateways"][0]["leaf"]["pid"]
    watchers = [site.start("watch"), site.start("tap")]
    try:
        for watcher in watchers:
            assert watcher.stdout is not None
            assert watcher.stdout.readline()
        os.kill(pid, signal.SIGKILL)
        for watcher in watchers:
            assert watcher.stderr is not None
            assert "is lost; connecting again" in watcher.stderr.readline()
            assert watcher.stdout is not None
            seen = [watcher.stdout.readline() for _ in range(40)]
            assert all(seen)
    finally:
        for watcher in watchers:
            watcher.terminate()
            watcher.communicate(timeout=20)
    assert [watcher.returncode for watcher in watchers] == [143, 143]
