"""The command line by itself: help, and what it says when something is wrong. No gateway runs here."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from petiole_tools.cli import app, global_first, main

PETIOLE = [sys.executable, "-m", "petiole_tools"]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PETIOLE_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def all_commands() -> list[list[str]]:
    def walk(command: object, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*path, name])

    return list(walk(typer.main.get_command(app), []))


def failure(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit code and the lines on standard error; nothing may be on standard output."""
    code = main(words)
    said = capsys.readouterr()
    assert said.out == ""
    return code, said.err.splitlines()


@pytest.mark.parametrize("words", all_commands(), ids=lambda words: " ".join(words) or "petiole")
def test_the_help_of_every_command_has_an_example_of_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    example = text.partition("Examples:")[2]
    assert f"petiole {' '.join(words)}".strip() in example.replace("petiole --server", "petiole")


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from petiole_tools.cli import main; main(['--help']);"
        "heavy = {'nats', 'pydantic', 'structlog', 'serial', 'cryptography'} & set(sys.modules);"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_before_the_program_has_begun_says_nothing() -> None:
    code = (
        "import os, runpy, signal, sys\n"
        "class Meanwhile:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'petiole_tools.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Meanwhile())\n"
        "sys.argv = ['petiole', '--version']\n"
        "runpy.run_module('petiole_tools', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


NO_GATEWAY = "error: no gateway has run here: there is no "


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["device", "list"],
        ["device", "add", "kitchen"],
        ["device", "show", "kitchen"],
        ["device", "remove", "kitchen"],
        ["request", "kitchen", "led", "true"],
        ["watch"],
        ["tap"],
        ["sim"],
    ],
    ids=" ".join,
)
def test_without_a_gateway_every_command_says_so(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = failure(words, capsys)
    assert code == 1
    assert len(lines) == 2
    assert lines[0].startswith(NO_GATEWAY)
    assert lines[1] == "hint: start one with `petiole gateway run`, or name a server with --server nats://HOST:PORT"


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (["device", "add", "a.b"], "device name 'a.b' cannot be part of a NATS subject", "1 to 32 characters"),
        (["device", "add", "a b"], "device name 'a b'", "1 to 32 characters"),
        (["device", "add", "x" * 33], "device name", "1 to 32 characters"),
        (["device", "show", "*"], "device name '*'", "1 to 32 characters"),
        (["request", ">", "led"], "device name '>'", "1 to 32 characters"),
        (["request", "kitchen", "led.x"], "command name 'led.x'", "1 to 32 characters"),
        (["watch", "a.b"], "device name 'a.b'", "1 to 32 characters"),
        (["tap", "a.b"], "device name 'a.b'", "1 to 32 characters"),
        (["--site", "a.b", "status"], "command line: site: 'a.b'", "1 to 32 characters"),
        (["device", "add", "x", "--key", "12"], "32 hexadecimal digits are wanted, not 2", "a new key is made"),
        (["device", "add", "x", "--link", "uart"], "no file is given", "--output"),
        (["device", "add", "x", "--output", "/no/where.json"], "there is no folder /no", "make it"),
        (["device", "add", "x", "--output", "o", "--link", "tcp://h"], "'tcp://h' is not a link", "udp://HOST:PORT"),
        (["device", "add", "x", "--output", "o", "--link", "udp://h:x"], "no usable port", "udp://HOST:PORT"),
        (["request", "a", "b", "on"], "argument 1 is not JSON: on", "'\"on\"'"),
        (["request", "a", "b", "1", "{"], "argument 2 is not JSON: {", "name={"),
        (["request", "a", "b", "x=1", "2"], "'2' has no name", "all arguments, or none"),
        (["request", "a", "b", "x=[1"], "x is not JSON: [1", "pairs"),
        (["request", "a", "b", "--timeout", "soon"], "'soon' is not a duration", "5s"),
        (["watch", "--since", "1h"], "--since needs --hub", "watch --hub --since"),
        (["watch", "--hub"], "--hub needs the address", "--server"),
        (["sim", "--loss", "200%"], "'200%' is not a share", "5%"),
        (["sim", "--nodes", "99"], "99 nodes are more than", "fewer"),
        (["sim", "--fleet", "3", "--loss", "5%"], "--fleet goes with --rate", "separately"),
        (["sim", "--fleet", "9999"], "--fleet 9999: more than", "several"),
        (["sim", "--delay", "x"], "'x' is not a duration", "5s"),
        (["hub", "init", "h", "--servers", "2"], "a hub has 1 server or 3", "2 would not"),
        (["hub", "init", "h", "--servers", "3", "--host", "a"], "1 hosts for 3 servers", "once for each"),
        (["hub", "init", "h", "--tls-cert", "gone"], "there is no file gone", "--tls-cert"),
        (["hub", "site", "h", "cabin"], "there is no hub in h", "petiole hub init h"),
        (["hub", "site", "h", "a.b"], "site 'a.b'", "1 to 32 characters"),
        (["gateway", "run", "--udp", "6363"], "command line: udp.listen: '6363' is not HOST:PORT", "0.0.0.0"),
        (["gateway", "run", "--serial", "ttyUSB0"], "serial[0].port: 'ttyUSB0' is not a port", "by-id"),
        (["gateway", "run", "--serial", "/dev/a,slip"], "serial[0].framing: 'slip'", "'cobs' or 'console'"),
        (["gateway", "run", "--hub-creds", "gone"], "there is no file", "relative path"),
        (["status", "--config", "gone.toml"], "gone.toml: no such file", "check the path"),
        (["config", "check", "gone.toml"], "gone.toml: no such file", "check the path"),
        (["status", "--server", "nats://127.0.0.1:1"], "no NATS server answers at nats://127.0.0.1:1", "gateway run"),
        (["status", "--server", "nats://h", "--creds", "gone"], "no credentials file gone", "--creds"),
    ],
)
def test_a_mistake_is_answered_with_one_problem_and_one_hint(
    words: list[str], problem: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = failure(words, capsys)
    assert code == 1
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert problem in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (["device", "lst"], "no such command 'lst'", "petiole device --help"),
        (["watch", "--count", "many"], "invalid value for '--count'", "petiole watch --help"),
        (["watch", "--colour"], "no such option", "petiole watch --help"),
        (["request"], "missing argument", "petiole request --help"),
        (["status", "--site"], "invalid value: --site has none", "petiole --help"),
    ],
)
def test_wrong_usage_exits_with_2(
    words: list[str], problem: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = failure(words, capsys)
    assert code == 2
    assert len(lines) == 2
    assert problem in lines[0].lower()
    assert hint in lines[1]


def test_a_broken_settings_file_is_named_with_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "petiole.toml"
    path.write_text('site = "home"\n[[serial]]\nport = "/dev/a"\nbauds = 9600\n')
    code, lines = failure(["gateway", "run", "--config", str(path)], capsys)
    assert code == 1
    assert lines == [f"error: {path}:4: serial[0].bauds: there is no such setting", "hint: did you mean 'baud'?"]
    path.write_text("sight = 1\n[log]\nlevel = 3\n")
    code, lines = failure(["status", "--config", str(path)], capsys)
    assert code == 1
    assert lines[0] == f"error: {path} has 2 problems"
    assert [line.split(": ")[0] for line in lines[1:3]] == [f"  {path}:1", f"  {path}:3"]
    assert lines[3] == "hint: correct them all"


def test_the_settings_file_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PETIOLE_CONFIG", str(tmp_path / "gone.toml"))
    assert "gone.toml: no such file" in failure(["status"], capsys)[1][0]


def test_a_udp_port_that_is_taken_ends_the_gateway(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["gateway", "run", "--udp", address, "--state-dir", str(tmp_path / "gateway")]
        done = subprocess.run([*PETIOLE, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    *_, problem, hint = done.stderr.splitlines()
    assert problem == f"error: UDP {address}: Address already in use"
    assert hint == "hint: is another gateway running? set [udp] listen to another port"


def test_a_nats_port_that_is_taken_ends_the_gateway_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "petiole.toml").write_text(
            f'state_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n[nats]\nport = {port}\n'
        )
        words = ["gateway", "run", "--config", "petiole.toml"]
        done = subprocess.run([*PETIOLE, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    problem, hint = done.stderr.splitlines()[-2:]
    assert problem == f"error: the leaf server did not start: port {port} is taken by another program"
    assert hint.startswith("hint: name another port in [nats] port")


def test_a_micropython_that_is_named_and_not_there_is_an_error_and_not_another_runtime(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICROPYTHON", "/nowhere/micropython")
    code, lines = failure(["sim", "--nodes", "1"], capsys)
    assert code == 1
    assert lines[0] == "error: MICROPYTHON=/nowhere/micropython is not a program"
    assert "MICROPYTHON" in lines[1]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--debug"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "error: no gateway has run here" in said


def test_sigterm_ends_a_command_in_order(tmp_path: Path) -> None:
    """A server that accepts and never speaks: the command waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"nats://127.0.0.1:{server.getsockname()[1]}"
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            process = subprocess.Popen([*PETIOLE, "status", "--server", url], stderr=subprocess.PIPE)
            connection, _ = server.accept()
            with connection:
                time.sleep(0.2)
                process.send_signal(number)
                assert process.wait(20) == code
            assert process.stderr is not None
            assert process.stderr.read() == b""
            process.stderr.close()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["device", "list", "--json"], ["--json", "device", "list"]),
        (["watch", "--site", "cabin", "kitchen"], ["--site", "cabin", "watch", "kitchen"]),
        (["watch", "--site=cabin"], ["--site=cabin", "watch"]),
        (["request", "a", "b", "--", "--json"], ["request", "a", "b", "--", "--json"]),
        (["gateway", "run", "--hub", "x", "--config", "f"], ["--config", "f", "gateway", "run", "--hub", "x"]),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], meant: list[str]) -> None:
    assert global_first(given) == meant
