"""The hub's uplinks on the uplink store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..hub.ports import Busy
from .errors import SequenceError, StoreBusy
from .subjects import uplink_subject
from .uplink_lane import Uplink
from .uplink_store import UplinkStore

# Long enough to ask the leaf what it has.
RELEARN_S = 0.1


class StoreUplinks:
    """Implements `hub.ports.Uplinks`. `durable` is told what is on disk."""

    def __init__(self, store: UplinkStore) -> None:
        self._store = store

    def tell(self, durable: Callable[[Sequence[tuple[str, int]]], None]) -> None:
        """Call `durable` with (device, sequence) from now on."""

        def on_durable(uplinks: Sequence[Uplink]) -> None:
            durable([(uplink.device, uplink.sequence) for uplink in uplinks])

        self._store.on_durable = on_durable

    async def last_sequence(self, device: str) -> int:
        try:
            return await self._store.last_sequence(device, refresh=True)
        except StoreBusy as busy:
            raise Busy(busy.reason, busy.retry_after_s) from busy

    def submit(self, device: str, sequence: int, channel: str, payload: bytes) -> None:
        subject = uplink_subject(self._store.site, device, channel)
        try:
            self._store.submit(Uplink(device, sequence, subject, payload))
        except SequenceError as error:
            # Another gateway of the site has stored for it; the hub asks again how far.
            raise Busy(str(error), RELEARN_S) from error
        except StoreBusy as busy:
            raise Busy(busy.reason, busy.retry_after_s) from busy
