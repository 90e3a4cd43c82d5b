"""Silence on the leaf until the hub has noticed that the stream is not what it was.

The hub's source counts the messages that the consumer delivers. After the leaf lost messages, or its whole store,
the consumer counts from lower again; the hub takes as many new messages for repetitions as were lost, skips them
without a word, and they are gone. It notices only at an idle heartbeat of a consumer that has delivered something
that the counts differ, and then asks for everything after the last message it has. So before anything new can be
delivered:

1. the consumer is paused and limited to one unacknowledged message, behind a few empty ones
   (`silence_leaf_consumer`);
2. when the hub listens, one is let through;
3. paused again, the consumer's heartbeats tell the hub its count, and the hub starts over if it does not agree;
4. then the consumer is given free.

The limit of one message is the note that says "not handed over": it is in the leaf's store and survives restarts.
"""

from __future__ import annotations

import asyncio

from ..hub.ports import Logger
from .api import Document, JetStreamApi
from .errors import LinkError
from .streams import PROBES, leaf_consumer_config, silent_consumer_config, write_leaf_consumer
from .subjects import HUB_CONSUMER, UPLINK_STREAM, probe_subject

# The consumer's heartbeat is 1 s. The hub answers a wrong count at once, or, when it is just waiting for an earlier
# answer, within its 5 s for that.
HEARD_AFTER_S = 6.0
POLL_S = 0.25
PROBE_POLL_S = 0.01
PROBE_TIMEOUT_S = 5.0
RETRY_S = 0.25


async def needs_handover(api: JetStreamApi) -> bool:
    """The consumer exists and has not been handed over."""
    info = await api.consumer_info(UPLINK_STREAM, HUB_CONSUMER)
    return info is not None and info["config"].get("max_ack_pending") == 1


async def hand_over(api: JetStreamApi, site: str, *, heard_after_s: float = HEARD_AFTER_S) -> None:
    """Steps 2 to 4; waits for the hub as long as it takes. LinkError if the leaf went away: begin again."""
    silent, free = silent_consumer_config(site), leaf_consumer_config(site)
    probe = await api.last_message(UPLINK_STREAM, probe_subject(site))
    while True:
        await write_leaf_consumer(api, silent)
        await _listened(api, 0.0)
        if (await _info(api))["delivered"]["consumer_seq"] == 0:
            await write_leaf_consumer(api, {**free, "max_ack_pending": 1})
            await _delivered(api)
            await write_leaf_consumer(api, silent)
        delivered = (await _info(api))["delivered"]
        if probe is not None and delivered["stream_seq"] > probe.stream_sequence:
            # We were too slow, uplinks have passed and may have been taken for repetitions: back to the probes.
            first = probe.stream_sequence - PROBES + 1
            await api.request(f"CONSUMER.RESET.{UPLINK_STREAM}.{HUB_CONSUMER}", {"seq": first})
        elif delivered["consumer_seq"] > 0:
            break
    await _listened(api, heard_after_s)
    await write_leaf_consumer(api, free)


async def _listened(api: JetStreamApi, duration_s: float) -> None:
    """Return when the hub has listened to the consumer for `duration_s` without a break."""
    loop = asyncio.get_running_loop()
    since: float | None = None
    while since is None or loop.time() - since < duration_s:
        if not (await _info(api)).get("push_bound"):
            since = None
        elif since is None:
            since = loop.time()
        await asyncio.sleep(POLL_S)


async def _delivered(api: JetStreamApi) -> None:
    """Wait for one delivery, but not for ever."""
    deadline = asyncio.get_running_loop().time() + PROBE_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        if (await _info(api))["delivered"]["consumer_seq"] > 0:
            return
        await asyncio.sleep(PROBE_POLL_S)


async def _info(api: JetStreamApi) -> Document:
    return await api.consumer_info(UPLINK_STREAM, HUB_CONSUMER) or {"delivered": {"consumer_seq": 0}}


async def keep_handed_over(api: JetStreamApi, site: str, reopened: asyncio.Event, *, logger: Logger) -> None:
    """After every opening of the stream let the hub have it, when it has noticed what happened to it. Until
    cancelled."""
    while True:
        await reopened.wait()
        reopened.clear()
        try:
            if await needs_handover(api):
                await hand_over(api, site)
                logger.info("uplink_handed_over")
        except LinkError as error:
            logger.warning("uplink_handover_retries", error=str(error))
            await asyncio.sleep(RETRY_S)
            reopened.set()
