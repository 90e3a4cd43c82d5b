"""`petiole gateway install`: the files that it writes are what systemd wants, and what is there already is kept."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from petiole_gateway.nats.private_file import read_private
from petiole_tools.cli import main
from petiole_tools.service import places
from petiole_tools.service.unit import gateway_unit, leaf_server_unit

# Of 10. What is left: serial ports, the network, netlink, /proc (the kernel's boot id), and the question whether the
# clock is right. That is systemd 252's figure, others weigh a little differently.
MAX_EXPOSURE = {places.UNIT: 1.9, places.LEAF_UNIT: 1.4}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: install the Debian package systemd"
)


class Image:
    """A root that files are written below."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def at(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def petiole(self, *words: str) -> tuple[int, list[str], list[str]]:
        self._capsys.readouterr()
        code = main([*words, "--root", str(self.root)])
        told = self._capsys.readouterr()
        return code, told.out.splitlines(), told.err.splitlines()

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def image(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Image:
    for name in os.environ:
        if name.startswith("PETIOLE_"):
            monkeypatch.delenv(name)
    root = tmp_path / "image"
    root.mkdir()
    return Image(root, capsys)


def test_a_dry_run_shows_every_file_and_command_and_changes_nothing(image: Image) -> None:
    code, out, _ = image.petiole("gateway", "install", "--dry-run")
    assert code == 0
    assert image.files() == {}
    text = "\n".join(out)
    for path in (places.UNIT_FILE, places.UDEV_FILE, places.CONFIG_FILE, places.KEY_FILE):
        assert f"write   {path}, mode" in text
    assert f"    ExecStart={Path(sys.executable).with_name('petiole')} --config {places.CONFIG_FILE} gateway run" in out
    assert "    (32 random bytes)" in out
    assert f"run     systemctl enable {places.UNIT}" in out
    assert image.petiole("gateway", "install", "--dry-run")[1] == out


def test_installing_again_changes_nothing_and_an_upgrade_only_what_differs(image: Image) -> None:
    assert image.petiole("gateway", "install")[0] == 0
    first = image.files()
    assert len(read_private(image.at(places.KEY_FILE))) == 32
    assert image.at(places.CREDENTIALS_DIR).stat().st_mode & 0o777 == 0o700
    assert image.petiole("gateway", "install") == (0, ["everything was up to date"], [])
    assert image.files() == first

    unit = image.at(places.UNIT_FILE)
    unit.write_text(unit.read_text().replace("RestartSec=5", "RestartSec=50"))  # of an older petiole
    config = image.at(places.CONFIG_FILE)
    config.write_text('site = "barn"\nstate_dir = "/var/lib/petiole"\n')  # edited by its owner
    assert image.petiole("gateway", "install")[1] == [f"wrote {places.UNIT_FILE}"]
    assert image.files() == {**first, str(config): config.read_bytes()}


def test_settings_and_the_credentials_that_they_name_come_along(image: Image, tmp_path: Path) -> None:
    given = tmp_path / "mine.toml"
    (tmp_path / "cabin.creds").write_text("the hub's")
    given.write_text('site = "cabin"\n[nats]\nhub = ["nats-leaf://hub"]\nhub_credentials = "cabin.creds"\n')
    assert image.petiole("--config", str(given), "gateway", "install")[0] == 0
    assert read_private(image.at(places.CREDENTIALS_DIR) / "cabin.creds") == b"the hub's"
    assert image.at(places.CONFIG_FILE).read_text().endswith(given.read_text())
    assert main(["config", "check", str(image.at(places.CONFIG_FILE))]) == 0
    assert image.petiole("--config", str(given), "gateway", "install")[1] == ["everything was up to date"]


def test_the_key_of_a_service_that_had_it_beside_its_store_is_kept(image: Image) -> None:
    old = image.at(places.PRIVATE_STATE_DIR) / "registry.key"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"k" * 32)
    assert image.petiole("gateway", "install")[0] == 0
    assert image.at(places.KEY_FILE).read_bytes() == b"k" * 32


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("sites = 3\n", "there is no such setting", "did you mean 'site'?"),
        ('state_dir = "/srv/p"\n', "state_dir is /srv/p", "leave state_dir out"),
        (
            '[nats]\nurl = "nats://h:1"\nstore_dir = "/"\nuser = "a"\npassword = "b"\n',
            "readable by everyone",
            "credentials",
        ),
    ],
)
def test_settings_that_cannot_be_a_services_are_refused_before_anything_is_written(
    image: Image, tmp_path: Path, text: str, problem: str, hint: str
) -> None:
    given = tmp_path / "mine.toml"
    given.write_text(text)
    code, _, err = image.petiole("--config", str(given), "gateway", "install")
    assert (code, len(err)) == (1, 2)
    assert problem in err[0]
    assert hint in err[1]
    assert image.files() == {}


def test_other_settings_another_unit_and_the_debian_package_are_not_overwritten(image: Image, tmp_path: Path) -> None:
    assert image.petiole("gateway", "install")[0] == 0
    given = tmp_path / "mine.toml"
    given.write_text('site = "cabin"\n')
    code, _, err = image.petiole("--config", str(given), "gateway", "install")
    assert code == 1
    assert err[0] == f"error: {places.CONFIG_FILE} exists and says something else than {given}"

    by_hand = "[Service]\nExecStart=/usr/bin/petiole gateway run\n"
    image.at(places.UNIT_FILE).write_text(by_hand)
    for words in (["gateway", "install"], ["gateway", "uninstall"]):
        code, _, err = image.petiole(*words)
        assert code == 1
        assert "that petiole has not written" in err[0]
    assert image.at(places.UNIT_FILE).read_text() == by_hand

    image.at(places.UNIT_FILE).unlink()
    packaged = image.at(places.PACKAGED_UNIT_FILE)
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    assert "the Debian package" in image.petiole("gateway", "install")[2][0]
    assert image.petiole("gateway", "uninstall", "--purge")[2][1] == "hint: sudo apt purge petiole"


