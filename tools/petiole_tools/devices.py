"""Devices of a site: adding them, and looking at them."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from petiole import join, wire
from petiole_tools import wake_policy
from petiole_tools.client import Client, checked_name, connected
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.options import Options
from petiole_tools.output import ago, natural, note, paint, say, say_fields, say_json, say_table, until, value_text
from petiole_tools.stoppable import completed

STATE_STYLES = {"online": "green", "asleep": "cyan", "overdue": "yellow", "offline": "red"}
_LINK_MEANT = "udp://HOST:PORT, udp:// (search the network), uart or console"


def checked_key(text: str) -> str:
    """32 hexadecimal digits in lower case, else a CliError that does not repeat the key."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != wire.KEY_LENGTH or len(text) != 2 * wire.KEY_LENGTH:
        raise CliError(
            f"--key: {2 * wire.KEY_LENGTH} hexadecimal digits are wanted, not {len(text)} characters",
            "leave --key out and a new key is made",
        )
    return text.lower()


def node_link(text: str) -> dict[str, Any]:
    """`udp://HOST:PORT`, `udp://`, `uart` or `console` as an entry of a node's settings."""
    if text in ("uart", "console"):
        return {"kind": text}
    if not text.startswith("udp://"):
        raise CliError(f"--link: {text!r} is not a link", _LINK_MEANT)
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise CliError(f"--link: {text!r} has no usable port", _LINK_MEANT) from error
    if parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise CliError(f"--link: {text!r} has more than an address", _LINK_MEANT)
    return {"kind": "udp", "host": parts.hostname or "", "port": port or wire.UDP_PORT}


async def add(
    options: Options, name: str, key: str | None, output: Path | None, links: list[str], *, replaces: bool = False
) -> None:
    """Add a device; show its key, or write the settings of its node, which go before it: who repeats the command after
    an interruption goes on with them."""
    checked_name("device name", name)
    key = checked_key(key) if key is not None else None
    entries = [node_link(link) for link in links]
    if output is None and entries:
        raise CliError("--link describes the node's settings, and no file is given", "add --output petiole.json")
    left = None
    if output is not None:
        entries = entries or [{"kind": "udp", "host": "", "port": wire.UDP_PORT}]
        left = _left_behind(output, name, key, entries)
        key = left or key
    key = key or secrets.token_hex(wire.KEY_LENGTH)
    async with connected(options) as client:
        await _make_free(client, name, key, replaces=replaces)
        if output is not None and left is None:
            _write_settings(output, {"name": name, "key": key, "links": entries})
        await completed(_register(options, client, {"name": name, "key": key}, output, is_new=left is None))


async def _make_free(client: Client, name: str, key: str, *, replaces: bool) -> None:
    """Nothing has this name but what has this key, too. Raises CliError."""
    try:
        known = await client.gateway("device.show", {"name": name})
    except ServiceError as error:
        if error.code == wire.NOT_FOUND:
            return
        raise
    if known["id"] == join.device_id(bytes.fromhex(key)).hex():
        return
    if replaces:
        await client.gateway("device.remove", {"name": name})
        return
    hint = f"choose another name, or remove the old device: `petiole device remove {name}`"
    if not known.get("boot_count"):
        hint = f"it has never joined: if nobody has its key, `petiole device add {name} --replace` gives it another"
    raise CliError(f"the name {name} is taken", hint)


async def _register(
    options: Options, client: Client, body: dict[str, str], output: Path | None, *, is_new: bool
) -> None:
    """Add the device and tell of it. A settings file that is new goes again with a device that is not added."""
    again = "run the same command again"
    try:
        added = await client.gateway("device.add", body)
    except ServiceError:
        if output is not None and is_new:
            output.unlink()  # noqa: ASYNC240 - nothing else waits
        raise
    except CliError as error:
        raise CliError(error.problem, again if output is None else f"{again}: it goes on with {output}") from error
    _show_added(options, added, output)
    await client.connection.close()


def _show_added(options: Options, added: dict[str, Any], output: Path | None) -> None:
    if output is not None:
        added = {"name": added["name"], "id": added["id"], "settings": str(output)}
    if options.as_json:
        say_json(added)
        return
    say(f"device {paint(added['name'], 'bold')} added, id {added['id']}")
    if output is not None:
        say(f"settings of its node: {output} (only you may read it; copy it to the board)")
        return
    say(f"key {paint(added['key'], 'bold')}")
    note("the key is not shown again: put it into the node's petiole.json now")


