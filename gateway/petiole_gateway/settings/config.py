"""The gateway's settings: one TOML file, checked as a whole, every problem with its line.

`load(None)` gives the defaults, with which a gateway works: UDP on port 6363, no serial port, its own leaf server.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from petiole import wire
from petiole.manifest import is_token

from .. import credentials
from .lines import Location, key_lines
from .problems import COMMAND_LINE, ConfigError, Problem, explain

# 60 nodes with a reading a second for two months; an SD card of 8 GB has room for it beside the system.
DEFAULT_STORE_BYTES = 1024 * 1024 * 1024
MIN_STORE_BYTES = 16 * 1024 * 1024  # an eighth is kept free for sequence numbers to burn after a crash
# Pings are a third of it apart: two small packets per 20 s, where the server's own default notices after 6 minutes.
DEFAULT_HUB_TIMEOUT_S = 60.0
MAX_CONFIG_BYTES = 1024 * 1024  # a settings file is a page; more is a wrong path


def _wrong(problem: str, meant: str) -> PydanticCustomError:
    return PydanticCustomError("petiole", "{problem}", {"problem": problem, "meant": meant})


def _token(text: str) -> str:
    if not is_token(text):
        raise _wrong(f"{text!r} cannot be part of a NATS subject", "1 to 32 characters of A-Z a-z 0-9 _ -")
    return text


def _listen(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise _wrong(f"{text!r} is not HOST:PORT", f'for example "0.0.0.0:{wire.UDP_PORT}"; port 0 takes any free one')
    return text


def _serial_port(text: str) -> str:
    if text.startswith("usb:"):
        if not text[4:].strip():
            raise _wrong("no serial number after 'usb:'", "`ls /dev/serial/by-id` shows the numbers")
    elif not text.startswith("/"):
        raise _wrong(f"{text!r} is not a port", '"usb:<serial number>", or a path such as "/dev/serial/by-id/..."')
    return text


def _url(*schemes: str) -> AfterValidator:
    listed = " or ".join(f"{scheme}://HOST:PORT" for scheme in schemes)

    def check(text: str) -> str:
        parts = urlsplit(text)
        try:
            named = parts.hostname and (parts.port or True)
        except ValueError:
            named = False
        if parts.scheme not in schemes or not named:
            raise _wrong(f"{text!r} is not the address of a server", listed)
        if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise _wrong(f"{text!r} has more than an address", f"only {listed}; user and password have their own keys")
        return text

    return AfterValidator(check)


def _path(path: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get("base", Path())
    return (base / path.expanduser()).absolute()


def _existing(path: Path, info: ValidationInfo) -> Path:
    path = _path(path, info)
    if not path.is_file():
        raise _wrong(f"there is no file {path}", "a relative path counts from the folder of the settings file")
    return path


def _secret(path: Path, info: ValidationInfo) -> Path:
    copy = credentials.loaded(path.name)
    if copy is not None:
        return copy
    beside = _path(Path(credentials.FOLDER) / path.name, info)
    if not path.is_absolute() and beside.is_file():
        return beside
    return _existing(path, info)


def default_state_dir() -> Path:
    """$STATE_DIRECTORY (systemd), else petiole below $XDG_STATE_HOME or ~/.local/state."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "petiole"


