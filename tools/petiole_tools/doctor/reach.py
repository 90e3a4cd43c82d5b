"""What is to be reached: the gateway that runs, the port for nodes, the hub, and the secrets for it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from petiole_gateway.credentials import registry_key
from petiole_gateway.monitoring.health import judge, span
from petiole_gateway.nats.leaf_config import checked_hub_url
from petiole_gateway.settings.config import Config
from petiole_tools.client import connected
from petiole_tools.doctor.diagnosis import ERROR, NOTE, OK, WARNING, Diagnosis
from petiole_tools.failure import explain
from petiole_tools.options import Options

# A hub on the other side of the world, over a mobile link, says its first line in 2 s.
DIAL_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 3.0
SOON_S = 14 * 86400
MAX_SECRET = 64 * 1024


async def gateway(options: Options) -> tuple[list[Diagnosis], dict[str, Any] | None]:
    """What the gateway of the settings says of itself, and its status; None if none answers."""
    try:
        async with connected(options) as client:
            status = await client.gateway("status", timeout_s=ASK_TIMEOUT_S)
    except Exception as error:
        why = explain(error)
        hint = "petiole gateway run, or for the service: sudo systemctl start petiole-gateway"
        meaning = "what follows was found without it"
        return [Diagnosis("gateway", NOTE, f"no gateway answers: {why.problem}", meaning, hint)], None
    found = [Diagnosis("gateway", OK, f"gateway of site {status['site']} runs, version {status['version']}")]
    for each in judge(status).findings:
        if each.code not in ("clock_doubtful", "port_closed"):  # looked at here
            found.append(Diagnosis(each.code, each.severity, each.problem, "as the gateway says", each.hint))
    leaf = status.get("leaf") or {}
    if leaf.get("hub_link_up"):
        found.append(Diagnosis("hub_link", OK, f"the leaf is linked to {leaf.get('hub_server') or 'its hub'}"))
    return found, status


def udp(config: Config, *, is_running: bool) -> Diagnosis:
    """The port for nodes; bound for a moment if no gateway runs."""
    if not config.udp.enabled:
        return Diagnosis("udp", NOTE, "UDP is switched off in the settings")
    if is_running:
        return Diagnosis("udp", OK, f"UDP {config.udp.listen} is the gateway's")
    family = socket.AF_INET6 if ":" in config.udp.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((config.udp.host, config.udp.port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = f"`ss -ulpn sport = :{config.udp.port}` shows who has it; or give another [udp] listen"
        return Diagnosis("udp", ERROR, f"UDP {config.udp.listen}: {reason}", "the gateway cannot start", hint)
    return Diagnosis("udp", OK, f"UDP {config.udp.listen} is free")


async def hub(config: Config) -> list[Diagnosis]:
    """Each address of the hub, dialled."""
    return list(await asyncio.gather(*(_dial(url) for url in config.nats.hub)))


async def _dial(url: str) -> Diagnosis:
    _, host, port = checked_hub_url(url)
    began = time.monotonic()
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                said = await reader.read(5)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        reason = (getattr(error, "strerror", None) or str(error) or f"no answer in {DIAL_TIMEOUT_S:g} s").lower()
        meaning = "readings stay here, in order, until it can be reached"
        return Diagnosis("hub", WARNING, f"{url}: {reason}", meaning, "check the network, the address and the firewall")
    if said != b"INFO ":
        meaning = "something else listens there"
        return Diagnosis(
            "hub", ERROR, f"{url}: not a NATS server", meaning, "leaf links go to port 7422, clients to 4222"
        )
    return Diagnosis("hub", OK, f"{url} answers in {1000 * (time.monotonic() - began):.0f} ms")


def secrets(config: Config, *, now: float | None = None) -> Iterator[Diagnosis]:
    """Keys and credentials: there, closed to others, and valid."""
    key = registry_key(config.state_dir)
    if key.exists():
        yield _closed(key, "the key of all devices' keys")
    for path, purpose in (
        (config.nats.hub_credentials, "credentials for the hub"),
        (config.nats.credentials, "credentials for the server"),
    ):
        if path is None:
            continue
        found = _closed(path, purpose)
        yield found
        if found.severity != ERROR:
            yield _valid(path, purpose, time.time() if now is None else now)


def _closed(path: Path, purpose: str) -> Diagnosis:
    try:
        status = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = "run this as the user of the gateway"
        return Diagnosis("secret", ERROR, f"{path}: {reason}", f"the gateway needs its {purpose}", hint)
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and status.st_uid == os.geteuid():
        meaning = f"others on this machine may read {purpose}"
        return Diagnosis("secret", WARNING, f"{path} is open to others", meaning, f"chmod 600 {path}")
    return Diagnosis("secret", OK, f"{path}: {purpose}")


def _valid(path: Path, purpose: str, now: float) -> Diagnosis:
    text = path.read_bytes()[:MAX_SECRET].decode("ascii", "replace")
    try:
        token = text.split("-----BEGIN NATS USER JWT-----")[1].split("------END NATS USER JWT------")[0].strip()
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        expires, name = claims.get("exp"), claims.get("name", "?")
    except (IndexError, ValueError, AttributeError):
        hint = "`petiole hub site DIR SITE` writes one"
        return Diagnosis("credentials", ERROR, f"{path} is no credentials file", "the hub will refuse it", hint)
    if not isinstance(expires, (int, float)):
        return Diagnosis("credentials", OK, f"{purpose}: {name}, which never expire")
    left_s = expires - now
    if left_s <= 0:
        text = f"{purpose}: {name} have expired {span(-left_s)} ago"
        return Diagnosis("credentials", ERROR, text, "the hub refuses them", "petiole hub site DIR SITE")
    severity = WARNING if left_s < SOON_S else OK
    hint = "petiole hub site DIR SITE writes new ones" if severity == WARNING else ""
    return Diagnosis("credentials", severity, f"{purpose}: {name}, for another {span(left_s)}", "", hint)