def test_uninstalling_keeps_settings_keys_and_state_and_a_purge_does_not(image: Image) -> None:
    state = image.at(places.PRIVATE_STATE_DIR)
    assert image.petiole("gateway", "install")[0] == 0
    (state / "leaf").mkdir(parents=True)
    kept = {path: data for path, data in image.files().items() if "/etc/petiole/" in path}
    assert image.petiole("gateway", "uninstall")[0] == 0
    assert image.files() == kept
    assert state.is_dir()
    assert image.petiole("gateway", "uninstall")[2][0] == "error: no service is installed here"
    assert image.petiole("gateway", "uninstall", "--purge")[0] == 0
    assert image.files() == {}
    assert not state.exists()


def test_a_leaf_server_of_its_own_comes_stays_and_goes(image: Image) -> None:
    def ran(*words: str) -> list[str]:
        return [
            line.removeprefix("run     systemctl ")
            for line in image.petiole(*words, "--dry-run")[1]
            if line.startswith("run     systemctl ")
        ]

    assert image.petiole("gateway", "install")[0] == 0
    before = image.files()
    assert ran("gateway", "install", "--leaf-unit") == [
        f"stop {places.UNIT}",  # one store has one server
        "daemon-reload",
        f"enable {places.LEAF_UNIT}",
        f"restart {places.LEAF_UNIT}",
        f"enable {places.UNIT}",
        f"restart {places.UNIT}",
    ]
    assert image.petiole("gateway", "install", "--leaf-unit")[1] == [
        f"wrote {places.UNIT_FILE}",
        f"wrote {places.LEAF_UNIT_FILE}",
    ]
    text = image.at(places.UNIT_FILE).read_text()
    assert " gateway run --leaf-unit\n" in text
    assert f"Wants={places.LEAF_UNIT}\n" in text
    assert " gateway leaf\n" in image.at(places.LEAF_UNIT_FILE).read_text()

    assert image.petiole("gateway", "install")[1] == ["everything was up to date"], "as it is"
    # It outlives an upgrade of the gateway.
    assert f"start {places.LEAF_UNIT}" in ran("gateway", "install")
    assert f"stop {places.UNIT}" not in ran("gateway", "install")

    assert ran("gateway", "install", "--no-leaf-unit")[:2] == [
        f"stop {places.UNIT}",
        f"disable --now {places.LEAF_UNIT}",
    ]
    assert image.petiole("gateway", "install", "--no-leaf-unit")[0] == 0
    assert image.files() == before

    assert image.petiole("gateway", "install", "--leaf-unit")[0] == 0
    assert f"disable --now {places.LEAF_UNIT}" in ran("gateway", "uninstall")
    assert image.petiole("gateway", "uninstall", "--purge")[0] == 0
    assert image.files() == {}


def test_a_server_that_runs_elsewhere_is_none_to_make_a_service_of(image: Image, tmp_path: Path) -> None:
    given = tmp_path / "mine.toml"
    given.write_text('[nats]\nurl = "nats://h:1"\nstore_dir = "/"\n')
    code, _, err = image.petiole("--config", str(given), "gateway", "install", "--leaf-unit")
    assert (code, len(err)) == (1, 2)
    assert "url names a server that runs" in err[0]
    assert image.files() == {}


def test_who_is_not_root_is_told_the_whole_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) == "/run/systemd/system" or is_dir(path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["petiole", "gateway", "install"])
    assert main(["gateway", "install"]) == 1
    program = Path(sys.executable).with_name("petiole")
    assert capsys.readouterr().err.splitlines() == [
        "error: a service is installed by root",
        f"hint: sudo {program} gateway install",
    ]


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="this machine is run by systemd")
def test_a_machine_without_systemd_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "install"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == "error: this system is not run by systemd"


@pytest.mark.parametrize("folder", ["/opt/petiole", "/home/pi/.local/pipx/venvs/petiole", "/tmp/petiole"])
def test_a_program_in_a_folder_that_services_do_not_see_is_made_visible(folder: str) -> None:
    lines = gateway_unit(Path("/usr/bin/true"), visible=[Path(folder), Path("/usr")]).splitlines()
    assert (f"BindReadOnlyPaths={folder}" in lines) == (folder != "/opt/petiole")
    assert ("ProtectHome=tmpfs" if folder.startswith("/home") else "ProtectHome=yes") in lines


UNITS = {
    places.UNIT: lambda: gateway_unit(Path("/usr/bin/true"), has_leaf_unit=True),
    places.LEAF_UNIT: lambda: leaf_server_unit(Path("/usr/bin/true")),
}


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, name: str) -> None:
    for each, text in UNITS.items():
        (tmp_path / each).write_text(text())
    unit = tmp_path / name
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    unit.write_text(unit.read_text().replace("Restart=always", "Restart=always\nKillMode=gently"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "kill mode" in done.stderr, "it would have found one"


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_service_is_exposed_no_more_than_it_must(tmp_path: Path, name: str) -> None:
    exposure = exposed(tmp_path / name, lambda text: text)
    assert exposure <= MAX_EXPOSURE[name]
    assert exposed(tmp_path / name, lambda text: text.replace("CapabilityBoundingSet=\n", "")) > exposure


def exposed(unit: Path, change: Callable[[str], str]) -> float:
    unit.write_text(change(UNITS[unit.name]()))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return float(done.stdout.rpartition("service:")[2].split()[0])