def _left_behind(path: Path, name: str, key: str | None, links: list[dict[str, Any]]) -> str | None:
    """The key in a file that an interrupted run of the same command has left; None where there is none. CliError if
    it is another file."""
    if not path.exists():
        if not path.absolute().parent.is_dir():
            raise CliError(f"there is no folder {path.parent}", "make it first")
        return None
    with contextlib.suppress(ValueError, TypeError, KeyError, CliError):  # then it is another file
        found = json.loads(path.read_bytes())
        left = found["key"]
        if found == {"name": name, "key": left, "links": links} and key in (None, left):
            return checked_key(left)
    raise CliError(f"{path} is there already", "remove it or name another: it may hold the key of a device")


def _write_settings(path: Path, settings: dict[str, Any]) -> None:
    from petiole_gateway.nats.private_file import create_private  # noqa: PLC0415 - only here

    if not create_private(path.absolute(), (json.dumps(settings, indent=2) + "\n").encode()):
        raise CliError(f"{path} was written by somebody else just now", "name another file: no device was added")


async def show_all(options: Options) -> None:
    """All devices of the site."""
    async with connected(options) as client:
        devices = sorted(await client.devices(), key=lambda device: natural(str(device["name"])))
    if options.as_json:
        say_json({"devices": devices})
        return
    if not devices:
        note(f"site {client.site} has no devices; add one with `petiole device add NAME`")
        return
    rows = [
        [
            str(device["name"]),
            str(device["state"]),
            ago(device.get("last_seen_at")),
            until(device.get("next_wake_at")),
            str(device.get("link") or "-"),
            str(device.get("firmware") or "-"),
            str(device.get("boot_count") or 0),
            str(device.get("sequence") or 0),
        ]
        for device in devices
    ]
    say_table(["NAME", "STATE", "LAST SEEN", "NEXT WAKE", "LINK", "FIRMWARE", "BOOTS", "READINGS"], rows)


async def show(options: Options, name: str) -> None:
    """Everything about one device."""
    checked_name("device name", name)
    async with connected(options) as client:
        found = await client.gateway("device.show", {"name": name})
    if options.as_json:
        say_json(found)
        return
    manifest = found.get("manifest") or {}
    state = str(found.get("state", "?"))
    say(f"{paint(str(found['name']), 'bold')}  {paint(state, STATE_STYLES.get(state, 'bold'))}")
    shown = {"name", "state", "manifest", "channels", "commands"}
    say_fields([(key.replace("_", " "), _plain(key, value)) for key, value in found.items() if key not in shown])
    _show_channels(found.get("channels") or manifest.get("channels") or manifest.get("ch") or [])
    _show_commands(found.get("commands") or manifest.get("commands") or manifest.get("cmd") or [])


def _plain(key: str, value: Any) -> str:
    if key == "wake_policy":
        return wake_policy.text(value)
    if key == "next_wake_at":
        return f"{until(value)} ({value})" if value else "-"
    if key.endswith("_at"):
        return f"{ago(value)} ({value})" if value else "never"
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "none"
    if value is None:
        return "-"
    return value if isinstance(value, str) else value_text(value)


def _entry(entry: Any, names: tuple[str, ...]) -> list[Any]:
    """An entry of a manifest, be it an object or the array of PROTOCOL.md."""
    return [entry.get(name) for name in names] if isinstance(entry, dict) else list(entry)[: len(names)]


def _show_channels(channels: list[Any]) -> None:
    if channels:
        say()
        rows = []
        for channel in channels:
            number, name, unit, kind, period = _entry(channel, ("number", "name", "unit", "type", "period_s"))
            rows.append([str(number), str(name), str(unit or "-"), str(kind), f"{period} s" if period else "-"])
        say_table(["CHANNEL", "NAME", "UNIT", "TYPE", "PERIOD"], rows)


def _show_commands(commands: list[Any]) -> None:
    if commands:
        say()
        rows = []
        for command in commands:
            number, name, arguments = _entry(command, ("number", "name", "arguments"))
            words = []
            for argument in arguments or []:
                what, kind, is_required = _entry(argument, ("name", "type", "required"))
                words.append(f"{what}:{kind}" if is_required else f"[{what}:{kind}]")
            rows.append([str(number), str(name), " ".join(words) or "-"])
        say_table(["COMMAND", "NAME", "ARGUMENTS"], rows)


async def remove(options: Options, name: str) -> None:
    """Remove a device."""
    checked_name("device name", name)
    async with connected(options) as client:
        answer = await client.gateway("device.remove", {"name": name})
    if options.as_json:
        say_json(answer if answer is not None else {"name": name})
    else:
        say(f"device {name} removed")
