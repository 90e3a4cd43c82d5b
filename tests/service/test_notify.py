"""A gateway's process tells a service manager when it is ready, how it is, and that it gets on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from petiole_gateway.nats.leaf_access import read_access
from petiole_gateway.nats.leaf_pidfile import PID_FILE
from petiole_gateway.nats.leaf_server import START_TIMEOUT_S
from petiole_gateway.notify_socket import NotifySocket

from .manager import PATIENCE_S, Manager

WATCHDOG_S = 2.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path)
    yield found
    found.close()


def settings(folder: Path, port: int = 0) -> Path:
    path = folder / "gateway.toml"
    path.write_text(f'site = "barn"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:{port}"\n')
    return path


def leaf_pid(folder: Path) -> int:
    return int(json.loads((folder / "state" / "leaf" / PID_FILE).read_bytes())["pid"])


def test_a_service_is_ready_lives_withholds_its_sign_of_life_while_its_server_hangs_and_stops(
    manager: Manager, tmp_path: Path
) -> None:
    gateway = manager.start(settings(tmp_path), watchdog_s=WATCHDOG_S, log=tmp_path / "log")
    try:
        manager.wait_for("READY", lambda said: "READY" in said)
        assert not any("WATCHDOG" in said for said in manager.said)
        manager.wait_for("status", lambda said: said.get("STATUS") == "0 devices, 0 online; no hub")
        manager.wait_for("sign of life", lambda said: "WATCHDOG" in said)
        leaf = leaf_pid(tmp_path)
        environment = Path(f"/proc/{leaf}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in environment
        assert b"WATCHDOG" not in environment

        os.kill(leaf, signal.SIGSTOP)
        manager.wait_for("complaint", lambda said: "LeafProgress does not answer" in said.get("STATUS", ""))
        manager.drain()
        assert manager.hear(1.5 * WATCHDOG_S) is None, "a manager would restart it now"
        os.kill(leaf, signal.SIGCONT)
        manager.wait_for("sign of life", lambda said: "WATCHDOG" in said)
        assert any(said.get("STATUS") == "0 devices, 0 online; no hub" for said in manager.said[-3:])

        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(30) == 0
        manager.wait_for("STOPPING", lambda said: "STOPPING" in said, 1)
        assert "progress_stopped" in (tmp_path / "log").read_text()
        assert not Path(f"/proc/{leaf}").exists()
    finally:
        gateway.kill()
        gateway.wait(30)


def test_a_service_that_cannot_start_says_why_and_is_never_ready(manager: Manager, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        gateway = manager.start(settings(tmp_path, port), log=tmp_path / "log")
        assert gateway.wait(30) == 1
    while manager.hear(0.2) is not None:
        pass
    address = f"127.0.0.1:{port}"
    assert manager.said == [{"STATUS": f"not started: UDP {address}: Address already in use"}]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_waits_for_its_server_can_be_stopped_at_once(
    manager: Manager, tmp_path: Path, number: signal.Signals
) -> None:
    config = settings(tmp_path)
    config.write_text(config.read_text() + "[nats]\nleaf_unit = true\n")
    log = tmp_path / "log"
    gateway = manager.start(config, log=log)
    try:
        end = time.monotonic() + PATIENCE_S
        while b"udp_opened" not in log.read_bytes() and time.monotonic() < end:
            assert gateway.poll() is None
        gateway.send_signal(number)
        assert gateway.wait(START_TIMEOUT_S / 2) == 0
        assert b"Traceback" not in log.read_bytes()
        assert b"not healthy" not in log.read_bytes()
        while (said := manager.hear(0.2)) is not None:
            assert "READY" not in said
    finally:
        gateway.kill()
        gateway.wait(30)


def test_a_service_whose_server_came_back_on_another_port_is_started_anew(manager: Manager, tmp_path: Path) -> None:
    config = settings(tmp_path)
    config.write_text(config.read_text() + "[nats]\nleaf_unit = true\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
    command = [sys.executable, "-m", "petiole_tools", "--config", str(config), "gateway", "leaf"]
    with ExitStack() as stack:

        def run_leaf() -> subprocess.Popen[bytes]:
            log = stack.enter_context((tmp_path / "leaf.log").open("ab"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            return process

        leaf = run_leaf()
        gateway = manager.start(config, watchdog_s=WATCHDOG_S, log=tmp_path / "log")
        stack.callback(gateway.wait, 30)
        stack.callback(gateway.kill)
        manager.wait_for("sign of life", lambda said: "WATCHDOG" in said)
        leaf.kill()
        leaf.wait(30)
        taken = stack.enter_context(socket.socket())
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", urlsplit(read_access(tmp_path / "state" / "leaf").url).port))
        taken.listen()
        run_leaf()
        manager.wait_for("complaint", lambda said: "has moved to another port" in said.get("STATUS", ""))
        manager.drain()
        assert manager.hear(1.5 * WATCHDOG_S) is None, "a manager would restart it now"


def test_without_a_watchdog_there_is_a_status_and_no_sign_of_life(manager: Manager, tmp_path: Path) -> None:
    gateway = manager.start(settings(tmp_path), log=tmp_path / "log")
    try:
        manager.wait_for("READY", lambda said: "READY" in said)
        manager.wait_for("status", lambda said: "STATUS" in said)
        gateway.send_signal(signal.SIGINT)
        assert gateway.wait(30) == 0
        manager.wait_for("STOPPING", lambda said: "STOPPING" in said, 1)
        assert not any("WATCHDOG" in said for said in manager.said)
    finally:
        gateway.kill()
        gateway.wait(30)


def test_what_the_manager_has_set_is_taken_out_of_the_environment() -> None:
    own = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    found = NotifySocket.take(own)
    assert (found.address, found.watchdog_s, own) == ("/run/x", 1.5, {"HOME": "/"})
    of_another = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}
    assert NotifySocket.take(of_another).watchdog_s is None
    for odd in ("", "0", "soon", "-5"):
        assert NotifySocket.take({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": odd}).watchdog_s is None
    assert NotifySocket.take({}).address is None


def test_a_value_with_a_line_break_stays_one_value_also_in_the_abstract_space() -> None:
    name = f"petiole-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        assert NotifySocket(f"@{name}").tell(READY=1, STATUS="one\nSTOPPING=1\r\ntwo")
        assert sock.recv(4096) == b"READY=1\nSTATUS=one STOPPING=1 two"


def test_nobody_to_tell_is_no_error() -> None:
    assert NotifySocket().tell(READY=1) is False
    gone = NotifySocket("/nonexistent/notify")
    assert gone.tell(READY=1) is False
    assert gone.problem == "No such file or directory"
