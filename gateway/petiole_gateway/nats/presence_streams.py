"""The bucket `presence`: of each device, whether it is there. On each leaf that of its site, on the hub all."""

from __future__ import annotations

from .api import Document, JetStreamApi
from .streams import ensure_stream
from .subjects import PRESENCE_BUCKET, bucket_stream

STREAM = bucket_stream(PRESENCE_BUCKET)
# A document has some 300 bytes. A bucket that is full drops what it was told longest ago, which is told again.
MAX_DOCUMENT = 2048
LEAF_MAX_BYTES = 8 * 1024 * 1024  # of the 16 MB of memory that the leaf may use: 15,000 devices
HUB_MAX_BYTES = 256 * 1024 * 1024


def presence_config(storage: str, max_bytes: int, replicas: int) -> Document:
    """No rollup: with it a site that may write its own documents could remove those of all others."""
    return {
        "name": STREAM,
        "subjects": [f"$KV.{PRESENCE_BUCKET}.>"],
        "storage": storage,
        "num_replicas": replicas,
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_msg_size": MAX_DOCUMENT,
        "max_bytes": max_bytes,
        "allow_msg_ttl": True,
        "allow_direct": True,
    }


async def ensure_hub_presence(api: JetStreamApi, *, replicas: int) -> None:
    """The hub's bucket; may be called any number of times."""
    await ensure_stream(api, presence_config("file", HUB_MAX_BYTES, replicas))


async def ensure_leaf_presence(api: JetStreamApi) -> bool:
    """The leaf's bucket, in memory: no state of a device costs a write to the disk. True if it has lost what it had."""
    found = await api.stream_info(STREAM)
    info = await ensure_stream(api, presence_config("memory", LEAF_MAX_BYTES, 1), found)
    return int(info["state"]["messages"]) == 0
