"""The hub: one operator with its accounts, kept in a folder; server configurations and credentials made from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError, KeyFileError
from .jwt import NatsKey, Permissions, account_jwt, credentials_text, operator_jwt, user_jwt
from .leaf_config import checked_host, checked_port, quoted
from .private_file import create_private, read_private, write_private
from .subjects import (
    DOCUMENT_STREAM,
    HUB_CONSUMER,
    HUB_DOMAIN,
    UPLINK_STREAM,
    checked_token,
    delivery_subject,
    document_subject,
    domain_api,
    hub_notice_subject,
    mail_filter,
    mail_stream,
    presence_subject,
    site_inbox,
)

_TOKENS_FILE = "operator.json"


@dataclass(frozen=True, slots=True)
class HubServer:
    """Where one server of the hub listens and stores. `tls_*` protects clients and leafs alike."""

    name: str
    store_dir: Path
    client_port: int = 4222
    leaf_port: int = 7422
    route_port: int = 6222
    monitor_port: int = 8222
    host: str = "127.0.0.1"
    tls_certificate: Path | None = None
    tls_key: Path | None = None


def site_permissions(site: str, *, sends_to: Sequence[str] = ()) -> Permissions:
    """All that the leaf of `site` may do at the hub: nothing that today's functions do not use.

    `publish` is leaf → hub, `subscribe` is hub → leaf. Names follow the pre-created consumer of the uplink stream:
    data on its delivery subject, its RESET by the hub, the hub's flow control answers. Without the `$JS.FC` entry
    the first thousand messages pass and then nothing, without any log line.

    Of the mailboxes a site reads and deletes what is in its own stream, and writes its own documents. It may create no
    consumer: the hub would deliver to any subject that the site names, commands of other sites included. Programs on
    the leaf may send items to devices of the sites in `sends_to`, and ask what became of them.

    It writes which of its devices are there, and reads nothing of that.
    """
    api, mail = domain_api(HUB_DOMAIN), mail_stream(site)
    return Permissions(
        publish=(
            delivery_subject(site),
            "$JSC.R.>",  # answers to the hub's RESET of the consumer; the names are random
            f"live.{site}.>",
            f"event.{site}.>",
            "_INBOX.>",  # answers to requests; `allow_responses` is not honoured on leaf connections
            *(f"{api}.{call}.{mail}" for call in ("STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "DIRECT.GET")),
            f"{api}.{document_subject(site, '>')}",
            *(f"{api}.DIRECT.GET.{DOCUMENT_STREAM}.{document_subject(each, '>')}" for each in (site, *sends_to)),
            *(mail_filter("down", each) for each in sends_to),
            f"{api}.{presence_subject(site, '*')}",
        ),
        subscribe=(
            f"$JS.{site}.API.CONSUMER.RESET.{UPLINK_STREAM}.{HUB_CONSUMER}",
            f"$JS.FC.{UPLINK_STREAM}.{HUB_CONSUMER}.>",
            f"dev.{site}.>",
            f"gw.{site}.>",
            "$SRV.>",
            f"{hub_notice_subject(site)}.>",
            f"{site_inbox(site)}.>",  # and no other inbox: answers to others are not for this site
        ),
        connection_types=("LEAFNODE",),
    )


class HubOperator:
    """Operator, system account SYS and account FLEET with a signing key. Seeds are files with mode 0600.

    `open` is the way to get one; the folder is all there is, so copying it is the backup.
    """

    def __init__(self, folder: Path, keys: dict[str, NatsKey], tokens: dict[str, str]) -> None:
        self.folder = folder
        self._keys = keys
        self._tokens = tokens

    @classmethod
    def open(cls, folder: Path, *, name: str = "petiole") -> HubOperator:
        """The operator in `folder`, created there on first use. KeyFileError if the folder is damaged."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (folder / _TOKENS_FILE).exists():
            cls._create(folder, checked_token("operator name", name))
        return cls._load(folder)

    @classmethod
    def _create(cls, folder: Path, name: str) -> None:
        seeds = {
            role: NatsKey.generate("operator" if role == "operator" else "account")
            for role in ("operator", "sys", "fleet", "fleet-signing")
        }
        tokens = {
            "operator": operator_jwt(seeds["operator"], name, system_account=seeds["sys"]),
            "sys": account_jwt(seeds["sys"], "SYS", seeds["operator"]),
            "fleet": account_jwt(
                seeds["fleet"],
                "FLEET",
                seeds["operator"],
                jetstream=True,
                signing_keys=[seeds["fleet-signing"]],
            ),
        }
        for role, key in seeds.items():
            key.save(folder / f"{role}.seed")
        # Last, because its presence says that the seeds are complete.
        if not create_private(folder / _TOKENS_FILE, json.dumps(tokens, indent=1).encode()):
            raise KeyFileError(folder / _TOKENS_FILE, "was created by another process at the same time")

    @classmethod
    def _load(cls, folder: Path) -> HubOperator:
        path = folder / _TOKENS_FILE
        try:
            tokens = json.loads(read_private(path))
        except ValueError as error:
            raise KeyFileError(path, "not a JSON document") from error
        keys = {
            role: NatsKey.load("operator" if role == "operator" else "account", folder / f"{role}.seed")
            for role in ("operator", "sys", "fleet", "fleet-signing")
        }
        return cls(folder, keys, tokens)

    @property
    def fleet_account(self) -> str:
        """Public key of the account in which all sites and applications live."""
        return self._keys["fleet"].public

    def server_config(self, server: HubServer, cluster: Sequence[HubServer] = ()) -> str:
        """Configuration of one hub server; `cluster` lists all servers of the hub when there are several."""
        host = checked_host("host", server.host)
        tls = _tls_block(server)
        lines = [
            f"server_name: {quoted('name', checked_token('name', server.name))}",
            f'listen: "{host}:{checked_port("client_port", server.client_port)}"',
            f'http: "127.0.0.1:{checked_port("monitor_port", server.monitor_port)}"',
            *tls,
            f"jetstream {{ store_dir: {quoted('store_dir', str(server.store_dir.absolute()))}, domain: {HUB_DOMAIN} }}",
        ]
        if len(cluster) > 1:
            routes = ", ".join(
                f'"nats://{checked_host("host", peer.host)}:{checked_port("route_port", peer.route_port)}"'
                for peer in cluster
            )
            lines.append(
                f'cluster {{ name: hub, listen: "{host}:{checked_port("route_port", server.route_port)}",'
                f" routes: [{routes}] }}"
            )
        lines += [
            # Without isolation every gateway's device subscriptions would be announced to all other gateways.
            f'leafnodes {{ listen: "{host}:{checked_port("leaf_port", server.leaf_port)}",'
            " isolate_leafnode_interest: true",
            *tls,
            "}",
            f"operator: {self._tokens['operator']}",
            f"system_account: {self._keys['sys'].public}",
            "resolver: MEMORY",
            "resolver_preload: {",
            f"  {self._keys['sys'].public}: {self._tokens['sys']}",
            f"  {self.fleet_account}: {self._tokens['fleet']}",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def mint_application(self, name: str, path: Path) -> Path:
        """Credentials of an application or administrator: everything inside FLEET, ordinary connections."""
        permissions = Permissions(connection_types=("STANDARD", "WEBSOCKET"))
        return self._mint("fleet-signing", "fleet", name, permissions, path)

    def mint_system(self, name: str, path: Path) -> Path:
        """Credentials for the system account (server events, monitoring)."""
        return self._mint("sys", "sys", name, Permissions(), path)

    def mint_site(self, site: str, path: Path, *, sends_to: Sequence[str] = ()) -> Path:
        """Credentials for the leaf of one site: leaf connections only, its own subjects only, and mail to the devices
        of the sites in `sends_to`."""
        return self._mint("fleet-signing", "fleet", f"leaf-{site}", site_permissions(site, sends_to=sends_to), path)

    def _mint(self, signer: str, account: str, name: str, permissions: Permissions, path: Path) -> Path:
        user = NatsKey.generate("user")
        token = user_jwt(user, name, self._keys[signer], account=self._keys[account], permissions=permissions)
        write_private(path, credentials_text(token, user).encode())
        return path


def _tls_block(server: HubServer) -> list[str]:
    if (server.tls_certificate is None) != (server.tls_key is None):
        raise ConfigError("tls_key", server.tls_key, "certificate and key must be given together")
    if server.tls_certificate is None or server.tls_key is None:
        return []
    return [
        f"tls {{ cert_file: {quoted('tls_certificate', str(server.tls_certificate.absolute()))},"
        f" key_file: {quoted('tls_key', str(server.tls_key.absolute()))} }}"
    ]
