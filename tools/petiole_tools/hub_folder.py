"""A hub in a folder: operator keys, server configurations, and the credentials of applications and sites.

operator/            keys and tokens (mode 0600)
hub.json             the servers
hub1.conf ...        one configuration for each server
application.creds    for applications and administrators
sites/SITE.creds     for the leaf of one site
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.errors import NatsError
from petiole_gateway.nats.hub_config import HubOperator, HubServer
from petiole_gateway.nats.mailbox_streams import ensure_hub_mailbox
from petiole_gateway.nats.presence_streams import ensure_hub_presence
from petiole_gateway.nats.private_file import write_private
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_tools.client import checked_name, connect
from petiole_tools.failure import CliError
from petiole_tools.options import Options, Target
from petiole_tools.output import note, say, say_json

SERVERS_FILE = "hub.json"
APPLICATION = "application.creds"
CLIENT_PORT, LEAF_PORT, ROUTE_PORT, MONITOR_PORT = 4222, 7422, 6222, 8222  # what nats-server's documentation uses


def init(
    options: Options,
    folder: Path,
    name: str,
    count: int,
    hosts: list[str],
    store_dir: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Make the hub's folder. CliError if there is a hub in it already."""
    checked_name("operator name", name)
    if count not in (1, 3):
        raise CliError(f"--servers {count}: a hub has 1 server or 3", "3 go on when one of them fails; 2 would not")
    if hosts and len(hosts) != count:
        raise CliError(f"{len(hosts)} hosts for {count} servers", "give --host once for each server, or leave it out")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise CliError(f"there is no file {path}", "check --tls-cert and --tls-key")
    if (folder / SERVERS_FILE).exists():
        raise CliError(
            f"{folder} holds a hub already", "`petiole hub site` adds a site; another hub needs another folder"
        )
    operator = HubOperator.open(folder / "operator", name=name)
    servers = [_server(store_dir or folder, number, hosts, certificate, key) for number in range(count)]
    for server in servers:
        write_private(folder / f"{server.name}.conf", operator.server_config(server, servers).encode())
    operator.mint_application("application", folder / APPLICATION)
    document = {
        "name": name,
        "servers": [
            {"name": one.name, "host": one.host, "client_port": one.client_port, "leaf_port": one.leaf_port}
            for one in servers
        ],
    }
    write_private(folder / SERVERS_FILE, (json.dumps(document, indent=2) + "\n").encode())
    if options.as_json:
        commands = [f"nats-server -c {folder / one.name}.conf" for one in servers]
        say_json(document | {"commands": commands, "application": str(folder / APPLICATION)})
        return
    say(f"hub {name} made in {folder}; keep a copy of {folder / 'operator'}: it cannot be made again")
    say("start" + ("" if count == 1 else ", each on its host") + ":")
    for server in servers:
        say(f"  nats-server -c {folder / server.name}.conf")
    say(f"applications connect to {', '.join(_client_urls(document))}")
    say(f"  with {folder / APPLICATION}")
    say(f"then, for every site: petiole hub site {folder} SITE")


def _server(store_dir: Path, number: int, hosts: list[str], certificate: Path | None, key: Path | None) -> HubServer:
    name = f"hub{number + 1}"
    step = 0 if hosts else number  # on one machine every server needs ports of its own
    return HubServer(
        name,
        store_dir / name / "jetstream",
        CLIENT_PORT + step,
        LEAF_PORT + step,
        ROUTE_PORT + step,
        MONITOR_PORT + step,
        hosts[number] if hosts else "127.0.0.1",
        certificate,
        key,
    )


def _client_urls(document: dict[str, Any]) -> list[str]:
    return [f"nats://{one['host']}:{one['client_port']}" for one in document["servers"]]


def _leaf_urls(document: dict[str, Any]) -> list[str]:
    return [f"nats-leaf://{one['host']}:{one['leaf_port']}" for one in document["servers"]]


async def add_site(options: Options, folder: Path, site: str, *, renew: bool, offline: bool) -> None:
    """Credentials for a site, and its entry among the sources of the hub's stream."""
    checked_name("site", site)
    document = _read(folder)
    path = folder / "sites" / f"{site}.creds"
    if renew or not path.exists():
        HubOperator.open(folder / "operator").mint_site(site, path)
    urls = _leaf_urls(document)
    answer = {"site": site, "credentials": str(path), "hub": urls, "is_source": not offline}
    if not options.as_json:
        say(f"site {site}: credentials in {path}")
        say("in the settings of its gateway:")
        say(f'  site = "{site}"')
        say("  [nats]")
        say(f"  hub = {json.dumps(urls)}")
        say(f'  hub_credentials = "{path.name}"')
    if not offline:
        await _take_site(document, folder, site)
    if options.as_json:
        say_json(answer)
    elif offline:
        note(f"the hub does not take readings of {site} yet: run this again without --offline when it is up")
    else:
        say(f"the hub takes readings of {site}")


def _read(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / SERVERS_FILE).read_bytes())
        _leaf_urls(document)
    except FileNotFoundError as error:
        raise CliError(f"there is no hub in {folder}", f"`petiole hub init {folder}` makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(f"{folder / SERVERS_FILE} is damaged", "restore it from a copy") from error
    assert isinstance(document, dict)
    return document


async def _take_site(document: dict[str, Any], folder: Path, site: str) -> None:
    urls = _client_urls(document)
    away: CliError | None = None
    for url in urls:
        try:
            client = await connect(Target(url, site, credentials=folder / APPLICATION))
        except CliError as error:
            away = error
            continue
        try:
            api = JetStreamApi(client.connection)
            await ensure_hub_uplink(api, [site], replicas=len(urls))
            await ensure_hub_mailbox(api, [site], replicas=len(urls))
            await ensure_hub_presence(api, replicas=len(urls))
        except NatsError as error:
            raise CliError(f"the hub at {url} does not take the site: {error}", "are all its servers up?") from error
        finally:
            await client.connection.close()
        return
    raise CliError(
        f"the credentials are written, but the hub does not answer at {', '.join(urls)}",
        "start it and run this again, or add --offline",
    ) from away
