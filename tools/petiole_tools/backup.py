"""`petiole gateway backup` and `restore`: devices, keys and what must never be used twice, in one sealed file."""

from __future__ import annotations

import asyncio
import base64
import getpass
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsClientError

from petiole_gateway.backup_file import BackupError, open_sealed, seal
from petiole_gateway.clock import SystemClock
from petiole_gateway.credentials import registry_key
from petiole_gateway.hub.readings import timestamp
from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.errors import LinkError
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.private_file import write_private
from petiole_gateway.nats.registry_backup import RegistryBackup, collect, last_at_hub, put_back
from petiole_gateway.nats.sealed_bucket import SealedBucket
from petiole_gateway.nats.site_gateways import NAME_FILE, gateway_name
from petiole_gateway.settings.config import Config
from petiole_tools.client import connect, connected
from petiole_tools.failure import CliError
from petiole_tools.options import Options, Target
from petiole_tools.output import say
from petiole_tools.stoppable import abandonable, completed, interruptible

PASSWORD = "PETIOLE_BACKUP_PASSWORD"  # noqa: S105 - a name
_SETTINGS = "gateway.toml"


async def backup(options: Options, path: Path, password_file: Path | None) -> None:
    """Write a backup of the running gateway to `path`."""
    config = _config(options)
    _check_new(path)
    password = _password(password_file, is_new=True)
    key_file = registry_key(config.state_dir)
    if not key_file.exists():
        raise CliError(f"there is no {key_file}", "a backup is made where the gateway runs, by its user or by root")
    async with connected(replace(options, server=None, credentials=None)) as client:
        devices = SealedBucket(client.connection, "devices", key_file)
        sessions = SealedBucket(client.connection, "sessions", key_file)
        await devices.open()
        await sessions.open()
        found = await collect(JetStreamApi(client.connection), config.site, devices, sessions)
    document = {
        "made_at": int(time.time() * 1000),
        "made_by": version("petiole"),
        "site": config.site,
        "gateway": gateway_name(config.state_dir),
        "registry": found.document(),
        "files": _files(options, config),
    }
    sealed = await abandonable(lambda: seal(document, password))
    await completed(asyncio.to_thread(write_private, path, sealed))
    say(f"{path}: {len(found.devices)} devices of site {config.site}, {len(sealed)} bytes")


