"""`petiole doctor`: each finding on machines that are ill in one way, and the whole of it on this one."""

import asyncio
import base64
import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway.settings.config import Config, SerialConfig
from petiole_tools.doctor import disk, machine, reach, serial_ports
from petiole_tools.doctor.diagnosis import ERROR, NOTE, OK, WARNING, Diagnosis
from petiole_tools.doctor.examination import examine, of_service
from petiole_tools.options import Options
from petiole_tools.service import places
from tests.gateway.whole import SITE, World

GB = 1000**3


def put(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def mounts(root: Path, *lines: str) -> None:
    put(root, "proc/self/mountinfo", "".join(f"{line}\n" for line in lines))


def card(root: Path, *, written: int, uptime_s: float, size: int = 16 * GB, name: str = "mmcblk0", **told: str) -> None:
    """An SD card or eMMC with a partition at /, as /sys shows it."""
    mounts(root, f"1 0 179:2 / / rw,noatime - ext4 /dev/{name}p2 rw")
    put(root, f"sys/block/{name}/stat", f"1 1 1 1 1 1 {written // 512} 1 1 1 1")
    put(root, f"sys/block/{name}/size", str(size // 512))
    put(root, f"sys/block/{name}/{name}p2/partition", "2")
    put(root, f"sys/block/{name}/{name}p2/stat", "0 0 0 0 0 0 0 0 0 0 0")
    for file, text in told.items():
        put(root, f"sys/block/{name}/device/{file}", text)
    put(root, "proc/uptime", f"{uptime_s} 1.0")
    link = root / "sys/dev/block/179:2"
    link.parent.mkdir(parents=True)
    link.symlink_to(root / f"sys/block/{name}/{name}p2")


def found(diagnoses: Any, code: str) -> Diagnosis:
    [one] = [each for each in diagnoses if each.code == code]
    assert isinstance(one, Diagnosis)
    if one.severity in (ERROR, WARNING):
        assert one.hint, f"{code} says not what to do"
    return one


def looked(root: Path, folder: str = "/var/lib/petiole") -> list[Diagnosis]:
    return list(disk.look(Path(folder), GB, root))


@pytest.mark.parametrize(
    ("line", "severity", "meaning"),
    [
        ("1 0 8:1 / / rw - ext4 /dev/sda1 rw", OK, ""),
        ("1 0 8:1 / / rw - tmpfs tmpfs rw", ERROR, "gone after a restart"),
        ("1 0 8:1 / / rw - nfs4 server:/x rw", ERROR, "cannot be known"),
        ("1 0 8:1 / / rw - vfat /dev/sda1 rw", WARNING, "power cut"),
        ("1 0 8:1 / / rw - ext4 /dev/sda1 rw,nobarrier", WARNING, "power cut"),
        ("1 0 8:1 / / ro - ext4 /dev/sda1 ro", ERROR, "nothing can be stored"),
        ("1 0 8:1 / / rw - overlay overlay rw,upperdir=/media/root-rw/overlay", WARNING, "in memory"),
        ("1 0 8:1 / / rw - overlay overlay rw,upperdir=/var/lib/docker/x", OK, ""),
    ],
)
def test_file_systems_that_lose_readings_are_told(tmp_path: Path, line: str, severity: str, meaning: str) -> None:
    mounts(tmp_path, line)
    one = found(looked(tmp_path), "file_system")
    assert one.severity == severity
    assert meaning in one.meaning


def test_the_innermost_mount_and_of_two_the_later_one_counts(tmp_path: Path) -> None:
    mounts(
        tmp_path,
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
        "2 1 8:2 / /var rw - ext4 /dev/sda2 rw",
        "3 1 8:3 / /var rw - xfs /dev/sda3 rw",
        "4 1 8:4 / /var/lib/pet rw - tmpfs tmpfs rw",
        "5 1 8:5 / /with\\040space rw - btrfs /dev/sda5 rw",
    )
    for path, kind in (("/var/lib/petiole", "xfs"), ("/home", "ext4"), ("/with space/x", "btrfs")):
        mount = disk.mount_of(Path(path), tmp_path)
        assert mount is not None
        assert mount.kind == kind, path


def test_a_card_that_is_written_to_death_is_told_and_one_that_is_not(tmp_path: Path) -> None:
    day = 86400.0
    card(tmp_path / "a", written=2 * GB, uptime_s=2 * day)
    one = found(looked(tmp_path / "a"), "wear")
    assert (one.severity, "1000 MB a day" in one.found) == (OK, True)
    card(tmp_path / "b", written=20 * 30 * GB, uptime_s=20 * day, size=8 * GB)
    one = found(looked(tmp_path / "b"), "wear")
    assert one.severity == WARNING
    assert "0.1 years" in one.found
    assert "guess" in one.found, "it is none of a measurement"
    card(tmp_path / "c", written=GB, uptime_s=60)
    assert found(looked(tmp_path / "c"), "wear").severity == NOTE
    card(tmp_path / "d", written=500 * GB, uptime_s=day, name="nvme0n1")
    assert found(looked(tmp_path / "d"), "wear").severity == OK


@pytest.mark.parametrize(
    ("life", "end", "severity"),
    [
        ("0x01 0x02", "0x01", OK),
        ("0x08 0x03", "0x01", WARNING),
        ("0x0b 0x01", "0x01", ERROR),
        ("0x01 0x01", "0x02", ERROR),
        ("0x00 0x00", "0x00", NOTE),
    ],
)
def test_what_an_emmc_says_of_itself_is_passed_on(tmp_path: Path, life: str, end: str, severity: str) -> None:
    card(tmp_path, written=GB, uptime_s=86400, life_time=life, pre_eol_info=end)
    assert found(looked(tmp_path), "life_time").severity == severity


def test_room_is_measured_against_what_the_store_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(tmp_path, "1 0 8:1 / / rw - ext4 /dev/sda1 rw")
    real = os.statvfs("/")
    for free, severity in ((100 * 10**6, ERROR), (GB, WARNING), (2 * GB, OK)):
        values = list(real)
        values[0] = values[1] = 1
        values[4] = free
        monkeypatch.setattr(os, "statvfs", lambda path, values=values: os.statvfs_result(values))
        assert found(looked(tmp_path), "disk_space").severity == severity, free


def test_a_data_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mounts(tmp_path, "1 0 8:1 / / rw - ext4 /dev/sda1 rw")
    assert found(looked(tmp_path, str(tmp_path / "file")), "data_folder").severity == ERROR
    assert found(looked(tmp_path, str(tmp_path / "new" / "deep")), "data_folder").severity == OK


def test_the_clock_and_who_should_set_it(tmp_path: Path) -> None:
    assert machine.clock(lambda: False, tmp_path).severity == OK
    alone = machine.clock(lambda: True, tmp_path)
    assert (alone.severity, "no time service" in alone.found) == (WARNING, True)
    put(tmp_path, "proc/17/comm", "chronyd\n")
    waiting = machine.clock(lambda: True, tmp_path)
    assert "chronyd runs" in waiting.found
    assert "123" in waiting.hint


@pytest.mark.parametrize(
    ("bits", "severity"), [("0x0", OK), ("0x50005", ERROR), ("0x50000", WARNING), ("0x4", WARNING)]
)
def test_what_a_raspberry_pi_says_of_its_supply(tmp_path: Path, bits: str, severity: str) -> None:
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", bits)
    assert found(machine.power(tmp_path), "power").severity == severity
    assert list(machine.power(tmp_path / "elsewhere")) == []


def test_a_server_program_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETIOLE_NATS_SERVER", "/nowhere/nats-server")
    one = machine.server(None)
    assert (one.severity, bool(one.hint)) == (ERROR, True)
    monkeypatch.delenv("PETIOLE_NATS_SERVER")
    assert machine.server(None).severity == OK


# Ports ------------------------------------------------------------------------------------------------------


def test_a_port_that_is_free_missing_no_port_or_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    os.close(theirs)
    try:
        assert serial_ports.port(path, path).severity == OK
        monkeypatch.setattr(os, "access", lambda *_: False)
        denied = serial_ports.port(path, "usb:1234")
        assert (denied.code, denied.severity) == ("port_denied", ERROR)
        assert denied.hint
    finally:
        os.close(ours)
    monkeypatch.undo()
    assert "does not exist" in serial_ports.port(str(tmp_path / "ttyUSB0"), "x").found
    (tmp_path / "file").write_text("")
    assert "no serial port" in serial_ports.port(str(tmp_path / "file"), "x").found


def test_a_port_that_another_program_has_names_the_program() -> None:
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import sys; file = open({path!r}); print(); sys.stdout.flush(); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        busy = serial_ports.port(path, path)
        assert (busy.code, busy.severity) == ("port_busy", WARNING)
        assert f"process {holder.pid}" in busy.found
        assert serial_ports.port(path, path, frozenset({holder.pid})).severity == OK, "the gateway may have it"
    finally:
        holder.communicate()
        os.close(ours)
        os.close(theirs)


def test_a_pattern_without_a_port_and_a_number_that_is_not_there() -> None:
    entries = [SerialConfig(port="/nowhere/tty*"), SerialConfig(port="usb:NOSUCHNUMBER")]
    severities = [each.severity for each in serial_ports.look(entries) if each.code == "port"]
    assert severities == [WARNING, ERROR]
    assert found(serial_ports.look([]), "ports").severity == NOTE


# What is to be reached --------------------------------------------------------------------------------------


async def test_each_address_of_the_hub_is_dialled(tmp_path: Path) -> None:
    async def say(text: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        writer.close()

    hub = await asyncio.start_server(lambda _, w: say(b'INFO {"server_id":"x"}\r\n', w), "127.0.0.1", 0)
    other = await asyncio.start_server(lambda _, w: say(b"SSH-2.0-OpenSSH\r\n", w), "127.0.0.1", 0)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()[1]
        ports = [hub.sockets[0].getsockname()[1], other.sockets[0].getsockname()[1], closed]
        urls = [f"nats-leaf://127.0.0.1:{port}" for port in ports]
        answers = await reach.hub(Config.model_validate({"state_dir": str(tmp_path), "nats": {"hub": urls}}))
    for server in (hub, other):
        server.close()
        await server.wait_closed()
    assert [each.severity for each in answers] == [OK, ERROR, WARNING]
    assert all(each.hint for each in answers[1:])


def test_a_port_for_nodes_that_somebody_has_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{sock.getsockname()[1]}"
        config = Config.model_validate({"state_dir": str(tmp_path), "udp": {"listen": listen}})
        assert reach.udp(config, is_running=False).severity == ERROR
        assert reach.udp(config, is_running=True).severity == OK
    assert reach.udp(config, is_running=False).severity == OK


def credentials(path: Path, **claims: Any) -> Config:
    body = base64.urlsafe_b64encode(json.dumps({"name": "barn", **claims}).encode()).decode().rstrip("=")
    path.write_text(f"-----BEGIN NATS USER JWT-----\nx.{body}.y\n------END NATS USER JWT------\n")
    path.chmod(0o600)
    nats = {"hub": ["nats-leaf://hub:7422"], "hub_credentials": str(path)}
    return Config.model_validate({"state_dir": str(path.parent), "nats": nats})


def test_credentials_that_have_expired_or_soon_will(tmp_path: Path) -> None:
    path, now = tmp_path / "barn.creds", 1_800_000_000.0
    for claims, severity in (
        ({}, OK),
        ({"exp": now + 90 * 86400}, OK),
        ({"exp": now + 86400}, WARNING),
        ({"exp": now - 1}, ERROR),
        ({"exp": "never"}, OK),
    ):
        config = credentials(path, **claims)
        assert found(reach.secrets(config, now=now), "credentials").severity == severity, claims
    path.chmod(0o644)
    assert found(reach.secrets(config, now=now), "secret").severity == WARNING
    path.write_text("nonsense")
    assert found(reach.secrets(config, now=now), "credentials").severity == ERROR


# The whole --------------------------------------------------------------------------------------------------


def doctor(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PETIOLE_")}
    return subprocess.run(
        [sys.executable, "-m", "petiole_tools", *words],
        capture_output=True, text=True, timeout=60, check=False, env={**clean, **environment},
    )  # fmt: skip


def test_it_works_without_a_gateway_and_as_json(tmp_path: Path) -> None:
    config = tmp_path / "petiole.toml"
    config.write_text('state_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n[[serial]]\nport = "/nowhere/ttyX"\n')
    done = doctor("--config", str(config), "doctor", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["healthy"], done.stderr) == (1, False, ""), "a port of the settings is not there"
    by_code = {each["code"]: each for each in said["diagnoses"]}
    assert by_code["port"]["severity"] == "error"
    assert by_code["gateway"]["severity"] == "note"
    assert {"about", "settings", "clock", "server", "udp", "disk_space", "file_system"} <= set(by_code)
    assert not (tmp_path / "state").exists(), "nothing is changed"


def test_settings_that_are_wrong_are_named_with_their_line(tmp_path: Path) -> None:
    config = tmp_path / "petiole.toml"
    config.write_text('site = "my site"\n')
    done = doctor("--config", str(config), "doctor")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("error")
    assert "petiole.toml:1" in done.stdout
    assert "1 error" in done.stdout.splitlines()[-1]


def test_where_there_is_a_service_its_settings_and_data_are_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "CONFIG_FILE", tmp_path / "gateway.toml")
    assert of_service(Options()) == Options(), "there is none"
    (tmp_path / "gateway.toml").write_text('site = "barn"\n')
    found = of_service(Options())
    assert (found.config, found.state_dir) == (tmp_path / "gateway.toml", places.STATE_DIR)
    named = Options(state_dir=tmp_path)
    assert of_service(named) == named
    (tmp_path / "gateway.toml").write_text('state_dir = "elsewhere"\n')
    assert of_service(Options()).settings().state_dir == tmp_path / "elsewhere"


async def test_a_running_gateway_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        await world.start()
        seen = {each.code: each for each in await examine(Options(state_dir=world.config.state_dir, site=SITE))}
    finally:
        await world.end()
    assert seen["gateway"].severity == OK
    assert SITE in seen["gateway"].found
    assert seen["secret"].severity == OK, "its key is there, and closed"
    assert "is the gateway's" in seen["udp"].found