Token = Annotated[str, AfterValidator(_token)]
AnyPath = Annotated[Path, AfterValidator(_path)]
SecretFile = Annotated[Path, AfterValidator(_secret)]
ExistingFile = Annotated[Path, AfterValidator(_existing)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SerialConfig(_Section):
    """One serial port, or several by a pattern (`/dev/ttySIM*`)."""

    port: Annotated[str, AfterValidator(_serial_port)]
    baud: Annotated[int, Field(ge=300, le=4_000_000)] = 115_200
    framing: Literal["cobs", "console"] = "cobs"


class UdpConfig(_Section):
    """The UDP socket for nodes on Wi-Fi or Ethernet."""

    enabled: bool = True
    listen: Annotated[str, AfterValidator(_listen)] = f"0.0.0.0:{wire.UDP_PORT}"

    @property
    def host(self) -> str:
        """Address to bind, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port to bind; 0 for any."""
        return int(self.listen.rpartition(":")[2])


class NatsConfig(_Section):
    """The leaf server: our own (default; `hub` links it), or a running one at `url`.

    `hub_timeout_s`: a link to the hub that is silent for so long is dead, and opened anew. `ignore_discovered_servers`:
    only the addresses in `hub` are used, never those that the hub's cluster tells; behind a tunnel or a proxy.
    `linked_to_hub`: a hub takes the readings from the server at `url`, so none goes before it has; false for a server
    that is all there is, where the oldest go when the store is full. `leaf_unit`: our own server is a service of its
    own (`petiole gateway install --leaf-unit`) with these settings; the gateway waits for it and starts none.
    """

    url: Annotated[str, _url("nats", "tls")] | None = None
    credentials: SecretFile | None = None
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    store_dir: AnyPath | None = None  # of the server at `url`, when it runs on this machine
    linked_to_hub: bool = True  # of the server at `url`

    hub: tuple[Annotated[str, _url("nats-leaf", "nats", "tls")], ...] = ()
    hub_credentials: SecretFile | None = None
    hub_timeout_s: Annotated[float, Field(ge=3, le=3600)] = DEFAULT_HUB_TIMEOUT_S
    ignore_discovered_servers: bool = False
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    binary: ExistingFile | None = None
    leaf_unit: bool = False

    store_max_bytes: Annotated[int, Field(ge=MIN_STORE_BYTES)] = DEFAULT_STORE_BYTES
    durability: Literal["power-loss", "crash"] = "power-loss"

    @property
    def is_embedded(self) -> bool:
        """The gateway starts the leaf server itself."""
        return self.url is None

    @model_validator(mode="after")
    def _consistent(self) -> NatsConfig:
        if self.url is None:
            for key in ("credentials", "user", "password", "store_dir", "linked_to_hub"):
                if getattr(self, key) not in (None, True):
                    raise _about(key, "is for a running server, and no url is given", "give url, or leave it out")
        else:
            for key in (
                "hub",
                "hub_credentials",
                "hub_timeout_s",
                "ignore_discovered_servers",
                "port",
                "binary",
                "leaf_unit",
            ):
                if key in self.model_fields_set:
                    meant = "set up the link to the hub in that server's own configuration, or leave url out"
                    raise _about(key, "is for the server that the gateway starts, and url names another", meant)
            if self.durability == "power-loss" and self.store_dir is None:
                meant = 'store_dir = "..." if it runs on this machine, or durability = "crash"'
                raise _about("url", "the disk of a server elsewhere cannot be flushed from here", meant)
        if self.hub_credentials is not None and not self.hub:
            raise _about("hub_credentials", "there is no hub to use them at", 'hub = ["nats-leaf://HOST:7422"]')
        if self.user is not None and self.credentials is not None:
            raise _about("user", "credentials are given, too", "leave one of the two out")
        if (self.user is None) != (self.password is None):
            raise _about("user", "user and password belong together", "give both, or none")
        return self


def _about(key: str, problem: str, meant: str) -> PydanticCustomError:
    return PydanticCustomError("petiole", "{problem}", {"problem": problem, "meant": meant, "key": key})


class PolicyConfig(_Section):
    """What devices may do. Subjects with NATS wildcards; system subjects and petiole's own are never allowed."""

    request_allow: tuple[str, ...] = (">",)


class LogConfig(_Section):
    """What the gateway writes to standard error. "auto": text on a terminal, fields where systemd has connected it to
    the journal, else JSON."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json", "journal"] = "auto"


class MetricsConfig(_Section):
    """Metrics for Prometheus and health for probes, over HTTP without encryption or password.

    `per_device`: some metrics for each device, of the first 500.
    """

    enabled: bool = False
    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:6364"
    per_device: bool = False

    @property
    def host(self) -> str:
        """Address to bind, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port to bind; 0 for any."""
        return int(self.listen.rpartition(":")[2])


class Config(_Section):
    """All settings of one gateway."""

    site: Token = "home"
    state_dir: AnyPath = Field(default_factory=default_state_dir)
    serial: tuple[SerialConfig, ...] = ()
    udp: UdpConfig = UdpConfig()
    nats: NatsConfig = NatsConfig()
    policy: PolicyConfig = PolicyConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()

    @property
    def leaf_dir(self) -> Path:
        """Data directory of the embedded leaf server; its leaf.json tells clients where it listens."""
        return self.state_dir / "leaf"

    @model_validator(mode="after")
    def _distinct_ports(self) -> Config:
        ports = [entry.port for entry in self.serial]
        for index, port in enumerate(ports):
            if port in ports[:index]:
                raise _about(f"serial.{index}.port", f"{port} is listed twice", "each port once")
        return self


_KNOWN = {
    "": tuple(Config.model_fields),
    "serial": tuple(SerialConfig.model_fields),
    "udp": tuple(UdpConfig.model_fields),
    "nats": tuple(NatsConfig.model_fields),
    "policy": tuple(PolicyConfig.model_fields),
    "log": tuple(LogConfig.model_fields),
    "metrics": tuple(MetricsConfig.model_fields),
}


def load(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Settings from `path`, or the defaults if it is None; `overrides` (from the command line) replace single keys.

    ConfigError lists every problem.
    """
    name = COMMAND_LINE if path is None else str(path)
    document, lines = ({}, {}) if path is None else _read(path)
    changed = dict(overrides or {})
    for section, value in changed.items():
        if isinstance(value, Mapping) and isinstance(document.get(section), dict):
            document[section] = {**document[section], **value}
        else:
            document[section] = value
    base = Path() if path is None else path.absolute().parent
    try:
        return Config.model_validate(document, context={"base": base})
    except ValidationError as error:
        problems = [explain(dict(entry), name, lines, changed, _KNOWN) for entry in error.errors(include_url=False)]
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0)) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError([Problem(str(path), None, "", "is larger than 1 MiB", "is this the right file?")])
        text = data.decode()
    except OSError as error:
        problem = (error.strerror or "cannot be read").lower()
        raise ConfigError([Problem(str(path), None, "", problem, "check the path")]) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(str(path), line, "", "not UTF-8 text", "save the file as UTF-8")]) from error
    try:
        return tomllib.loads(text), key_lines(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        number = place.removeprefix("line ").partition(",")[0]
        line = int(number) if number.isdigit() else text.count("\n") + 1
        meant = 'key = "value": text needs quotes, a section is [name], one port is [[serial]]'
        raise ConfigError([Problem(str(path), line, "", f"not TOML: {what[:1].lower()}{what[1:]}", meant)]) from error


__all__ = [
    "COMMAND_LINE",
    "Config",
    "ConfigError",
    "LogConfig",
    "MetricsConfig",
    "NatsConfig",
    "PolicyConfig",
    "Problem",
    "SerialConfig",
    "UdpConfig",
    "load",
]
