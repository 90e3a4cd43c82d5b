"""The leaf's stream of uplinks, opened so that no sequence number of it ever means two messages."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..hub.ports import Logger
from .api import Document, JetStreamApi
from .binary import check_connected_server
from .consumer_state import is_unreadable, remove_consumer_state
from .errors import ApiError, ConfigError
from .publisher import Publisher
from .streams import ensure_leaf_uplink, silence_leaf_consumer
from .subjects import HUB_CONSUMER, UPLINK_STREAM, probe_subject
from .uplink_admission import MAX_PENDING, StoreMetrics
from .uplink_eviction import StoreSpace, ensure_snapshots
from .uplink_recovery import GAP_SIZE, BootMarker, burn_sequences

# Twice the uplinks that can be stored without a barrier behind them.
BURN_COUNT = 2 * MAX_PENDING


class UplinkStream:
    """`open` after every connect, before the first message. `last`: its highest sequence number that was seen.

    `state_dir` keeps one small file: whether the run before ended in order. `store_dir` is that of the server, None if
    it is not known.
    """

    def __init__(
        self,
        api: JetStreamApi,
        publisher: Publisher,
        *,
        site: str,
        state_dir: Path,
        store_dir: Path | None,
        space: StoreSpace,
        metrics: StoreMetrics,
        logger: Logger,
        with_hub: bool,
        burn_count: int,
    ) -> None:
        """ConfigError if what may be burnt does not fit into what `space` has in reserve."""
        if burn_count * GAP_SIZE > space.reserve:
            raise ConfigError("burn_count", burn_count, f"does not fit into an eighth of {space.max_bytes} bytes")
        self.last = 0
        self._api = api
        self._publisher = publisher
        self._site = site
        self._store_dir = store_dir
        self._space = space
        self._metrics = metrics
        self._logger = logger
        self._with_hub = with_hub
        self._burn_count = burn_count
        self._marker = BootMarker(state_dir)
        self._was_open = False  # in this run

    async def open(self) -> bool:
        """Create it if it is missing, and burn numbers if it may have lost messages that the hub has. True if it has
        lost some in this run. VersionError; LinkError (ConsumerStateError among them): begin again."""
        check_connected_server(self._api.client)
        info = await self._ensure()
        await ensure_snapshots(self._api)
        state = info["state"]
        self._space.used = state["bytes"]
        last = int(state["last_seq"])
        went_back = last < self.last
        if went_back or (not self._was_open and self._marker.needs_burn(stream_is_empty=state["messages"] == 0)):
            last = await self._burn(last)
        self.last = last
        if not self._was_open:
            # The marker replaces the old one only now: a crash during the burn leads to another burn.
            self._marker.write(clean=False)
            self._was_open = True
        return went_back

    def stored(self, sequence: int) -> None:
        """It has given this number to a message."""
        self.last = max(self.last, sequence)

    def close(self) -> None:
        """All that was ever sent to it is on disk: the next run has nothing to burn."""
        if self._was_open:
            self._marker.write(clean=True)

    async def _ensure(self) -> Document:
        """The stream with its consumer, which is made anew if the server cannot read its files."""
        try:
            return await self._ensure_once()
        except ApiError as error:
            if not is_unreadable(error):
                raise
        # They were stored for the consumer, and the next attempt stores its own: without this they would pile up.
        await self._api.request(f"STREAM.PURGE.{UPLINK_STREAM}", {"filter": probe_subject(self._site)})
        folder = await asyncio.to_thread(remove_consumer_state, self._store_dir, UPLINK_STREAM, HUB_CONSUMER)
        self._logger.warning("consumer_files_removed", stream=UPLINK_STREAM, consumer=HUB_CONSUMER, folder=str(folder))
        info = await self._ensure_once()
        self._metrics.consumers_renewed_total += 1
        return info

    async def _ensure_once(self) -> Document:
        return await ensure_leaf_uplink(self._api, self._site, max_bytes=self._space.max_bytes, with_hub=self._with_hub)

    async def _burn(self, last: int) -> int:
        self._logger.warning("uplink_sequences_burnt", count=self._burn_count, stream_sequence=last)
        if self._with_hub:
            await silence_leaf_consumer(self._api, self._site)
        burnt_to = await burn_sequences(self._api, self._publisher, self._site, self._burn_count)
        self._metrics.burnt_total += self._burn_count
        return burnt_to
