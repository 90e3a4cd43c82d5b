"""Who a node is: the settings that go onto its board, from what is there and what is asked for."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from petiole import join, wire
from petiole_node import settings as node_settings
from petiole_node.errors import SettingsError
from petiole_tools.boards import Board
from petiole_tools.client import checked_name
from petiole_tools.devices import node_link
from petiole_tools.failure import CliError

FILE = "petiole.json"
_LATER = ("known", "to the board, perhaps")  # a Wi-Fi


@dataclass(frozen=True)
class Identity:
    """`is_known`: the board had this name and this key before."""

    name: str
    key: str = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    is_known: bool

    @property
    def device_id(self) -> str:
        """By which a gateway knows it, in hexadecimal: another key has another one."""
        return join.device_id(bytes.fromhex(self.key)).hex()

    @property
    def document(self) -> bytes:
        return (json.dumps(self.settings, indent=1) + "\n").encode()


def decide(
    board: Board,
    there: bytes | None,
    name: str | None,
    links: list[str],
    wifi: tuple[str, str] | None,
    extra: dict[str, Any],
) -> Identity:
    """`there`: the settings file on the board, whose name, key and links stay unless others are asked for. CliError."""
    old = _parsed(there)
    name = name or old.get("name")
    if name is None:
        raise CliError("the board has no name yet", "--name NAME: 1 to 32 characters of A-Z a-z 0-9 _ -")
    checked_name("device name", name)
    is_known = old.get("name") == name and _is_key(old.get("key"))
    settings = {**old, **extra, "name": name, "key": old["key"] if is_known else secrets.token_hex(wire.KEY_LENGTH)}
    if links or wifi or not old.get("links"):
        settings["links"] = _links(board, links, wifi or _wifi(old.get("links")))
    try:
        checked = node_settings.check(settings)
    except SettingsError as error:
        raise CliError(f"settings of {name}: {error}", "correct [settings] of petiole.toml, or the --link") from error
    for text in checked["warnings"]:
        if any(f" {key} " in text for key in extra):
            raise CliError(f"petiole.toml: {text}", "correct its [settings]")
    return Identity(name, settings["key"], settings, is_known)


def check_arguments(
    board: Board, name: str | None, links: list[str], wifi: tuple[str, str] | None, extra: dict[str, Any]
) -> None:
    """What can be wrong about them whatever is on the board. CliError."""
    decide(board, None, name or "unnamed", links, wifi or (_LATER if links else None), extra)


def has_name(there: bytes | None) -> bool:
    """Whether the board is somebody already."""
    return isinstance(_parsed(there).get("name"), str)


def _links(board: Board, links: list[str], wifi: tuple[str, str] | None) -> list[dict[str, Any]]:
    entries = [node_link(link) for link in links]
    if not entries:
        entries = [node_link("udp://" if wifi else board.default_link)]
    for entry in entries:
        if entry["kind"] not in board.links:
            raise CliError(f"a {board.title} has no {entry['kind']}", f"it has {', '.join(board.links)}")
        if entry["kind"] == "uart" and board.pins is not None:
            entry |= {"id": board.pins.uart, "tx": board.pins.tx, "rx": board.pins.rx}
        if entry["kind"] == "udp" and wifi is not None:
            entry |= {"ssid": wifi[0], "password": wifi[1]}
        if entry["kind"] == "udp" and wifi is None and board.port != "unix":
            raise CliError("a link over UDP needs a Wi-Fi", "--wifi SSID; its password is in PETIOLE_WIFI_PASSWORD")
    return entries


def _wifi(links: object) -> tuple[str, str] | None:
    """The Wi-Fi that a board has already."""
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("kind") == "udp" and isinstance(link.get("ssid"), str):
            return link["ssid"], str(link.get("password", ""))
    return None


def _parsed(there: bytes | None) -> dict[str, Any]:
    """A file that is not whole is nothing: a new identity is made."""
    try:
        found = json.loads(there or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_key(key: object) -> bool:
    if not isinstance(key, str) or len(key) != 2 * wire.KEY_LENGTH:
        return False
    return not set(key.lower()) - set("0123456789abcdef")
