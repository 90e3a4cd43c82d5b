"""Room in the leaf's stream: what may be evicted, and what must be remembered before it is.

The stream itself refuses at its limit and never drops anything. Old messages are purged here, and with a hub only those
that the hub has taken. The newest message of a device carries its last stored sequence; before it is purged that
number goes to a small KV bucket. So the bucket is written only when a device was silent for a whole history.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .api import Document, JetStreamApi
from .errors import ApiError, LinkError
from .subjects import HUB_CONSUMER, SEQUENCE_HEADER, UPLINK_STREAM, uplink_filter

SNAPSHOT_STREAM = "KV_uplink"
_SNAPSHOT_SUBJECT = "$KV.uplink"
# Start evicting at 80 % of what may be used, down to 70 %: one purge per tenth of the store, which on a Pi
# is one per some 500,000 readings.
HIGH_WATER = 0.8
LOW_WATER = 0.7
# Room kept for burnt sequence numbers and for what other gateways of the site store between two looks.
MAX_RESERVE = 16 * 1024 * 1024


@dataclass(slots=True)
class StoreSpace:
    """Sizes in bytes; `used` is what the stream held at the last look plus upper bounds for what came since."""

    max_bytes: int
    used: int = 0

    @property
    def usable(self) -> int:
        """The caller is refused beyond this, before the server would refuse."""
        return self.max_bytes - self.reserve

    @property
    def reserve(self) -> int:
        """Never filled by uplinks."""
        return min(MAX_RESERVE, self.max_bytes // 8)

    @property
    def wants_eviction(self) -> bool:
        """Above the high water mark."""
        return self.used > HIGH_WATER * self.usable


def stored_sequence(headers: dict[str, str]) -> int:
    """The device's sequence number in a stored message, 0 if it carries none."""
    try:
        return int(headers.get(SEQUENCE_HEADER, "0"))
    except ValueError:
        return 0


async def ensure_snapshots(api: JetStreamApi) -> None:
    """The bucket of last sequences."""
    if await api.stream_info(SNAPSHOT_STREAM) is not None:
        return
    config: Document = {
        "name": SNAPSHOT_STREAM,
        "subjects": [f"{_SNAPSHOT_SUBJECT}.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "discard": "new",
        "max_msg_size": 1024,
        # 100,000 devices of about 120 bytes, several times over.
        "max_bytes": 64 * 1024 * 1024,
    }
    try:
        await api.request(f"STREAM.CREATE.{SNAPSHOT_STREAM}", config)
    except ApiError as error:
        if error.err_code != 10058:  # created by another gateway of the site at the same time
            raise


def snapshot_subject(device: str) -> str:
    """Where the last sequence of a device is remembered."""
    return f"{_SNAPSHOT_SUBJECT}.{device}"


async def snapshot_sequence(api: JetStreamApi, device: str) -> int:
    """Last sequence remembered for a device, 0 if none."""
    entry = await api.last_message(SNAPSHOT_STREAM, snapshot_subject(device))
    return int(entry.payload) if entry is not None and entry.payload.isdigit() else 0


async def evict(
    api: JetStreamApi,
    site: str,
    space: StoreSpace,
    *,
    with_hub: bool,
    newest: dict[str, int],
    barrier: Callable[[], Awaitable[None]],
) -> int:
    """Purge the oldest messages down to the low water mark as far as allowed; returns how many went.

    `newest` gives stream sequences of the newest known message per device, which saves looking it up; `barrier`
    returns when all that is stored is durable. Updates `space.used`.
    """
    info = await api.stream_info(UPLINK_STREAM)
    if info is None:
        return 0
    state = info["state"]
    space.used = state["bytes"]
    if not space.wants_eviction or state["messages"] == 0:
        return 0
    # By average size: exact enough, the next look corrects it.
    fraction = 1 - LOW_WATER * space.usable / space.used
    span = state["last_seq"] - state["first_seq"] + 1
    limit = state["first_seq"] + int(span * fraction) + 1
    if with_hub:
        consumer = await api.consumer_info(UPLINK_STREAM, HUB_CONSUMER)
        taken = consumer["ack_floor"]["stream_seq"] if consumer is not None else 0
        limit = min(limit, taken + 1)
    if limit <= state["first_seq"]:
        return 0
    if await _remember(api, site, limit, newest):
        await barrier()  # the purge must not reach the disk before what it makes necessary
    answer = await api.request(f"STREAM.PURGE.{UPLINK_STREAM}", {"seq": limit})
    info = await api.stream_info(UPLINK_STREAM)
    if info is not None:
        space.used = info["state"]["bytes"]
    return int(answer["purged"])


async def _remember(api: JetStreamApi, site: str, limit: int, newest: dict[str, int]) -> int:
    """Save the last sequence of every device whose newest message lies before `limit`; how many were saved."""
    remembered = 0
    for device in await _devices(api, site):
        if newest.get(device, 0) >= limit:
            continue
        message = await api.last_message(UPLINK_STREAM, uplink_filter(site, device))
        if message is None or message.stream_sequence >= limit:
            continue
        payload = str(stored_sequence(message.headers)).encode()
        await api.store(f"{_SNAPSHOT_SUBJECT}.{device}", payload)
        remembered += 1
    return remembered


async def _devices(api: JetStreamApi, site: str) -> set[str]:
    devices: set[str] = set()
    offset = 0
    while True:
        info = await api.stream_info(UPLINK_STREAM, subjects_filter=uplink_filter(site), offset=offset)
        subjects = (info or {}).get("state", {}).get("subjects") or {}
        devices.update(subject.split(".")[2] for subject in subjects)
        offset += len(subjects)
        if info is None or not subjects or offset >= info.get("total", 0):
            return devices


async def stored_last(api: JetStreamApi, site: str, device: str) -> tuple[int, int] | LinkError:
    """The highest sequence that is stored of a device, 0 if there is none, and its place in the stream, 0 if only the
    snapshot has it."""
    try:
        message = await api.last_message(UPLINK_STREAM, uplink_filter(site, device))
        snapshot = await snapshot_sequence(api, device)
    except LinkError as error:
        return error
    if message is None:
        return snapshot, 0
    return max(stored_sequence(message.headers), snapshot), message.stream_sequence
