"""Commands that are interrupted at moments that are told by what has happened, and what a repetition finds."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from petiole_gateway.backup_file import open_sealed
from petiole_tools.backup import PASSWORD

from .cli_site import PETIOLE, clean, logged, run, wait_for

pytestmark = pytest.mark.timeout(180)
SECRET = "a long sentence of nobody"
# `petiole`, with a line of Python before it that says when it gets the signal.
PROGRAM = """
import os, runpy, signal, sys
number = getattr(signal, sys.argv[1])
def strike():
    os.kill(os.getpid(), number)
{when}
del sys.argv[:2]
sys.argv.insert(0, "petiole")
runpy.run_module("petiole_tools", run_name="__main__", alter_sys=True)
"""
ASKED = """
from petiole_tools.client import Client
ask = Client.gateway
async def gateway(self, request, *arguments, **options):
    if request == {request!r} and {before}: strike()
    answer = await ask(self, request, *arguments, **options)
    if request == {request!r} and not {before}: strike()
    return answer
Client.gateway = gateway
"""
SEALING = """
from petiole_tools import backup
seal = backup.seal
def struck(*arguments):
    strike()
    return seal(*arguments)
backup.seal = struck
"""
WRITING = """
from petiole_tools import backup
write = backup.write_private
def struck(*arguments):
    if {before}: strike()
    write(*arguments)
    if not {before}: strike()
backup.write_private = struck
"""
# What Python tells its auditors: each import and file that is opened, code that is run, connections.
AT_EVENT = """
left = int(sys.argv.pop())
def heard(*_):
    global left
    left -= 1
    if left == 0: strike()
sys.addaudithook(heard)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The settings of a gateway that runs."""
    folder = tmp_path_factory.mktemp("interrupted")
    path = folder / "petiole.toml"
    path.write_text('site = "cabin"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n')
    with (folder / "gateway.log").open("w") as log:
        command = [*PETIOLE, "--config", str(path), "gateway", "run"]
        gateway = subprocess.Popen(command, stdout=log, stderr=log, env=clean())
        try:
            wait_for("gateway", lambda: logged(folder, "gateway_started"))
            yield path
        finally:
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(30) == 0


def struck(config: Path, number: str, when: str, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """A command that gets a signal; Python's own words would be an error whatever its end is."""
    command = [sys.executable, "-c", PROGRAM.format(when=when), number, "--config", str(config), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=clean() | more)
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr
    return done


def key_of(config: Path, name: str) -> str:
    """The device's id, which is made of its key."""
    found = json.loads(run(config, "device", "show", name, "--json").stdout)
    return str(found["id"])


# Adding a device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("before", [True, False])
def test_a_device_that_is_being_added_is_added_and_its_key_shown(config: Path, number: str, before: bool) -> None:
    when = ASKED.format(request="device.add", before=before)
    done = struck(config, number, when, "device", "add", "larder")
    assert done.returncode == 0
    assert re.search("^key [0-9a-f]{32}$", done.stdout, re.MULTILINE)
    assert run(config, "device", "remove", "larder").returncode == 0


