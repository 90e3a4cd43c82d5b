"""The state of a whole system, as it can be seen from the server that one is connected to.

At the hub: all sites. On a leaf: its own site; the hub only as far as the gateways know. Whatever does not answer in
time is left out, and `findings` says so.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsClientError

from petiole_gateway.nats.api import Document, JetStreamApi, StoredMessage
from petiole_gateway.nats.errors import LinkError
from petiole_gateway.nats.listing import read_stream
from petiole_gateway.nats.presence_streams import STREAM as PRESENCE_STREAM
from petiole_gateway.nats.subjects import HUB_DOMAIN, UPLINK_STREAM, mail_stream, presence_subject, probe_subject
from petiole_tools.client import Client
from petiole_tools.failure import CliError
from petiole_tools.output import natural

# Gateways answer from memory: a moment of silence after the last is the end; a site over a mobile link has the whole.
GATHER_S = 2.0
QUIET_S = 0.4
STATUS_TIMEOUT_S = 5.0
SERVICE = "petiole-gateway"


async def collect(client: Client, site: str | None) -> Document:
    """Everything that can be seen, of one site if `site` is given."""
    api = JetStreamApi(client.connection, timeout_s=STATUS_TIMEOUT_S)
    domain = client.connection._server_info.get("domain")
    server = client.connection.connected_server_version
    is_hub = domain == HUB_DOMAIN
    gateways, uplinks = await asyncio.gather(
        _gateways(client, site), _stream(api, UPLINK_STREAM, subjects_filter=probe_subject("*"))
    )
    sites = {gateway["site"] for gateway in gateways} | ({site} if site else set())
    links = [link for link in _links(uplinks) if site in (None, link["site"])] if is_hub else []
    sites |= {link["site"] for link in links}
    if not is_hub:
        sites.add(site or domain or client.site)
    devices, mailboxes = await asyncio.gather(_devices(api, site), _mailboxes(api, sorted(sites), gateways, is_hub))
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "seen_from": {
            "url": client.target.url,
            "domain": domain,
            "is_hub": is_hub,
            "server_version": f"{server.major}.{server.minor}.{server.patch}",
        },
        "sites": sorted(sites),
        "gateways": gateways,
        "links": links,
        "streams": [_stream_row(uplinks)] if uplinks else [],
        "devices": devices,
        "mailboxes": mailboxes,
    }


async def _gateways(client: Client, site: str | None) -> list[Document]:
    """What each gateway that answers says of itself."""
    subjects = await status_subjects(client, site)
    found = await asyncio.gather(*(_status(client, subject) for subject in subjects))
    return [each for each in found if each is not None]


async def status_subjects(client: Client, site: str | None) -> list[str]:
    """`gw.<site>.<gateway>.status` of each gateway that answers."""
    heard: list[str] = []
    more = asyncio.Event()

    async def take(message: Msg) -> None:
        try:
            described = json.loads(message.data)
            endpoints = [str(each["subject"]) for each in described["endpoints"]]
        except (ValueError, KeyError, TypeError):
            return
        # gw.<site>.<gateway>.status; the one without a name is answered by any gateway of the site.
        named = [each for each in endpoints if each.endswith(".status") and each.count(".") == 3]
        heard.extend(named or [each for each in endpoints if each.endswith(".status")])
        more.set()

    inbox = client.connection.new_inbox()
    subscription = await client.connection.subscribe(inbox, cb=take)
    try:
        await client.connection.publish(f"$SRV.INFO.{SERVICE}", b"", reply=inbox)
        async with asyncio.timeout(GATHER_S):
            while True:
                more.clear()
                async with asyncio.timeout(QUIET_S if heard else GATHER_S):
                    await more.wait()
    except TimeoutError:
        pass
    finally:
        await subscription.unsubscribe()
    return sorted({each for each in heard if site in (None, each.split(".")[1])})


async def _status(client: Client, subject: str) -> Document | None:
    try:
        found = await client.ask(subject, {}, STATUS_TIMEOUT_S, CliError(f"{subject} does not answer", ""))
    except CliError:
        return None
    return found if isinstance(found, dict) and "site" in found else None


async def _stream(api: JetStreamApi, name: str, **body: object) -> Document | None:
    try:
        return await api.stream_info(name, **body)
    except LinkError:
        return None


def _links(uplinks: Document | None) -> list[Document]:
    """The sites from which the hub takes readings, and when it last heard of each."""
    out = []
    for source in (uplinks or {}).get("sources") or []:
        prefix = str((source.get("external") or {}).get("api", ""))
        parts = prefix.split(".")
        if len(parts) == 3:
            active = source.get("active", -1)
            heard_s = round(active / 1e9, 1) if isinstance(active, int) and active >= 0 else None
            out.append({"site": parts[1], "lag": source.get("lag", 0), "heard_s_ago": heard_s})
    return out


def _stream_row(info: Document) -> Document:
    """`subjects` of the info are those of probes."""
    cluster = info.get("cluster") or {}
    probes = sum((info["state"].get("subjects") or {}).values())
    return {
        "name": info["config"]["name"],
        "messages": info["state"]["messages"],
        "readings": info["state"]["messages"] - probes,
        "bytes": info["state"]["bytes"],
        "replicas": info["config"].get("num_replicas", 1),
        "leader": cluster.get("leader"),
        "behind": [
            peer["name"] for peer in cluster.get("replicas") or [] if peer.get("offline") or not peer["current"]
        ],
    }


async def _devices(api: JetStreamApi, site: str | None) -> list[Document] | None:
    """The bucket `presence`; None if there is none."""
    found: list[Document] = []

    def take(message: StoredMessage) -> None:
        try:
            document = json.loads(message.payload)
            found.append({"site": message.subject.split(".")[2], "device": document["device"], **document})
        except (ValueError, KeyError, TypeError, IndexError):
            return  # a device that was removed

    try:
        subjects = presence_subject(site, "*") if site else "$KV.presence.>"
        await read_stream(api.client, api, PRESENCE_STREAM, subjects, 1, take)
    except (LinkError, NatsClientError):
        return None
    return sorted(found, key=lambda each: (each["site"], natural(each["device"])))


async def _mailboxes(
    api: JetStreamApi, sites: list[str], gateways: list[Document], is_hub: bool
) -> dict[str, dict[str, Any]]:
    """What waits for the devices of each site."""
    if not is_hub:
        waiting = {each["site"]: (each.get("mail") or {}).get("waiting") for each in gateways}
        return {site: {"waiting": count, "fullest": None} for site, count in waiting.items() if count is not None}
    found = await asyncio.gather(*(_stream(api, mail_stream(site), subjects_filter=">") for site in sites))
    out: dict[str, dict[str, Any]] = {}
    for site, info in zip(sites, found, strict=True):
        if info is not None:
            counts: Counter[str] = Counter()
            for subject, count in (info["state"].get("subjects") or {}).items():
                counts[subject.split(".")[2]] += count
            fullest = counts.most_common(1)
            out[site] = {
                "waiting": info["state"]["messages"],
                "fullest": {"device": fullest[0][0], "items": fullest[0][1]} if fullest else None,
            }
    return out
