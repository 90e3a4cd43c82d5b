"""The log as people, the journal and programs get it; and that lines about a device say so."""

import ast
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway import journal
from petiole_gateway.journal import datagram
from petiole_gateway.log import with_device

GATEWAY = Path(__file__).parents[2] / "gateway" / "petiole_gateway"
SAYS = """
import sys
from petiole_gateway.log import configure
logger = configure(sys.argv[1], sys.argv[2])
logger.debug("not_said")
logger.info("device_joined", device="kitchen", link="udp")
logger.warning("mail_unreadable", subject="down.barn.door.open.x1")
try:
    1 / 0
except ZeroDivisionError:
    logger.error("task_failed", exc_info=True)
"""


def said(level: str, form: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SAYS, level, form],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, **environment},
    )
    assert done.stdout == "", "the log is not data"
    return done.stderr


def test_a_pipe_gets_one_json_document_a_line() -> None:
    lines = [json.loads(line) for line in said("info", "auto").splitlines()]
    assert [line["event"] for line in lines] == ["device_joined", "mail_unreadable", "task_failed"]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert [line.get("device") for line in lines] == ["kitchen", "door", None]
    assert "ZeroDivisionError" in lines[2]["exception"]
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_the_level_says_what_is_left_out() -> None:
    assert [json.loads(line)["event"] for line in said("warning", "json").splitlines()] == [
        "mail_unreadable",
        "task_failed",
    ]
    assert "not_said" in said("debug", "json")


def test_a_terminal_gets_text_with_colours_unless_they_are_not_wanted() -> None:
    for wanted, environment in ((True, {}), (False, {"NO_COLOR": "1"})):
        ours, theirs = pty.openpty()
        subprocess.run(
            [sys.executable, "-c", SAYS, "info", "auto"],
            stderr=theirs,
            check=True,
            timeout=30,
            env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **environment},
        )
        os.close(theirs)
        text = os.read(ours, 65536).decode()
        os.close(ours)
        assert "device_joined" in text
        assert ("\x1b[" in text) == wanted
        assert "{" not in text.splitlines()[0]


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket like that of the journal; names of AF_UNIX sockets are short."""
    path = tmp_path / "journal"
    monkeypatch.setattr(journal, "SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(10)
        yield sock


def parsed(data: bytes) -> dict[str, str]:
    """What the journal makes of a datagram."""
    found: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, data = rest[8 : 8 + length], rest[8 + length + 1 :]
        else:
            data = rest
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


def test_the_journal_gets_fields(journald: socket.socket) -> None:
    logger = journal.JournalLogger(sys.stderr, journal.SOCKET)
    logger.msg({"event": "device_joined", "level": "warning", "device": "kitchen", "boot": 7, "none": None})
    assert parsed(journald.recv(65536)) == {
        "MESSAGE": "device_joined device=kitchen boot=7 none=null",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "petiole",
        "PETIOLE_EVENT": "device_joined",
        "PETIOLE_DEVICE": "kitchen",
        "PETIOLE_BOOT": "7",
    }


def test_no_text_of_a_device_makes_a_field_of_its_own() -> None:
    odd = "led on\nPRIORITY=0\nMESSAGE=all is well"
    found = parsed(datagram({"event": "node_log", "level": "info", "text": odd}))
    assert found["PETIOLE_TEXT"] == odd
    assert found["PRIORITY"] == "6"
    assert set(found) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "PETIOLE_EVENT", "PETIOLE_TEXT"}
    assert len(datagram({"event": "x", "level": "info", "text": "y" * 1_000_000})) < 3 * journal.MAX_VALUE


def test_what_the_journal_does_not_take_goes_to_the_stream(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        journal.JournalLogger(stream, tmp_path / "nobody").msg({"event": "device_joined", "level": "info"})
        stream.seek(0)
        assert json.load(stream) == {"event": "device_joined", "level": "info"}


def test_the_journal_is_used_where_systemd_connected_us_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert not journal.is_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert journal.is_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert not journal.is_journal(stream)


@pytest.mark.parametrize(
    ("event", "device"),
    [
        ({"subject": "dev.barn.door.open"}, "door"),
        ({"subject": "event.barn.door.mailbox"}, "door"),
        ({"subject": "dev.barn.door.open", "device": "gate"}, "gate"),
        ({"subject": "$KV.mailbox.barn.door.x1"}, "door"),
        ({"subject": "gw.barn.device.list"}, None),
        ({"subject": "up"}, None),
        ({"subject": 5}, None),
    ],
)
def test_a_subject_of_a_device_names_the_device(event: dict[str, Any], device: str | None) -> None:
    assert with_device(None, "info", dict(event)).get("device") == device


# Events about one device. Those about a link, the leaf or the gateway have none.
ABOUT_DEVICES = (
    *("device_", "session_", "manifest_", "request_not", "join_", "node_log"),
    *("counters_used", "sequence_unknown", "mailbox_report"),
)


def test_every_line_about_a_device_names_it() -> None:
    seen = 0
    for path in sorted(GATEWAY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr not in ("debug", "info", "warning", "error") or not node.args:
                continue
            event = node.args[0]
            if isinstance(event, ast.Constant) and str(event.value).startswith(ABOUT_DEVICES):
                seen += 1
                given = {keyword.arg for keyword in node.keywords}
                assert given & {"device", "subject"}, f"{path.name}:{node.lineno} {event.value}"
    assert seen >= 15


def test_the_environment_says_how_to_log_and_a_wrong_word_is_explained(tmp_path: Path) -> None:
    environment = {**os.environ, "PETIOLE_LOG_FORMAT": "xml", "PETIOLE_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "petiole_tools", "gateway", "run"],
        capture_output=True, text=True, check=False, timeout=30, env=environment,
    )  # fmt: skip
    assert done.returncode == 1
    assert "log.format" in done.stderr
    assert "journal" in done.stderr, "the hint lists what there is"
