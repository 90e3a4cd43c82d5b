"""Streams of the uplink: the leaf's `UP` with the consumer `hub`, and the hub's `UP` that sources every site.

Every `ensure_*` may be called at any time and any number of times: it creates what is missing, corrects what
differs and leaves other sites alone.
"""

from __future__ import annotations

import time
from typing import Any

from .api import Document, JetStreamApi
from .errors import ApiError
from .subjects import (
    HUB_CONSUMER,
    UPLINK_STREAM,
    checked_token,
    delivery_subject,
    gap_subject,
    probe_subject,
    uplink_filter,
)

_NANOSECONDS = 1_000_000_000

# A publish that was in flight when a connection broke may still be stored later, until the server drops the dead
# connection: 60 s by the leaf's pings. Within twice that its repetition is recognised by Nats-Msg-Id; all older
# repetitions are recognised by comparing with the last stored sequence.
LEAF_DUPLICATE_WINDOW_S = 120
# The hub sees a repetition only if the leaf's store was lost in between. Ten minutes are enough for one that is lost
# while the site runs; who changes a card by hand takes longer. They cost 180 bytes of memory per message.
HUB_DUPLICATE_WINDOW_S = 600
# The server's default of 1000 in flight limits a link of 100 ms round trip to 8,400 messages per second.
HUB_MAX_ACK_PENDING = 10_000
# One is needed at a handover; 20 were seen to pass between giving the consumer free and pausing it again.
PROBES = 64
# First sequence of a new stream: seconds since 1970 times this. A stream that replaces a lost one then begins above all
# numbers that the hub has seen, unless the site stores more than a thousand readings per second for all its life.
SEQUENCES_PER_SECOND = 1000
# Far beyond any clock, also that of a Pi without a clock that believes in 1970.
PAUSED_UNTIL = "2200-01-01T00:00:00Z"
DEFAULT_MAX_BYTES = 1024 * 1024 * 1024


def leaf_stream_config(site: str, max_bytes: int = DEFAULT_MAX_BYTES) -> Document:
    """Configuration of the leaf's `UP`.

    A limits stream that *refuses* at its limit; the uplink store evicts, and only what the hub has taken.
    """
    checked_token("site", site)
    return {
        "name": UPLINK_STREAM,
        "subjects": [uplink_filter(site), gap_subject(site)],
        "retention": "limits",
        "storage": "file",
        "num_replicas": 1,
        "discard": "new",
        "max_bytes": max_bytes,
        "duplicate_window": LEAF_DUPLICATE_WINDOW_S * _NANOSECONDS,
        "allow_direct": True,
    }


def leaf_consumer_config(site: str) -> Document:
    """Configuration of the consumer through which the hub takes the leaf's uplinks.

    Created here and not by the hub: a source over its own consumer needs up to 44 s to notice that a link is back,
    over this one 5 s, and the hub needs no right to create consumers on a leaf.
    """
    return {
        "name": HUB_CONSUMER,
        "durable_name": HUB_CONSUMER,
        "deliver_subject": delivery_subject(site),
        "filter_subject": uplink_filter(site),
        "ack_policy": "flow_control",
        "flow_control": True,
        "max_ack_pending": HUB_MAX_ACK_PENDING,
    }


def hub_source_config(site: str) -> Document:
    """The entry of one site in the hub stream's list of sources."""
    return {
        "name": UPLINK_STREAM,
        "external": {"api": f"$JS.{checked_token('site', site)}.API", "deliver": ""},
        "consumer": {"name": HUB_CONSUMER, "deliver_subject": delivery_subject(site)},
    }


async def ensure_leaf_uplink(
    api: JetStreamApi, site: str, *, max_bytes: int = DEFAULT_MAX_BYTES, with_hub: bool = True
) -> Document:
    """The leaf's `UP`, and its consumer `hub` if the site has a hub. Returns the stream's STREAM.INFO.

    A new consumer is born silent: see `uplink_handover`.
    """
    config = leaf_stream_config(site, max_bytes)
    info = await api.stream_info(UPLINK_STREAM)
    if info is None:
        config["first_seq"] = max(1, int(time.time()) * SEQUENCES_PER_SECOND)
    info = await ensure_stream(api, config, info)
    if with_hub and await api.consumer_info(UPLINK_STREAM, HUB_CONSUMER) is None:
        await silence_leaf_consumer(api, site)
    return info


