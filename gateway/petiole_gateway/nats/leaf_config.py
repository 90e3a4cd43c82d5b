"""Settings of the leaf server → text of its configuration file.

The leaf has plain local accounts, so it boots and stores with no hub in reach; only its remote uses the hub's
decentralised credentials. Values are checked here: none can end a string or open a block of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .errors import ConfigError
from .subjects import checked_token

ACCOUNT = "FLEET"
LOCAL_USER = "local"
SYSTEM_USER = "system"

# Never sent over the leaf link in either direction. `up`: the hub takes uplinks through its source, never raw,
# so no stream there can store one twice. `$O`: object stores of equal names on both sides would mix; the server
# denies `$KV` and `$JS.API` by itself but not this one.
LINK_DENIED = ("up.>", "mail.>", "local.>", "$O.>", "$MQTT.>")

_SCHEMES = frozenset({"nats-leaf", "nats", "tls"})
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{16,128}")


@dataclass(frozen=True, slots=True)
class LeafSettings:
    """What the leaf server of one site needs. Sizes in bytes, times in seconds."""

    site: str
    data_dir: Path
    client_port: int
    monitor_port: int
    local_password: str = field(repr=False)
    system_password: str = field(repr=False)
    host: str = "127.0.0.1"
    hub_urls: Sequence[str] = ()
    hub_credentials: Path | None = None
    # Noticing a dead link takes ping_interval * (ping_max + 1) at most: 60 s instead of the server's 6 minutes,
    # at 2 small packets per 20 s.
    ping_interval_s: float = 20.0
    ping_max: int = 2
    # How often a lost hub is tried; every try costs one TCP connect.
    reconnect_s: float = 2.0
    # A mobile link needs several seconds for a TCP handshake plus the server's first line (server default: 1 s).
    dial_timeout_s: float = 10.0
    write_deadline_s: float = 10.0
    max_memory: int = 16 * 1024 * 1024
    max_file: int = 4 * 1024 * 1024 * 1024
    # Only the listed hub URLs, never the addresses that the hub's cluster announces (needed behind a proxy).
    ignore_discovered_servers: bool = False

    @property
    def store_dir(self) -> Path:
        """Folder that JetStream writes in."""
        return self.data_dir / "jetstream"


def render_leaf_config(settings: LeafSettings) -> str:
    """Text of the configuration file. ConfigError for a value that cannot be used."""
    site = checked_token("site", settings.site)
    host = checked_host("host", settings.host)
    lines = [
        f"server_name: {quoted('site', site)}",
        f'listen: "{host}:{checked_port("client_port", settings.client_port)}"',
        f'http: "127.0.0.1:{checked_port("monitor_port", settings.monitor_port)}"',
        f"ping_interval: {_duration('ping_interval_s', settings.ping_interval_s)}",
        f"ping_max: {checked_count('ping_max', settings.ping_max)}",
        f"write_deadline: {_duration('write_deadline_s', settings.write_deadline_s)}",
        "jetstream {",
        f"  store_dir: {quoted('data_dir', str(settings.store_dir.absolute()))}",
        f"  domain: {quoted('site', site)}",
        f"  max_mem: {checked_count('max_memory', settings.max_memory)}",
        f"  max_file: {checked_count('max_file', settings.max_file)}",
        "}",
        *_accounts(settings),
        *(_leafnodes(settings) if settings.hub_urls else ()),
    ]
    return "\n".join(lines) + "\n"


def quoted(setting: str, text: str) -> str:
    """`text` as a string of the configuration language; ConfigError if it cannot be one.

    The language knows escapes, variables (`$NAME`) only outside quotes, and no way to write control characters
    safely, so those are refused instead of escaped.
    """
    if any(ord(char) < 0x20 or char in '"\\\x7f' for char in text):
        raise ConfigError(setting, text, "must not contain quotes, backslashes or control characters")
    return f'"{text}"'


def checked_port(setting: str, port: int) -> int:
    """A TCP port to listen on."""
    if not 1 <= port <= 65535:
        raise ConfigError(setting, port, "must be a port from 1 to 65535")
    return port


def checked_count(setting: str, number: int) -> int:
    """A positive whole number."""
    if number < 1:
        raise ConfigError(setting, number, "must be at least 1")
    return int(number)


def checked_host(setting: str, host: str) -> str:
    """A host name or IPv4 address to listen on or connect to."""
    if re.fullmatch(r"[A-Za-z0-9.-]{1,253}", host) is None:
        raise ConfigError(setting, host, "must be a host name or an IPv4 address")
    return host


def checked_hub_url(url: str) -> tuple[str, str, int]:
    """`(url, host, port)` of a hub's leaf listener; the port defaults to 7422."""
    parts = urlsplit(url)
    try:
        port = parts.port or 7422
    except ValueError as error:
        raise ConfigError("hub_urls", url, "has no usable port") from error
    if parts.scheme not in _SCHEMES:
        raise ConfigError("hub_urls", url, f"must begin with one of {', '.join(sorted(_SCHEMES))} and ://")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError("hub_urls", url, "must be scheme://host:port and nothing more")
    host = checked_host("hub_urls", parts.hostname or "")
    return f"{parts.scheme}://{host}:{port}", host, port


def _accounts(settings: LeafSettings) -> list[str]:
    for name in ("local_password", "system_password"):
        if _PASSWORD.fullmatch(getattr(settings, name)) is None:
            raise ConfigError(name, "(hidden)", "must be 16 to 128 characters of A-Z a-z 0-9 _ -")
    return [
        "accounts {",
        f'  SYS {{ users: [ {{ user: {SYSTEM_USER}, password: "{settings.system_password}" }} ] }}',
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        f'    users: [ {{ user: {LOCAL_USER}, password: "{settings.local_password}" }} ]',
        "  }",
        "}",
        "system_account: SYS",
    ]


def _leafnodes(settings: LeafSettings) -> list[str]:
    urls = ", ".join(quoted("hub_urls", checked_hub_url(url)[0]) for url in settings.hub_urls)
    denied = ", ".join(quoted("deny", subject) for subject in LINK_DENIED)
    lines = [
        "leafnodes {",
        f"  reconnect: {_duration('reconnect_s', settings.reconnect_s)}",
        f"  dial_timeout: {_duration('dial_timeout_s', settings.dial_timeout_s)}",
        "  remotes: [ {",
        f"    urls: [{urls}]",
        f"    account: {ACCOUNT}",
    ]
    if settings.hub_credentials is not None:
        lines.append(f"    credentials: {quoted('hub_credentials', str(settings.hub_credentials.absolute()))}")
    if settings.ignore_discovered_servers:
        lines.append("    ignore_discovered_servers: true")
    return [
        *lines,
        "    compression: s2_auto",
        f"    first_info_timeout: {_duration('dial_timeout_s', settings.dial_timeout_s)}",
        f"    deny_exports: [{denied}]",
        f"    deny_imports: [{denied}]",
        "  } ]",
        "}",
    ]


def _duration(setting: str, seconds: float) -> str:
    if not 0.001 <= seconds <= 86400:
        raise ConfigError(setting, seconds, "must be from 0.001 to 86400 seconds")
    return f'"{round(seconds * 1000)}ms"'