def test_an_interruption_before_a_device_is_added_leaves_nothing(config: Path, tmp_path: Path) -> None:
    when = ASKED.format(request="device.show", before=True)
    path = tmp_path / "petiole.json"
    done = struck(config, "SIGINT", when, "device", "add", "larder", "--output", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert not path.exists()
    assert run(config, "device", "show", "larder").returncode == 1


def test_the_key_of_a_device_that_nobody_was_shown_is_replaced(config: Path) -> None:
    when = ASKED.format(request="device.add", before=False)
    assert struck(config, "SIGKILL", when, "device", "add", "larder").returncode == -signal.SIGKILL
    lost = key_of(config, "larder")
    again = run(config, "device", "add", "larder")
    assert again.returncode == 1
    assert "the name larder is taken" in again.stderr
    assert "it has never joined" in again.stderr
    assert "`petiole device add larder --replace`" in again.stderr
    assert key_of(config, "larder") == lost, "without being told to it takes no key away"
    added = run(config, "device", "add", "larder", "--replace", "--json")
    assert json.loads(added.stdout)["id"] == key_of(config, "larder") != lost
    assert run(config, "device", "remove", "larder").returncode == 0


@pytest.mark.parametrize("before", [True, False])
def test_settings_of_a_node_that_were_written_are_gone_on_with(config: Path, tmp_path: Path, before: bool) -> None:
    path = tmp_path / "petiole.json"
    words = ["device", "add", "larder", "--output", str(path), "--link", "uart"]
    when = ASKED.format(request="device.add", before=before)
    assert struck(config, "SIGKILL", when, *words).returncode == -signal.SIGKILL
    written = path.read_text()
    done = run(config, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == written
    joined = run(config, "device", "add", "larder", "--key", json.loads(written)["key"])
    assert joined.returncode == 0, "it is the key that the gateway has"
    for other in (["device", "add", "other", *words[3:]], [*words[:-1], "console"], [*words, "--key", "0" * 32]):
        refused = run(config, *other)
        assert refused.returncode == 1
        assert "is there already" in refused.stderr
    assert run(config, "device", "remove", "larder").returncode == 0


def test_no_settings_stay_of_a_device_that_was_not_added(config: Path, tmp_path: Path) -> None:
    assert run(config, "device", "add", "larder", "--key", "ab" * 16).returncode == 0
    path = tmp_path / "petiole.json"
    words = ["device", "add", "pantry", "--key", "ab" * 16, "--output", str(path)]
    refused = run(config, *words)
    assert (refused.returncode, path.exists()) == (1, False)
    assert "another device has this key" in refused.stderr
    assert run(config, "device", "remove", "larder").returncode == 0


# Backups ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_backup_that_is_interrupted_while_it_is_sealed_is_not_written(
    config: Path, tmp_path: Path, number: str, code: int
) -> None:
    path = tmp_path / "site.backup"
    done = struck(config, number, SEALING, "gateway", "backup", str(path), **{PASSWORD: SECRET})
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("before", [True, False])
def test_a_backup_that_is_being_written_is_whole_and_said_to_be(
    config: Path, tmp_path: Path, number: str, before: bool
) -> None:
    path = tmp_path / "site.backup"
    when = WRITING.format(before=before)
    done = struck(config, number, when, "gateway", "backup", str(path), **{PASSWORD: SECRET})
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert open_sealed(path.read_bytes(), SECRET)["site"] == "cabin"


def test_ctrl_c_at_the_prompt_for_a_password_ends_it_and_the_terminal_echoes_again(
    config: Path, tmp_path: Path
) -> None:
    for key, code in ((b"\x03", 130), (None, 143)):
        ours, theirs = os.openpty()
        words = [*PETIOLE, "--config", str(config), "gateway", "backup", str(tmp_path / "site.backup")]
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=clean()
        )
        try:
            shown = b""
            while b"password of the backup: " not in shown:
                shown += os.read(ours, 4096)
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            if key is not None:
                os.write(ours, key)
            else:
                process.terminate()
            assert process.wait(20) == code
            assert termios.tcgetattr(theirs)[3] & termios.ECHO
        finally:
            process.kill()
            process.wait()
            os.close(ours)
            os.close(theirs)
        assert b"Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


# Wherever it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["device", "list"],
        ["logs", "--follow"],
        ["top", "--json"],
        ["tap"],
        ["config", "check"],
    ],
    ids=" ".join,
)
def test_ctrl_c_ends_a_command_without_a_word_of_python(config: Path, words: list[str]) -> None:
    """`status` has some 6,000 of these moments from its start to its end, most of them in imports."""
    moments = random.Random(" ".join(words))
    for event in [moments.randrange(100, 6000) for _ in range(8)]:
        done = struck(config, "SIGINT", AT_EVENT, *words, str(event))
        assert done.returncode in (130, -signal.SIGINT), (event, done.stderr)
        assert done.stderr == "", event
