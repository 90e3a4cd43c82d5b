"""What of the leaf's stream waits for the hub, as a person would count it.

The consumer's own figures say more than that: behind a young stream are the probes of its handover, and the hub
acknowledges what it has stored only when its window of flow control is full or nothing has come for a second, so of a
site that speaks more often than that hundreds of readings stay unacknowledged that the hub has had for minutes.
"""

from __future__ import annotations

from .api import JetStreamApi
from .errors import LinkError
from .streams import PROBES
from .subjects import HUB_CONSUMER, UPLINK_STREAM, probe_subject


async def waiting_for_hub(api: JetStreamApi, site: str) -> int | None:
    """Readings of the leaf's stream that wait for the hub; None while the leaf does not say.

    While the hub listens, what was sent to it does not wait: it is at most one window of flow control. While it does
    not, all that it has not acknowledged waits, as nobody here knows how much of that has arrived.
    """
    try:
        info = await api.consumer_info(UPLINK_STREAM, HUB_CONSUMER)
        if info is None:
            return None
        waiting, after = int(info["num_pending"]), int(info["delivered"]["stream_seq"])
        if not info.get("push_bound"):
            waiting, after = waiting + int(info["num_ack_pending"]), int(info["ack_floor"]["stream_seq"])
        return waiting - await _probes(api, site, after) if waiting else 0
    except LinkError:
        return None


async def _probes(api: JetStreamApi, site: str, after: int) -> int:
    """Probes behind a place of the stream. They are stored in one piece."""
    last = await api.last_message(UPLINK_STREAM, probe_subject(site))
    return 0 if last is None else min(PROBES, max(0, last.stream_sequence - after))
