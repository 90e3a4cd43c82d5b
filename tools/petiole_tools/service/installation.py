"""`petiole gateway install` and `uninstall`: the gateway as a service of systemd."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import petiole_gateway
from petiole_gateway.settings.config import Config, load
from petiole_tools.failure import CliError

from . import places
from .plan import NewFile, Plan
from .udev import udev_rules
from .unit import gateway_unit, leaf_server_unit

_STATE_LINE = f'state_dir = "{places.STATE_DIR}"  # the service\'s; systemd makes it\n'
_KEY_SIZE = 32
_UDEV_SOCKET = Path("/run/udev/control")


@dataclass(frozen=True, slots=True)
class Target:
    """`root` other than "/": files are written below it, for an image, and nothing is run."""

    root: Path = Path("/")
    dry_run: bool = False

    @property
    def is_here(self) -> bool:
        return self.root == Path("/")

    def check(self) -> None:
        """CliError where this cannot be done."""
        if not self.is_here and not self.root.is_dir():
            raise CliError(f"there is no folder {self.root}", "--root names the root of a system, an image perhaps")
        if self.dry_run or not self.is_here:
            return
        if not Path("/run/systemd/system").is_dir():
            raise CliError(
                "this system is not run by systemd",
                "have its init start `petiole gateway run`, or write files for another system with --root DIR",
            )
        if os.geteuid() != 0:
            words = " ".join(word for word in sys.argv[1:] if word != "--debug")
            raise CliError("a service is installed by root", f"sudo {_program()} {words}")


def install_plan(target: Target, given: Path | None, leaf_unit: bool | None = None) -> Plan:
    """What has to be done for a service with the settings file `given`, or the ones that are there, or an example.

    `leaf_unit`: whether the leaf server is a service of its own; None: as it is.
    CliError or ConfigError, before anything is done, for what cannot become a service.
    """
    plan = Plan(target.root)
    _check_units(plan)
    text, config = _settings(plan, given)
    had_leaf = plan.at(places.LEAF_UNIT_FILE).exists()
    has_leaf = had_leaf if leaf_unit is None else leaf_unit
    if has_leaf and not config.nats.is_embedded:
        raise CliError(
            "[nats] url names a server that runs, so there is none to make a service of", "leave out url or --leaf-unit"
        )
    unit = gateway_unit(_program(), visible=_folders(), has_leaf_unit=has_leaf)
    plan.folders = {places.CONFIG_FILE.parent: 0o755, places.CREDENTIALS_DIR: 0o700}
    plan.files = [
        NewFile(places.KEY_FILE, lambda: _key(plan), 0o600, f"({_KEY_SIZE} random bytes)", keep=True),
        *_credentials(config, given),
        NewFile(places.CONFIG_FILE, text.encode, keep=given is None),
        NewFile(places.UDEV_FILE, udev_rules().encode),
        NewFile(places.UNIT_FILE, unit.encode),
    ]
    leaf_commands: list[list[str]] = []
    if has_leaf:
        leaf = NewFile(places.LEAF_UNIT_FILE, leaf_server_unit(_program(), visible=_folders()).encode)
        plan.files.append(leaf)
        verb = "restart" if plan.changes(leaf) else "start"  # it outlives upgrades of the gateway
        leaf_commands = [["systemctl", "enable", places.LEAF_UNIT], ["systemctl", verb, places.LEAF_UNIT]]
    if had_leaf and not has_leaf:
        plan.gone.append(places.LEAF_UNIT_FILE)
        plan.before.append(["systemctl", "disable", "--now", places.LEAF_UNIT])
    if had_leaf != has_leaf and plan.at(places.UNIT_FILE).exists():
        # One store has one server: who has run it has ended before the other begins.
        plan.before.insert(0, ["systemctl", "stop", places.UNIT])
    plan.commands = [
        ["systemctl", "daemon-reload"],
        *_udev_commands(plan),
        *leaf_commands,
        ["systemctl", "enable", places.UNIT],
        ["systemctl", "restart", places.UNIT],
    ]
    return plan


def uninstall_plan(target: Target, *, purge: bool) -> Plan:
    """Stop and remove the service. Settings, keys and state stay, unless `purge`."""
    plan = Plan(target.root)
    unit = plan.at(places.UNIT_FILE)
    if not unit.exists() and plan.at(places.PACKAGED_UNIT_FILE).exists():
        verb = "purge" if purge else "remove"
        raise CliError("the service is the Debian package's", f"sudo apt {verb} petiole")
    if unit.exists():
        _check_units(plan)
        plan.before = [["systemctl", "disable", "--now", places.UNIT]]
        if plan.at(places.LEAF_UNIT_FILE).exists():
            plan.before.append(["systemctl", "disable", "--now", places.LEAF_UNIT])
    elif not purge:
        raise CliError("no service is installed here", "--purge also removes what an earlier one left")
    plan.gone = [places.UNIT_FILE, places.LEAF_UNIT_FILE, places.UDEV_FILE]
    if purge:
        plan.gone += [places.CONFIG_FILE.parent, places.PRIVATE_STATE_DIR, places.STATE_DIR]
    plan.commands = [["systemctl", "daemon-reload"], *_udev_commands(plan)]
    return plan


def _udev_commands(plan: Plan) -> list[list[str]]:
    """Rules count for boards that are there already. Where no udev runs, as in a container, there is nobody to tell."""
    if not plan.at(_UDEV_SOCKET).exists():
        return []
    return [["udevadm", "control", "--reload"], ["udevadm", "trigger", "--subsystem-match=tty"]]


def _check_units(plan: Plan) -> None:
    for file in (places.UNIT_FILE, places.LEAF_UNIT_FILE):
        unit = plan.at(file)
        if unit.exists() and not unit.read_text(errors="replace").startswith(places.MARK):
            raise CliError(
                f"there is a {file} that petiole has not written",
                f"keep your changes in `systemctl edit {file.name}`, move the file away, and run this again",
            )
    if plan.at(places.PACKAGED_UNIT_FILE).exists():
        raise CliError(
            "the Debian package has installed the service", "edit /etc/petiole/gateway.toml, or sudo apt remove petiole"
        )


def _settings(plan: Plan, given: Path | None) -> tuple[str, Config]:
    """Text and values of the service's settings."""
    there = plan.at(places.CONFIG_FILE)
    source = given if given is not None else there if there.exists() else None
    if source is None:
        from petiole_gateway.settings.example import example  # noqa: PLC0415 - once in a system's life

        return _STATE_LINE + "\n" + example(), load(None)
    config = load(source)
    text = source.read_text()
    if "state_dir" not in config.model_fields_set:
        text = _STATE_LINE + text
    elif config.state_dir != places.STATE_DIR:
        raise CliError(
            f"{source}: state_dir is {config.state_dir}, and the service may write in {places.STATE_DIR} only",
            "leave state_dir out; `petiole gateway backup` and `restore` bring the devices along",
        )
    if config.nats.password is not None:
        raise CliError(
            f"{source}: [nats] password would be readable by everyone on this machine",
            'use [nats] credentials = "FILE": it is handed to the service alone',
        )
    if given is not None and there.exists() and not there.samefile(given) and there.read_text() != text:
        raise CliError(
            f"{places.CONFIG_FILE} exists and says something else than {given}",
            f"edit {places.CONFIG_FILE} and leave --config out, or move it away first",
        )
    return text, config


