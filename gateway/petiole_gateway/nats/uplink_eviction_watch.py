"""Makes room in the leaf's stream while the store runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from ..hub.ports import Logger
from .api import JetStreamApi
from .errors import NatsError
from .uplink_admission import StoreMetrics
from .uplink_eviction import StoreSpace, evict
from .uplink_lane import Lane


class Eviction:
    """Evicts what may go; the newest message of each lane stays."""

    def __init__(
        self,
        api: JetStreamApi,
        site: str,
        space: StoreSpace,
        metrics: StoreMetrics,
        logger: Logger,
        *,
        with_hub: bool,
        barrier: Callable[[], Awaitable[None]],
    ) -> None:
        self._api = api
        self._site = site
        self._space = space
        self._metrics = metrics
        self._logger = logger
        self._with_hub = with_hub
        self._barrier = barrier

    async def look(self, lanes: Iterable[Lane]) -> bool:
        """Look at the stream once and evict. False if that failed, which is logged."""
        newest = {lane.device: lane.stored_at for lane in lanes}
        try:
            evicted = await evict(
                self._api, self._site, self._space, with_hub=self._with_hub, newest=newest, barrier=self._barrier
            )
        except (NatsError, OSError, TimeoutError) as error:
            self._logger.warning("eviction_failed", error=str(error))
            return False
        self._metrics.evicted_total += evicted
        return True
