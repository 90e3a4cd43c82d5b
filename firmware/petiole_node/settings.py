"""The settings of a node: one JSON object, checked once, every error naming its key."""

import json

from petiole import manifest, wire
from petiole_node.errors import SettingsError
from petiole_node.log import LEVELS

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Json

MAX_LINKS = 4
_REQUIRED = object()

# key: (type, lowest or shortest, highest or longest, default)
_NUMBERS = {
    "outbox": (4, 1024, 32),  # readings; 150 bytes of RAM each, which 64 of do not fit beside all else in 96 KB
    "outbox_bytes": (0, 1 << 24, 0),  # of flash for readings; 0: readings are in RAM only
    "period_s": (0, wire.MAX_PERIOD_S, 0),  # of a sleepy node; 0: it stays awake
    "awake_ms": (500, 600000, 15000),  # of a wake at most: a join and two tries more
    "backoff": (1, 1000, 8),  # periods between two wakes at most while nobody answers
    "watchdog_s": (0, 300, 8),  # 0: none. An RP2040 cannot wait longer than 8 s
}
_LINKS: "dict[str, dict[str, Json]]" = {
    "console": {},
    "uart": {
        "id": (int, 0, 7, 0),
        "tx": (int, 0, 63, None),
        "rx": (int, 0, 63, None),
        "baud": (int, 300, 4000000, 115200),
        "fd": (int, 0, 65535, None),  # an open file instead of pins, where there are no pins
    },
    "udp": {
        "host": (str, 0, 253, ""),  # "": ask the whole network
        "port": (int, 1, 65535, wire.UDP_PORT),
        "ssid": (str, 0, 32, ""),
        "password": (str, 0, 63, ""),
    },
}
_KEYS = ["name", "key", "links", "log", "folder", "sleep"]


def check(source: "str | dict[str, Json]") -> "dict[str, Json]":
    """Return the settings, checked and with defaults. Raises SettingsError.

    Of the result, `key` is bytes, `level` a number, and `warnings` are texts about keys that nobody knows.
    """
    values = _load(source) if isinstance(source, str) else source
    if not isinstance(values, dict):
        raise SettingsError("settings", "an object {...}, got " + _shown(values))
    warnings: list[str] = []
    _warn(warnings, values, _KEYS + sorted(_NUMBERS), "")
    name = _text(values, "name", "", 1, wire.MAX_NAME, _REQUIRED)
    if not manifest.is_token(name):
        raise SettingsError("name", "1 to 32 of A-Z a-z 0-9 _ -, got " + _shown(name))
    log = values.get("log", "info")
    if not isinstance(log, str) or log not in LEVELS:
        raise SettingsError("log", "one of debug, info, warning, error, got " + _shown(log))
    sleep = values.get("sleep", "deep")
    if sleep not in ("deep", "light"):
        raise SettingsError("sleep", "deep or light, got " + _shown(sleep))
    checked: dict[str, Json] = {
        "name": name,
        "key": _key(values),
        "level": LEVELS[log],
        "folder": _text(values, "folder", "", 0, 200, ""),
        "sleep": sleep,
        "links": _check_links(warnings, values.get("links")),
        "warnings": warnings,
    }
    for key in sorted(_NUMBERS):
        checked[key] = _number(values, key, "", *_NUMBERS[key])
    return checked


def _check_links(warnings: "list[str]", links: "Json") -> "list[dict[str, Json]]":
    if not isinstance(links, list) or not 0 < len(links) <= MAX_LINKS:
        raise SettingsError("links", "a list of 1 to " + str(MAX_LINKS) + " links, got " + _shown(links))
    checked = []
    for position, link in enumerate(links):
        where = "links[" + str(position) + "]"
        if not isinstance(link, dict):
            raise SettingsError(where, 'an object such as {"kind": "console"}, got ' + _shown(link))
        kind = link.get("kind")
        fields = _LINKS.get(kind) if isinstance(kind, str) else None
        if fields is None:
            raise SettingsError(where + ".kind", "one of " + ", ".join(sorted(_LINKS)) + ", got " + _shown(kind))
        _warn(warnings, link, fields, where + ".")
        out = {"kind": kind}
        for key in sorted(fields):
            wanted, low, high, default = fields[key]
            convert = _number if wanted is int else _text
            out[key] = convert(link, key, where + ".", low, high, default)
        checked.append(out)
    return checked


def _warn(warnings: "list[str]", values: "dict[str, Json]", known: "Json", where: str) -> None:
    for key in sorted(values):
        if key not in known and not (where and key == "kind"):
            warnings.append("settings: " + where + str(key) + " is not known and has no effect")


def _load(path: str) -> "Json":
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        raise SettingsError(
            path, "the settings file cannot be read; `petiole device add NAME --output petiole.json` writes one"
        )
    try:
        return json.loads(text)
    except ValueError:
        raise SettingsError(path, "not JSON: a comma, quote or bracket is missing or one too many")


def _key(values: "dict[str, Json]") -> bytes:
    text = _text(values, "key", "", 1, 200, _REQUIRED)
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != wire.KEY_LENGTH or len(text) != 2 * wire.KEY_LENGTH:
        # The key itself is never shown: errors end up in logs.
        raise SettingsError("key", "32 hexadecimal digits, got " + str(len(text)) + " characters")
    return key


def _text(values: "dict[str, Json]", key: str, where: str, low: int, high: int, default: "Json") -> "Json":
    value = values.get(key, default)
    if value is _REQUIRED:
        raise SettingsError(where + key, "is missing; a text is wanted")
    if value is not default and (not isinstance(value, str) or not low <= len(value) <= high):
        wanted = "a text of " + str(low) + " to " + str(high) + " characters"
        # What a wrong password or key says is nobody's business.
        shown = "something else" if key in ("password", "key") else _shown(value)
        raise SettingsError(where + key, wanted + ", got " + shown)
    return value


def _number(values: "dict[str, Json]", key: str, where: str, low: int, high: int, default: "Json") -> "Json":
    value = values.get(key, default)
    if value is None and default is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        wanted = "a whole number from " + str(low) + " to " + str(high)
        raise SettingsError(where + key, wanted + ", got " + _shown(value))
    return value


def _shown(value: "Json") -> str:
    if value is None:
        return "nothing"
    return repr(value)[:40]