def _credentials(config: Config, given: Path | None) -> list[NewFile]:
    """Copies of the credentials that a given settings file names."""
    named = [config.nats.credentials, config.nats.hub_credentials]
    found = [path for path in named if path is not None and path.parent != places.CREDENTIALS_DIR]
    if given is None:
        return []
    return [NewFile(places.CREDENTIALS_DIR / path.name, path.read_bytes, 0o600, f"(copy of {path})") for path in found]


def _key(plan: Plan) -> bytes:
    """The key of a gateway that has run as a service before it got its key from root, else a new one."""
    for folder in (places.PRIVATE_STATE_DIR, places.STATE_DIR):
        old = plan.at(folder) / places.KEY_FILE.name
        if old.is_file():
            return old.read_bytes()
    return os.urandom(_KEY_SIZE)


def _program() -> Path:
    program = Path(sysconfig.get_path("scripts")) / "petiole"
    if not program.is_file():
        raise CliError(f"there is no program {program}", "install petiole with pip or pipx, and call it by its name")
    return program


def _folders() -> list[Path]:
    """Folders that the program needs to run: its environment, its Python, and sources that it was installed from."""
    sources = Path(petiole_gateway.__file__).resolve().parents[2]
    folders = [Path(sys.prefix), Path(sys.base_prefix), sources]
    return [one for one in folders if not any(one != other and one.is_relative_to(other) for other in folders)]