async def silence_leaf_consumer(api: JetStreamApi, site: str) -> None:
    """Nothing that is stored from now on is delivered before `hand_over`; probes for that go first."""
    for _ in range(PROBES):
        await api.store(probe_subject(site), b"")
    await write_leaf_consumer(api, silent_consumer_config(site))


def silent_consumer_config(site: str) -> Document:
    """The consumer before its handover to the hub: paused, and with one message at a time after that."""
    return {**leaf_consumer_config(site), "max_ack_pending": 1, "pause_until": PAUSED_UNTIL}


async def write_leaf_consumer(api: JetStreamApi, config: Document) -> None:
    """Create the consumer or give it this configuration. An update does not touch the pause, so that comes apart."""
    await api.request(
        f"CONSUMER.CREATE.{UPLINK_STREAM}.{HUB_CONSUMER}", {"stream_name": UPLINK_STREAM, "config": config}
    )
    pause = {"pause_until": config["pause_until"]} if "pause_until" in config else {}
    await api.request(f"CONSUMER.PAUSE.{UPLINK_STREAM}.{HUB_CONSUMER}", pause)


async def ensure_hub_uplink(
    api: JetStreamApi, sites: list[str], *, replicas: int, max_age_s: int = 0, max_bytes: int = -1
) -> Document:
    """The hub's `UP` with at least these sites as sources; sites that are there already stay as they are.

    `replicas`: 1 for a single server, 3 for a cluster. `max_age_s` 0 keeps everything. Returns its STREAM.INFO.
    """
    info = await api.stream_info(UPLINK_STREAM)
    known: list[Document] = list(info["config"].get("sources") or []) if info else []
    present = {source.get("external", {}).get("api") for source in known}
    wanted = [source for source in map(hub_source_config, sites) if source["external"]["api"] not in present]
    config: Document = {
        "name": UPLINK_STREAM,
        "storage": "file",
        "num_replicas": replicas,
        "retention": "limits",
        "duplicate_window": HUB_DUPLICATE_WINDOW_S * _NANOSECONDS,
        "max_age": max_age_s * _NANOSECONDS,
        "max_bytes": max_bytes,
        "allow_direct": True,
        "sources": known + wanted,
    }
    return await ensure_stream(api, config, info)


async def remove_hub_site(api: JetStreamApi, site: str) -> bool:
    """Take one site out of the hub's sources; its messages stay. False if it was not there."""
    info = await api.stream_info(UPLINK_STREAM)
    name = hub_source_config(site)["external"]["api"]
    sources = list(info["config"].get("sources") or []) if info else []
    kept = [source for source in sources if source.get("external", {}).get("api") != name]
    if info is None or len(kept) == len(sources):
        return False
    await api.request(f"STREAM.UPDATE.{UPLINK_STREAM}", {**info["config"], "sources": kept})
    return True


async def ensure_stream(api: JetStreamApi, config: Document, info: Document | None = None) -> Document:
    """The stream with at least this configuration; its STREAM.INFO. `info`, when given, is what it is now."""
    name = config["name"]
    info = info or await api.stream_info(name)
    if info is None:
        try:
            return await api.request(f"STREAM.CREATE.{name}", config)
        except ApiError as error:
            if error.err_code != 10058:  # "stream name already in use": another process was faster
                raise
            info = await api.stream_info(name)
            if info is None:
                raise
    current: dict[str, Any] = info["config"]
    if all(_same(current.get(key), value) for key, value in config.items()):
        return info
    return await api.request(f"STREAM.UPDATE.{name}", {**current, **config})


def _same(found: object, wanted: object) -> bool:
    """Equal, apart from fields that the server fills in or leaves out when they are empty."""
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        return all(_same(one, other) for one, other in zip(found, wanted, strict=True))
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(_same(found.get(key), value) for key, value in wanted.items())
    return found == wanted or (not found and not wanted)