async def restore(
    options: Options, path: Path, password_file: Path | None, settings: Path | None, *, trust_clock: bool
) -> None:
    """Put a backup into a new gateway, which must not run. With `settings` and no settings of its own it is the gateway
    of those in the backup."""
    document = open_sealed(_read(path), _password(password_file, is_new=False))
    try:
        registry = RegistryBackup.of(document["registry"])
        site, made_at, name = str(document["site"]), int(document["made_at"]), str(document["gateway"])
        files = {str(Path(one).name): base64.b64decode(data) for one, data in document["files"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError("the backup has not the contents of one", "take another copy") from error
    _check_clock(max(made_at, registry.accepted_at), trust_clock=trust_clock)
    brings_own = settings is not None and options.config is None and _SETTINGS in files
    if settings is not None and brings_own:
        _write_settings(settings, files)
        options = replace(options, config=settings / _SETTINGS)
    config = _config(options)
    if config.site != site:
        raise CliError(f"the backup is of site {site}, and this gateway's is {config.site}", f"--site {site}")
    if settings is not None and not brings_own:
        _write_settings(settings, files)
    at_hub = await _at_hub(options, config, registry)
    sequences = await _put_back(config, registry, at_hub, name)
    say(f"{len(sequences)} devices of site {site}, as of {timestamp(made_at)}; they join anew with their next frame")
    if at_hub is None:
        say("the hub was not asked: what it took after the backup without the node being told may come twice")
        say("with --server HUB --creds FILE it is asked")
    else:
        say(f"the hub has newer readings of {sum(at_hub[one] > registry.sequences.get(one, 0) for one in at_hub)}")


async def _put_back(
    config: Config, registry: RegistryBackup, at_hub: dict[str, int] | None, name: str
) -> dict[str, int]:
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        if config.nats.url is None:
            # Not linked to the hub: nothing leaves before all is there.
            leaf = LeafServer(config.site, config.leaf_dir, binary=config.nats.binary)
            await leaf.start()
            stack.push_async_callback(leaf.stop)
            target = Target(leaf.access.url, config.site, leaf.access.user, leaf.access.password)
        else:
            nats = config.nats
            target = Target(config.nats.url, config.site, nats.user, nats.password, nats.credentials)
        client = await connect(target)
        stack.push_async_callback(client.connection.close)
        devices = SealedBucket(client.connection, "devices", registry_key(config.state_dir))
        await devices.open()
        sequences = await put_back(JetStreamApi(client.connection), registry, at_hub or {}, devices)
    write_private(config.state_dir / NAME_FILE, name.encode())
    await asyncio.to_thread(os.sync)
    _give_to_owner(config.state_dir)
    return sequences


async def _at_hub(options: Options, config: Config, registry: RegistryBackup) -> dict[str, int] | None:
    """The last places at the hub, None if none was named."""
    if options.server is None:
        return None
    client = await connect(options.target())
    try:
        return await last_at_hub(JetStreamApi(client.connection), config.site, list(registry.devices))
    except (LinkError, NatsClientError) as error:
        raise CliError(f"the hub does not say what it has: {error}", "nothing was changed; try again") from error
    finally:
        await client.connection.close()


def _check_new(path: Path) -> None:
    if path.exists():
        raise CliError(f"{path} exists", "choose another name: a backup is never overwritten")
    if not path.absolute().parent.is_dir():
        raise CliError(f"there is no folder {path.absolute().parent}", "make it first")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CliError(f"{path}: {(error.strerror or 'cannot be read').lower()}", "check the path") from error


def _check_clock(latest_at: int, *, trust_clock: bool) -> None:
    """Accepts of the time before must not come again: their time is part of what makes session keys unique."""
    if int(time.time() * 1000) < latest_at:
        raise CliError(
            f"this machine's clock is before the backup, which is of {timestamp(latest_at)}", "set the clock first"
        )
    if SystemClock().is_doubtful() and not trust_clock:
        raise CliError(
            "no time source has set this machine's clock, and session keys depend on the time",
            "wait for NTP (`timedatectl`), or look at the clock and give --trust-clock",
        )


def _config(options: Options) -> Config:
    return options.settings()


def _files(options: Options, config: Config) -> dict[str, str]:
    """The settings and the credentials that they name."""
    paths = [config.nats.credentials, config.nats.hub_credentials]
    found = {path.name: path.read_bytes() for path in paths if path is not None}
    if options.config is not None:
        found[_SETTINGS] = options.config.read_bytes()
    return {name: base64.b64encode(data).decode() for name, data in found.items()}


def _write_settings(folder: Path, files: dict[str, bytes]) -> None:
    # What an interrupted run has written already is not in the way of the next one.
    missing = {name: data for name, data in files.items() if not _holds(folder / name, data)}
    present = [name for name in missing if (folder / name).exists()]
    if present:
        raise CliError(f"{folder / present[0]} exists, and is another", "--settings names an empty folder")
    for name, data in missing.items():
        write_private(folder / name, data)
        say(f"wrote {folder / name}")


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _give_to_owner(folder: Path) -> None:
    """What root has written belongs to whom the folder belongs, a service perhaps."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in folder.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _password(file: Path | None, *, is_new: bool) -> str:
    if file is not None:
        try:
            return file.read_text().rstrip("\r\n")
        except OSError as error:
            raise CliError(f"{file}: {(error.strerror or '').lower()}", "check the path of --password-file") from error
    given: Any = os.environ.get(PASSWORD)
    if given:
        return str(given)
    if not sys.stdin.isatty():
        raise CliError("a backup has a password, and none is given", f"--password-file FILE, or {PASSWORD}")
    with interruptible():
        password = getpass.getpass("password of the backup: ")
        if is_new and getpass.getpass("once more: ") != password:
            raise CliError("the two passwords differ", "try again")
    return password
