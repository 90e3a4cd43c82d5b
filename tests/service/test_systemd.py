"""The Debian package and its service under a real systemd: installed, started, crashed, hung, upgraded, removed.

Where no system can be started the notify socket (test_notify.py) is all that is tested; the summary says so.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from petiole_tools.debian_package import build
from petiole_tools.service import places

from .debian_root import System, missing

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing()), reason=f"no real systemd, only the notify socket is tested: {missing()}"),
]
# The unit's 90 s of patience are for an SD card.
WATCHDOG = "[Service]\nWatchdogSec=6\nRestartSec=1\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("debian")
    found = System(folder)
    try:
        found.boot()
        shutil.copy(package, found.in_root("/root/petiole.deb"))
        yield found
    finally:
        found.halt()
        shutil.rmtree(folder, ignore_errors=True)


def drop_in(system: System, name: str, text: str) -> None:
    """A change of the unit for this test."""
    folder = system.in_root("/etc/systemd/system/petiole-gateway.service.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.conf").write_text(text)
    system.run("systemctl", "daemon-reload", check=True)


def active(system: System) -> bool:
    return system.show("ActiveState") == "active"


def leaf_pid(system: System) -> int:
    path = system.in_root(f"{places.PRIVATE_STATE_DIR}/leaf/leaf.pid.json")
    return int(json.loads(path.read_bytes())["pid"])


def test_the_package_installs_and_its_service_starts(system: System) -> None:
    system.run("dpkg", "-i", "/root/petiole.deb", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    assert system.show("UnitFileState") == "enabled"
    assert system.show("StatusText") == "0 devices, 0 online; no hub"
    assert system.show("NRestarts") == "0"
    assert system.run("systemctl", "list-units", "--failed", "--no-legend").stdout == ""

    state = system.in_root(str(places.PRIVATE_STATE_DIR)).stat()
    assert state.st_mode & 0o777 == 0o700
    assert state.st_uid >= 61184, "of a dynamic user"
    key = system.in_root(str(places.KEY_FILE))
    assert (key.stat().st_uid, key.stat().st_mode & 0o777, key.stat().st_size) == (0, 0o600, 32)
    assert not (system.in_root(str(places.PRIVATE_STATE_DIR)) / "registry.key").exists(), "it has root's"
    # Under the filter of system calls it still may ask whether the clock is right.
    document = json.loads(system.run("petiole", "--json", "status", check=True).stdout)
    assert document["gateways"][0]["clock"] in ("synchronised", "unsynchronised")


def test_devices_can_be_added_and_survive_a_restart(system: System) -> None:
    system.run("petiole", "device", "add", "kitchen", check=True)
    before = system.show("MainPID")
    system.run("systemctl", "restart", "petiole-gateway", check=True)
    assert system.show("MainPID") != before
    assert "kitchen" in system.run("petiole", "device", "list", check=True).stdout
    assert "leaf_server_ended" not in system.journal(), "the gateway ends its server, not systemd"


def test_a_crash_is_started_again_with_its_leaf_server(system: System) -> None:
    drop_in(system, "watchdog", WATCHDOG)
    system.run("systemctl", "restart", "petiole-gateway", check=True)
    leaf = leaf_pid(system)
    system.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "petiole-gateway", check=True)
    system.wait_for("restart", lambda: system.show("NRestarts") == "1" and active(system), 60)
    assert leaf_pid(system) != leaf
    assert "kitchen" in system.run("petiole", "device", "list", check=True).stdout


@pytest.mark.parametrize("victim", ["gateway", "leaf server"])
def test_a_hang_is_ended_by_the_watchdog(system: System, victim: str) -> None:
    restarts = int(system.show("NRestarts"))
    main, leaf = int(system.show("MainPID")), leaf_pid(system)
    os.kill(system.outer_pid(main if victim == "gateway" else leaf), signal.SIGSTOP)
    system.wait_for("restart", lambda: int(system.show("NRestarts")) > restarts and active(system), 120)
    assert int(system.show("MainPID")) != main
    assert leaf_pid(system) != leaf
    assert "Watchdog timeout" in system.run("journalctl", "-u", "petiole-gateway", "--no-pager", "-n", "80").stdout
    assert "kitchen" in system.run("petiole", "device", "list", check=True).stdout


def test_it_is_started_again_when_somebody_else_has_ended_it(system: System) -> None:
    restarts = int(system.show("NRestarts"))
    system.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", "petiole-gateway", check=True)
    system.wait_for("restart", lambda: int(system.show("NRestarts")) > restarts and active(system), 60)


def test_it_stops_in_order_and_in_time(system: System) -> None:
    system.run("systemctl", "stop", "petiole-gateway", check=True, timeout_s=60)
    assert (system.show("Result"), system.show("ExecMainStatus")) == ("success", "0")
    assert "gateway_stopped" in system.journal()
    system.run("systemctl", "start", "petiole-gateway", check=True)


def test_an_upgrade_restarts_and_keeps_what_its_owner_has_changed(system: System) -> None:
    config = system.in_root(str(places.CONFIG_FILE))
    config.write_text(config.read_text().replace("#level", "level"))
    edited, before = config.read_text(), system.show("MainPID")
    system.run("dpkg", "-i", "/root/petiole.deb", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    assert system.show("MainPID") != before
    assert config.read_text() == edited
    assert "kitchen" in system.run("petiole", "device", "list", check=True).stdout


def test_wrong_settings_are_named_in_the_journal_and_it_comes_back_when_they_are_corrected(system: System) -> None:
    config = system.in_root(str(places.CONFIG_FILE))
    good = config.read_text()
    config.write_text(good + "\n[udp2]\n")
    system.run("systemctl", "restart", "petiole-gateway")
    system.wait_for("complaint", lambda: "udp2: there is no such setting" in system.journal(), 60)
    config.write_text(good)
    system.wait_for("running gateway", lambda: active(system), 60)


def test_a_removal_keeps_devices_and_a_purge_leaves_nothing(system: System) -> None:
    system.run("dpkg", "-r", "petiole", check=True)
    assert not active(system)
    assert not system.in_root("/usr/lib/petiole").exists()
    assert system.in_root(str(places.KEY_FILE)).exists()
    system.run("dpkg", "-i", "/root/petiole.deb", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    assert "kitchen" in system.run("petiole", "device", "list", check=True).stdout

    system.run("dpkg", "-P", "petiole", check=True)
    assert not active(system)
    shutil.rmtree(system.in_root("/etc/systemd/system/petiole-gateway.service.d"))  # this test's own
    assert leftovers(system) == []


def leftovers(system: System) -> list[str]:
    command = "find / -xdev -name '*petiole*' -not -path '/proc/*' -not -path '/root/*' -not -path '/home/*'"
    return system.run("sh", "-c", command).stdout.split()


def test_install_makes_a_service_of_a_program_in_somebodys_home(system: System) -> None:
    program = "/home/pi/petiole/bin/petiole"
    move = f"""
        mkdir -p /home/pi && dpkg-deb -x /root/petiole.deb /root/x && mv /root/x/usr/lib/petiole /home/pi/petiole
        sed -i 's,/usr/lib/petiole,/home/pi/petiole,' {program} && chmod 700 /home/pi
    """
    system.run("sh", "-ec", move, check=True)
    told = system.run(program, "gateway", "install", check=True).stdout
    assert f"wrote {places.UNIT_FILE}" in told
    system.wait_for("running gateway", lambda: active(system), 120)
    cli = [program, "--config", str(places.CONFIG_FILE)]
    system.run(*cli, "device", "add", "attic", check=True)
    assert "everything was up to date" in system.run(program, "gateway", "install", check=True).stdout

    system.run(program, "gateway", "uninstall", check=True)
    assert not active(system)
    system.run(program, "gateway", "install", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    assert "attic" in system.run(*cli, "device", "list", check=True).stdout
    system.run(program, "gateway", "uninstall", "--purge", check=True)
    assert leftovers(system) == []


def test_a_leaf_server_of_its_own_outlives_the_gateway_and_is_started_again(system: System) -> None:
    program = "/home/pi/petiole/bin/petiole"
    cli = [program, "--config", str(places.CONFIG_FILE)]

    def leaf() -> int:
        return int(system.run("systemctl", "show", places.LEAF_UNIT, "-P", "MainPID").stdout)

    system.run(program, "gateway", "install", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    system.run(*cli, "device", "add", "loft", check=True)
    system.run(program, "gateway", "install", "--leaf-unit", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    first = leaf()
    assert first == leaf_pid(system), "the service is the server"
    assert "loft" in system.run(*cli, "device", "list", check=True).stdout, "the store is the same"

    gateway = system.show("MainPID")
    system.run("systemctl", "restart", "petiole-gateway", check=True)
    assert system.show("MainPID") != gateway
    assert leaf() == first
    gateway = system.show("MainPID")
    system.run("systemctl", "kill", "--signal=KILL", places.LEAF_UNIT, check=True)
    system.wait_for("another leaf server", lambda: leaf() not in (0, first), 60)
    listed = system.wait_for("an answer", lambda: system.run(*cli, "device", "list").stdout, 60)
    assert "loft" in listed
    assert system.show("MainPID") == gateway, "the gateway went on"

    system.run(program, "gateway", "install", "--no-leaf-unit", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    assert leaf() == 0
    assert "loft" in system.run(*cli, "device", "list", check=True).stdout
    system.run(program, "gateway", "install", "--leaf-unit", check=True)
    system.run(program, "gateway", "uninstall", "--purge", check=True)
    assert leaf() == 0
    assert leftovers(system) == []


def test_a_service_is_restored_from_its_backup_by_root(system: System) -> None:
    password = ["env", "PETIOLE_BACKUP_PASSWORD=a long sentence of nobody"]
    system.run("dpkg", "-i", "/root/petiole.deb", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    system.run("petiole", "device", "add", "cellar", check=True)
    system.run(*password, "petiole", "gateway", "backup", "/root/site.backup", check=True)
    system.run("dpkg", "-P", "petiole", check=True)
    system.run("dpkg", "-i", "/root/petiole.deb", check=True)
    system.wait_for("running gateway", lambda: active(system), 120)
    system.run("systemctl", "stop", "petiole-gateway", check=True)
    system.run(*password, "petiole", "gateway", "restore", "/root/site.backup", "--trust-clock", check=True)
    system.run("systemctl", "start", "petiole-gateway", check=True)
    assert "cellar" in system.run("petiole", "device", "list", check=True).stdout
