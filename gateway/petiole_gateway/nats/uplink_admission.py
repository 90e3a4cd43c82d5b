"""Who may put how much into the uplink store at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError, StoreBusy
from .subjects import is_uplink_subject
from .uplink_eviction import StoreSpace
from .uplink_lane import Uplink

# Bound of what waits in memory for its barrier: at 10,000 readings per second and 100 ms it never shows, while a
# leaf that is away for seconds is bridged. It also bounds what a power cut can take from the stream.
MAX_PENDING = 10_000
MAX_PENDING_BYTES = 16 * 1024 * 1024
# Readings are tens of bytes; a message beyond this is a mistake and would fill the leaf's link for seconds.
MAX_PAYLOAD = 64 * 1024
# A leaf server restarts in well under 5 s; until then what comes is kept. Later it is refused.
UNHEALTHY_GRACE_S = 5.0
BUSY_RETRY_S = 5.0


@dataclass(slots=True)
class StoreMetrics:
    """Counters since `start`."""

    submitted_total: int = 0
    published_total: int = 0
    stored_total: int = 0
    durable_total: int = 0
    duplicates_total: int = 0
    retried_total: int = 0
    refused_total: int = 0
    busy_total: int = 0
    resolved_total: int = 0
    evicted_total: int = 0
    burnt_total: int = 0
    consumers_renewed_total: int = 0
    barrier_total: int = 0
    barrier_failed_total: int = 0


class Admission:
    """Counts what is pending and refuses, by StoreBusy, what the stream or the memory might not hold.

    Everything admitted is guaranteed room in the stream: a refusal by the server in the middle of a pipeline would
    otherwise be a normal event.
    """

    def __init__(self, site: str, space: StoreSpace, metrics: StoreMetrics, *, max_pending: int) -> None:
        self.pending = 0
        self.accepting = False
        self.emptied = asyncio.Event()
        self._pending_bytes = 0
        self._site = site
        self._space = space
        self._metrics = metrics
        self._max_pending = max_pending
        self._unhealthy_since: float | None = None
        self._moved_at = 0.0  # when something has become durable, or the first came that waits now

    @property
    def waiting_s(self) -> float:
        """For how long something waits and nothing has become durable."""
        return asyncio.get_running_loop().time() - self._moved_at if self.pending else 0.0

    def set_healthy(self, healthy: bool) -> None:
        """The leaf takes messages, or does not."""
        if healthy:
            self._unhealthy_since = None
        elif self._unhealthy_since is None:
            self._unhealthy_since = asyncio.get_running_loop().time()

    def admit(self, uplink: Uplink) -> None:
        """Count one uplink as pending. ConfigError if it can never be stored, StoreBusy if not now."""
        self._check(uplink)
        size = uplink.stored_size
        if not self.accepting:
            raise self.busy("the store is not running")
        if self._unhealthy_since is not None:
            away_s = asyncio.get_running_loop().time() - self._unhealthy_since
            if away_s > UNHEALTHY_GRACE_S:
                raise self.busy("the leaf is away")
        if self.pending >= self._max_pending or self._pending_bytes + size > MAX_PENDING_BYTES:
            raise self.busy("too much is waiting")
        if self._space.used + self._pending_bytes + size > self._space.usable:
            raise self.busy("the stream is full")
        if not self.pending:
            self._moved_at = asyncio.get_running_loop().time()
        self.pending += 1
        self._pending_bytes += size
        self._metrics.submitted_total += 1

    def release(self, uplinks: Sequence[Uplink]) -> None:
        """These are durable."""
        self._moved_at = asyncio.get_running_loop().time()
        self.pending -= len(uplinks)
        self._pending_bytes -= sum(uplink.stored_size for uplink in uplinks)
        self._metrics.durable_total += len(uplinks)
        if self.pending == 0:
            self.emptied.set()

    def busy(self, reason: str) -> StoreBusy:
        """The error to raise, counted."""
        self._metrics.busy_total += 1
        return StoreBusy(reason, BUSY_RETRY_S)

    def _check(self, uplink: Uplink) -> None:
        if not is_uplink_subject(uplink.subject, self._site, uplink.device):
            raise ConfigError("subject", uplink.subject, f"must be up.{self._site}.{uplink.device}.<channel>")
        if uplink.sequence < 1:
            raise ConfigError("sequence", uplink.sequence, "must be at least 1")
        if len(uplink.payload) > MAX_PAYLOAD:
            raise ConfigError("payload", len(uplink.payload), f"is longer than {MAX_PAYLOAD} bytes")
