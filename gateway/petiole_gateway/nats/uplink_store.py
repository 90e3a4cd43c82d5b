"""The store of confirmed uplinks: in the leaf's stream exactly once and in order, then on disk, then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from ..durations import Durations
from ..hub.ports import Logger
from .api import JetStreamApi
from .barrier import INTERVAL_S, Barrier, Durability
from .connection import Connection
from .errors import (
    BarrierError,
    LinkError,
    NatsError,
    NotConnectedError,
    PublishRefusedError,
    SequenceError,
)
from .publisher import PubAck, Publisher
from .streams import DEFAULT_MAX_BYTES
from .subjects import checked_token
from .task_end import end_tasks
from .uplink_admission import BUSY_RETRY_S, MAX_PENDING, Admission, StoreMetrics
from .uplink_backlog import waiting_for_hub
from .uplink_eviction import StoreSpace
from .uplink_eviction_watch import Eviction
from .uplink_handover import keep_handed_over
from .uplink_lane import Lane, Uplink
from .uplink_lanes import Lanes
from .uplink_marks import Marks
from .uplink_stream import BURN_COUNT, UplinkStream

# After a refusal or a failed request: short enough for a restart, long enough not to spin.
RETRY_S = 0.25
# How often room is looked at while it is scarce; two local requests.
SPACE_POLL_S = 1.0
STOP_TIMEOUT_S = 5.0
LOOKUP_TIMEOUT_S = 10.0
_RECHECK_S = 0.01
_SENDS_PER_TURN = 256


class UplinkStore:
    """Takes uplinks by `submit`, says by `on_durable` when they are stored and on disk.

    Every submitted uplink is in the stream exactly once, in the order of its device's sequence numbers, whatever
    is restarted in between. If this process ends before `on_durable`, the node sends the uplink again and
    `last_sequence` tells whether it was stored.

    `store_dir` is a folder on the file system of the leaf's JetStream store, None if that is on another machine; then
    `durability` must be CRASH. `state_dir` keeps one small file. With `with_hub` nothing is evicted that the hub has
    not taken.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        site: str,
        state_dir: Path,
        store_dir: Path | None,
        logger: Logger,
        durability: Durability = Durability.POWER_LOSS,
        with_hub: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_pending: int = MAX_PENDING,
        burn_count: int = BURN_COUNT,
        barrier_interval_s: float = INTERVAL_S,
        on_durable: Callable[[Sequence[Uplink]], None] = lambda uplinks: None,
    ) -> None:
        self.site = checked_token("site", site)
        self.metrics = StoreMetrics()
        self.on_durable = on_durable
        self.space_looks_total = 0
        self._connection = connection
        self._logger = logger
        self._with_hub = with_hub
        self._space = StoreSpace(max_bytes)
        self._admission = Admission(site, self._space, self.metrics, max_pending=max_pending)
        self._api = JetStreamApi(connection.client)
        self._publisher = Publisher(connection)
        self._stream = UplinkStream(
            self._api,
            self._publisher,
            site=site,
            state_dir=state_dir,
            store_dir=store_dir,
            space=self._space,
            metrics=self.metrics,
            logger=logger,
            with_hub=with_hub,
            burn_count=burn_count,
        )
        self._barrier = Barrier(
            store_dir,
            durability,
            on_passed=self._barrier_passed,
            on_failed=self._barrier_failed,
            interval_s=barrier_interval_s,
        )
        self._eviction = Eviction(
            self._api, site, self._space, self.metrics, logger, with_hub=with_hub, barrier=self._barrier.wait
        )
        self._marks = Marks(self._barrier.request, self._announce)
        self._wake = asyncio.Event()
        self._lanes = Lanes(self._wake.set)
        self._opened = asyncio.Event()  # set while the stream is known to take messages
        self._reopened = asyncio.Event()  # set after every opening: a handover to the hub may be due
        self._fault: LinkError | None = None
        self._problem: NatsError | None = None  # why the stream did not open the last time
        self._tasks: list[asyncio.Task[None]] = []
        self._unlisten: Callable[[], None] | None = None

    # -- for the gateway ---------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Uplinks submitted and not yet durable."""
        return self._admission.pending

    @property
    def waiting_s(self) -> float:
        """For how long nothing has become durable although something waits for it."""
        return self._admission.waiting_s

    @property
    def is_healthy(self) -> bool:
        """The leaf takes messages at this moment."""
        return self._opened.is_set()

    @property
    def durability(self) -> Durability:
        """What an acknowledged uplink survives."""
        return self._barrier.durability

    @property
    def barrier_durations(self) -> Durations:
        """How long the disk took to make readings durable."""
        return self._barrier.durations

    @property
    def space(self) -> StoreSpace:
        """How full the stream is."""
        return self._space

    @property
    def is_working(self) -> bool:
        """Something waits to be stored, or to be on disk."""
        return self.pending > 0 or self._barrier.is_requested

    @property
    def steps_total(self) -> int:
        """Changes while it works, whether it stores, is refused or tries again."""
        metrics = self.metrics
        tries = metrics.retried_total + metrics.resolved_total + metrics.barrier_failed_total
        return metrics.stored_total + tries + self._barrier.passed

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Open the stream: create it if missing, burn sequence numbers after an unclean boot. NotConnectedError if
        the leaf does not take messages within `timeout_s`."""
        self._set_unhealthy()
        self._admission.accepting = True
        await self._publisher.start()
        self._unlisten = self._connection.listen(self._connection_changed)
        self._tasks = [
            self._connection.supervisor.keep("readings: the store", self._run, is_vital=True),
            self._connection.supervisor.keep("readings: the disk", self._barrier.run, is_vital=True),
            self._connection.supervisor.keep("readings: room", self._watch_space, is_vital=True),
        ]
        if self._with_hub:
            self._tasks.append(self._connection.supervisor.keep("readings: handover to the hub", self._hand_over))
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError as error:
            await self.stop()
            raise self._not_opened() from error

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Take nothing new, give what is pending up to `timeout_s` to become durable, then end. What is still
        pending is not lost: its nodes were not told that it is stored."""
        self._admission.accepting = False
        try:
            async with asyncio.timeout(timeout_s):
                while self.pending:
                    self._admission.emptied.clear()
                    await self._admission.emptied.wait()
        except TimeoutError:
            self._logger.warning("uplinks_not_drained", pending=self.pending)
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        await end_tasks(self._tasks)
        self._tasks.clear()
        await self._publisher.stop()
        self._barrier.close()
        # Only then is it certain that the disk has all that was ever sent to the stream.
        if self.pending == 0 and self.durability is Durability.POWER_LOSS:
            self._stream.close()
        for lane in self._lanes:
            for reader in lane.readers:
                reader.cancel()

    async def last_sequence(self, device: str, *, refresh: bool = False) -> int:
        """Highest sequence of this device that is stored and on disk, 0 if there is none.

        Remembered after the first call. `refresh` reads it again; do so when a device joins, because another
        gateway of the same site may have stored for it meanwhile. StoreBusy if the leaf does not answer.
        """
        lane = self._lanes.lane(checked_token("device", device))
        settled = lane.is_known and lane.durable >= lane.resolved
        if settled and not lane.readers and (not refresh or not lane.is_idle):
            return lane.durable
        if not lane.in_flight:
            self._lanes.doubt(lane)
        reader: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        lane.readers.append(reader)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                return await reader
        except TimeoutError as error:
            raise self._admission.busy("the leaf does not answer") from error
        finally:
            if reader in lane.readers:
                lane.readers.remove(reader)

    async def not_at_hub(self) -> int | None:
        """Readings in the stream that wait for the hub. None without a hub, or while the leaf does not say."""
        return await waiting_for_hub(self._api, self.site) if self._with_hub else None

    async def sync(self) -> None:
        """Return when everything that the leaf has acknowledged before this call, to anyone, is on disk."""
        await self._barrier.wait()

    def submit(self, uplink: Uplink) -> None:
        """Take one uplink; its `on_durable` follows. Never waits.

        SequenceError if it does not follow the device's previous one, LocalError if it can never be stored,
        StoreBusy (nothing taken) while there is no room or no leaf.
        """
        lane = self._lanes.find(uplink.device) or self._lanes.lane(checked_token("device", uplink.device))
        if uplink.sequence <= lane.submitted:
            raise SequenceError(uplink.device, uplink.sequence, lane.submitted)
        self._admission.admit(uplink)
        lane.submitted = uplink.sequence
        lane.waiting.append(uplink)
        self._lanes.make_ready(lane)

    # -- opening -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        opened_epoch = -1
        while True:
            await self._connection.wait_up()
            try:
                if self._connection.epoch != opened_epoch or self._fault is not None:
                    self._fault = None
                    await self._open()
                    opened_epoch = self._connection.epoch
                await self._serve(opened_epoch)
                # The client knows of a loss a moment before it says so; do not spin meanwhile.
                await asyncio.sleep(_RECHECK_S)
            except NatsError as error:
                self._set_unhealthy()
                opened_epoch = -1
                self._problem = error
                self._logger.warning("uplink_store_retries", error=str(error), hint=error.hint)
                await asyncio.sleep(RETRY_S if isinstance(error, LinkError) else BUSY_RETRY_S)
            except Exception as error:
                # A defect, but one that must not silence the store for ever: it begins again from the stream.
                self._set_unhealthy()
                opened_epoch = -1
                self._connection.supervisor.failed("readings: the store", error, is_vital=True)
                await asyncio.sleep(BUSY_RETRY_S)

    async def _open(self) -> None:
        """Everything that must be true before the first message after a (re)connect."""
        went_back = await self._stream.open()
        if went_back:
            self._marks.went_back()
        # What the stream holds at this moment is on disk after one barrier, so that lookups need none of their own.
        self._marks.add(None, 0, self._stream.last)
        for lane in self._lanes:
            if not lane.is_idle or lane.readers or went_back:
                self._lanes.doubt(lane)
        self._opened.set()
        self._reopened.set()
        self._admission.set_healthy(True)

    async def _hand_over(self) -> None:
        if self._opened.is_set():
            self._reopened.set()  # what an earlier run was at may not be done
        await keep_handed_over(self._api, self.site, self._reopened, logger=self._logger)

    def _connection_changed(self, up: bool) -> None:
        self._wake.set()
        if not up:
            self._marks.forget()
            self._set_unhealthy()

    def _set_unhealthy(self) -> None:
        self._opened.clear()
        self._admission.set_healthy(False)

    def _not_opened(self) -> NotConnectedError:
        problem = self._problem
        raised = NotConnectedError(f"uplink stream of {self.site} did not open" + (f": {problem}" if problem else ""))
        raised.hint = problem.hint if problem else raised.hint
        return raised

    # -- sending -----------------------------------------------------------------------------------------------

    async def _serve(self, epoch: int) -> None:
        """Resolve and send until the connection changes or something fails."""
        while self._connection.is_connected and self._connection.epoch == epoch:
            if self._fault is not None:
                raise self._fault
            resolved = False
            if self._lanes.wants_lookup:
                await self._lanes.look_up(self._api, self.site, self._found)
                resolved = True
            room, sent = min(_SENDS_PER_TURN, self._publisher.room), 0
            while sent < room and (lane := self._lanes.next_ready()) is not None:
                await self._send(lane)
                sent += 1
            if resolved or sent == _SENDS_PER_TURN:  # there may be more of either
                await asyncio.sleep(0)
                continue
            await self._wake.wait()
            self._wake.clear()

    async def _send(self, lane: Lane) -> None:
        uplink = lane.waiting[0]
        lane.in_flight = True
        self.metrics.published_total += 1
        try:
            await self._publisher.send(
                uplink.subject, uplink.payload, uplink.headers, lambda outcome: self._outcome(lane, outcome)
            )
        except NotConnectedError:
            lane.in_flight = False
            self._lanes.make_ready(lane)
            raise

    def _outcome(self, lane: Lane, outcome: PubAck | LinkError) -> None:
        lane.in_flight = False
        self._wake.set()
        if isinstance(outcome, PubAck):
            uplink = lane.acknowledge(outcome.stream_sequence)
            self._stream.stored(outcome.stream_sequence)
            self.metrics.stored_total += 1
            if outcome.duplicate:
                self.metrics.duplicates_total += 1
            else:
                self._space.used += uplink.stored_size
            self._marks.add(lane, uplink.sequence, outcome.stream_sequence)
            self._lanes.make_ready(lane)
            return
        # Refused, or nobody knows.
        self.metrics.retried_total += 1
        if isinstance(outcome, PublishRefusedError):
            self.metrics.refused_total += 1
            if outcome.is_full:
                self._space.used = self._space.max_bytes
        self._fault = outcome
        self._lanes.doubt(lane)

    def _found(self, lane: Lane) -> None:
        self.metrics.resolved_total += 1
        self._marks.add(lane, lane.stored, lane.stored_at)

    # -- durability --------------------------------------------------------------------------------------------

    def _barrier_passed(self, number: int) -> None:
        self.metrics.barrier_total = self._barrier.barrier_total
        self._marks.passed(number)

    def _announce(self, durable: list[Uplink]) -> None:
        self._admission.release(durable)
        self.on_durable(durable)

    def _barrier_failed(self, error: BarrierError) -> None:
        self.metrics.barrier_failed_total += 1
        self._logger.warning("barrier_failed", error=str(error))

    async def _watch_space(self) -> None:
        """Make room while it is scarce."""
        while True:
            await asyncio.sleep(SPACE_POLL_S)
            if self._space.wants_eviction and self._opened.is_set() and await self._eviction.look(self._lanes):
                self.space_looks_total += 1
