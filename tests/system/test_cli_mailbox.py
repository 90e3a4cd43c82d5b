"""Mail from the command line to a node on a real MicroPython that is away, and then comes."""

import asyncio
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway.nats.mailbox_streams import BOX_SIZE
from petiole_tools.cli import main
from petiole_tools.sim.nodes import NodeSpec, SimNode

PETIOLE = [sys.executable, "-m", "petiole_tools"]
APP = Path(__file__).resolve().parents[1] / "node" / "wake_app.py"
pytestmark = pytest.mark.timeout(120)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}


class Site:
    """A gateway in a process of its own; `sim` runs one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "petiole.toml"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.udp_port = int(sock.getsockname()[1])
        self.config.write_text(f'site = "cabin"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:{self.udp_port}"\n')
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> "subprocess.Popen[str]":
        command = [*PETIOLE, "--config", str(self.config), *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean(), start_new_session=True
        )
        self.processes.append(process)
        return process

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [*PETIOLE, "--config", str(self.config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, env=clean())

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def states(self, device: str) -> dict[str, str]:
        return {item["id"]: item["state"] for item in self.json("mailbox", device)["items"]}

    def until(self, what: str, probe: Any, timeout_s: float = 60) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = probe()
            if found:
                return found
        pytest.fail(f"no {what} within {timeout_s:g} s")

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("mail"))
    try:
        site.start("gateway", "run")
        site.until("gateway", lambda: site.run("status").returncode == 0)
        yield site
    finally:
        site.end()


async def test_mail_waits_for_a_device_and_is_carried_out_when_it_comes(site: Site) -> None:
    added = site.json("device", "add", "shed")
    spec = NodeSpec("shed", bytes.fromhex(added["key"]), "udp", gateway=("127.0.0.1", site.udp_port))
    until = functools.partial(asyncio.to_thread, site.until)  # the node's link lives in this loop
    async with SimNode(spec, site.folder / "node"):
        await until("node", lambda: site.run("request", "shed", "ping").returncode == 0)
    first = site.json("send", "shed", "ping", "--expires", "10m")["id"]
    async with SimNode(spec, site.folder / "node"):
        await until("end", lambda: site.states("shed").get(first) == "delivered")


@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_a_handler_that_is_cut_short_ends_in_a_later_wake_of_a_second(site: Site, sleep: str) -> None:
    """The node wakes again long before a gateway would take its silence for sleep."""
    added = site.json("device", "add", sleep)
    spec = NodeSpec(
        sleep, bytes.fromhex(added["key"]), "udp", ("127.0.0.1", site.udp_port), app=APP, runtime="micropython",
        settings={"period_s": 1, "sleep": sleep, "awake_ms": 800},
    )  # fmt: skip
    until = functools.partial(asyncio.to_thread, site.until)
    node = SimNode(spec, site.folder / sleep)
    async with node:
        await until("node", lambda: site.json("device", "show", sleep)["sequence"] > 1)
        sent = site.json("send", sleep, "slow", "[60000]", "--expires", "10m")["id"]
        await until("end", lambda: site.states(sleep)[sent] in ("delivered", "failed"))
    assert site.states(sleep)[sent] == "delivered"
    assert (node.folder / "executed.txt").read_text() == "slow False\nslow True\n"


def test_errors_are_one_line_and_a_hint(site: Site) -> None:
    for words in (
        ("send", "sim-udp-1", "ping", "--expires", "90d"),
        ("send", "bad name", "ping"),
        ("send", "sim-udp-1", "ping", "--expires", "soon"),
        ("mailbox", "sim-udp-1", "--cancel", "nosuchitem"),
        ("request", "nobody", "ping", "--wait", "10s"),
    ):
        done = site.run(*words)
        assert done.returncode == 1, words
        lines = done.stderr.splitlines()
        assert [line.split(":")[0] for line in lines] == ["error", "hint"], done.stderr
        assert done.stdout == ""


def test_where_no_server_answers_mail_says_so_as_requests_do(site: Site) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = f"nats://127.0.0.1:{sock.getsockname()[1]}"
    for words in (("send", "barn", "ping"), ("mailbox", "barn"), ("request", "barn", "ping")):
        done = site.run("--server", nobody, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines() == [
            f"error: no NATS server answers at {nobody}",
            "hint: is the gateway running? `petiole gateway run` starts one",
        ]
    target = ("--server", json.loads((site.folder / "state/leaf/leaf.json").read_text())["url"], "--user", "nobody")
    for words in (("send", "barn", "ping"), ("request", "barn", "ping")):
        done = site.run(*target, *words)
        assert (done.returncode, done.stdout) == (1, "")
        error, hint = done.stderr.splitlines()
        assert error.endswith("does not let us in")
        assert "--creds FILE" in hint


def test_what_is_wanted_of_a_devices_wakes_is_kept_until_it_is_taken_back(site: Site) -> None:
    site.run("device", "add", "barn")
    assert site.run("device", "policy", "barn").stdout == "barn: wakes as its application says\n"
    asked = site.run("device", "policy", "barn", "--period", "10m", "--spacing", "2s")
    assert asked.stdout == "barn: wakes every 10 min, leaves 2 s between its frames, not heard yet\n"
    assert asked.stderr == "barn is offline; it is told when it wakes\n"
    awake = site.json("device", "awake", "barn", "5m")["wake_policy"]
    assert (awake["period_s"], awake["spacing_s"], awake["awake_s"], awake["heard_at"]) == (600, 2.0, 300, None)
    assert "stays awake for 5 min, not heard yet" in site.run("device", "show", "barn").stdout
    late = site.run("device", "awake", "barn", "--wait", "1s")
    assert (late.returncode, late.stdout) == (1, "")
    assert late.stderr.splitlines()[-2:] == [
        "error: barn has not woken within 1 s",
        "hint: it is told whenever it wakes; `petiole device awake barn 0` takes it back",
    ]
    assert site.run("device", "policy", "barn", "--clear").stdout == "barn: wakes as its application says\n"
    for words in (
        ("policy", "barn", "--period", "31d"),
        ("policy", "barn", "--period", "often"),
        ("policy", "barn", "--clear", "--period", "1m"),
        ("policy", "nobody", "--period", "1m"),
        ("awake", "barn", "61m"),
    ):
        done = site.run("device", *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"], done.stderr


def test_what_waits_is_replaced_cancelled_and_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - clean().keys():
        monkeypatch.delenv(name)
    site.run("device", "add", "absent")
    keyed = [site.json("send", "absent", "ping", "--key", "k")["id"] for _ in range(3)]
    taken_back = site.json("send", "absent", "ping")["id"]
    cancelled = site.run("mailbox", "absent", "--cancel", taken_back)
    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    assert cancelled.stdout == f"{taken_back} is cancelled\n"
    states = site.states("absent")
    assert states == {keyed[0]: "replaced", keyed[1]: "replaced", keyed[2]: "pending", taken_back: "cancelled"}
    again = site.run("mailbox", "absent", "--cancel", taken_back)
    assert (again.returncode, again.stdout) == (0, f"{taken_back} is cancelled\n")
    late = site.run("mailbox", "absent", "--cancel", keyed[0])
    assert (late.returncode, late.stderr.splitlines()[0]) == (1, f"error: {keyed[0]} is replaced already")
    waiting = 0  # without a key; the one with a key has a place of its own
    while main(["--config", str(site.config), "send", "absent", "ping"]) == 0:  # a process each would take a minute
        waiting += 1
        assert waiting <= BOX_SIZE
    full = site.run("send", "absent", "ping")
    assert full.stderr.startswith("error: the mailbox of absent at cabin is full")


def test_a_request_that_waits_gets_the_late_answer(site: Site) -> None:
    site.run("device", "add", "later")
    waiting = site.start("request", "later", "ping", "--wait", "60s")
    assert waiting.stderr is not None
    line = waiting.stderr.readline()
    assert line.startswith("later is offline; queued as "), line
    id = line.split()[-1]
    site.until("state", lambda: site.states("later").get(id) == "pending")
    waiting.send_signal(signal.SIGINT)
    _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert f"--cancel {id}" in errors
    assert site.states("later")[id] == "pending"
