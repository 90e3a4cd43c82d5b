"""Streams of the mailboxes: one per site on the hub, one on each leaf for local senders, and the bucket `mailbox`.

The hub's stream is the box: what is in it has no end yet, and what has ended is deleted. It is one stream per site,
because the rights to read and to delete are rights on a whole stream.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from .api import Document, JetStreamApi
from .streams import HUB_DUPLICATE_WINDOW_S, SEQUENCES_PER_SECOND, ensure_stream
from .subjects import (
    DOCUMENT_STREAM,
    LEAF_MAIL_STREAM,
    checked_token,
    hub_notice_subject,
    leaf_notice_subject,
    mail_filter,
    mail_stream,
)

_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND

# Of one device, without a key: the server refuses the next, and its sender knows.
BOX_SIZE = 32
# The longest life of an item is 30 days and an hour; for those without a TTL of their own.
BOX_MAX_AGE_DAYS = 31
# PROTOCOL.md allows a command 4096 bytes of CBOR, which are at most so many of JSON; headers included.
MAX_MAIL = 16 * 1024
# Of a document: the item, or what its device has answered, and what became of it.
MAX_RECORD = 2 * MAX_MAIL
# 30,000 items of the usual 200 bytes and more than ten times that.
BOX_MAX_BYTES = 64 * 1024 * 1024
# How long one can ask what became of an item.
DOCUMENT_DAYS = 7
LEAF_DOCUMENTS_MAX_BYTES = 64 * 1024 * 1024
HUB_DOCUMENTS_MAX_BYTES = 1024 * 1024 * 1024


def box_config(name: str, subjects: str, notices: str, replicas: int) -> Document:
    """A stream of items, which announces each under `notices`."""
    return {
        "name": name,
        "subjects": [subjects],
        "storage": "file",
        "num_replicas": replicas,
        "retention": "limits",
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": BOX_SIZE,
        "max_msg_size": MAX_MAIL,
        "max_bytes": BOX_MAX_BYTES,
        "max_age": BOX_MAX_AGE_DAYS * _DAY,
        "duplicate_window": HUB_DUPLICATE_WINDOW_S * _SECOND,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "republish": {"src": ">", "dest": f"{notices}.>"},
    }


def documents_config(max_bytes: int, replicas: int) -> Document:
    """The bucket `mailbox`. It drops its oldest rather than refuse: it is history. No rollup: with it a site that may
    write its own documents could remove those of all others."""
    return {
        "name": DOCUMENT_STREAM,
        "subjects": ["$KV.mailbox.>"],
        "storage": "file",
        "num_replicas": replicas,
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_msg_size": MAX_RECORD,
        "max_bytes": max_bytes,
        "max_age": (BOX_MAX_AGE_DAYS + DOCUMENT_DAYS) * _DAY,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
    }


async def ensure_hub_mailbox(api: JetStreamApi, sites: Sequence[str], *, replicas: int) -> None:
    """The hub's stream of each of these sites, and the bucket; may be called any number of times."""
    await ensure_stream(api, documents_config(HUB_DOCUMENTS_MAX_BYTES, replicas))
    for site in sites:
        config = box_config(mail_stream(site), mail_filter("down", site), hub_notice_subject(site), replicas)
        await _ensure_box(api, config)


async def remove_hub_mailbox(api: JetStreamApi, site: str) -> bool:
    """Delete the stream of a site with all items in it. False if there was none."""
    name = mail_stream(site)
    if await api.stream_info(name) is None:
        return False
    await api.request(f"STREAM.DELETE.{name}")
    return True


async def ensure_leaf_mailbox(api: JetStreamApi, site: str) -> bool:
    """The leaf's stream and bucket. True if the bucket was not there."""
    checked_token("site", site)
    config = box_config(LEAF_MAIL_STREAM, mail_filter("out", site), leaf_notice_subject(site), 1)
    await _ensure_box(api, config)
    found = await api.stream_info(DOCUMENT_STREAM)
    await ensure_stream(api, documents_config(LEAF_DOCUMENTS_MAX_BYTES, 1), found)
    return found is None


async def _ensure_box(api: JetStreamApi, config: Document) -> None:
    found = await api.stream_info(config["name"])
    # A stream that replaces a lost one begins above all numbers that a gateway may remember, unless the site has had
    # more than a thousand items per second for all its life.
    first = {} if found is not None else {"first_seq": int(time.time() * SEQUENCES_PER_SECOND)}
    await ensure_stream(api, {**config, **first}, found)
