"""The wake cycle: wake, send, take mail, sleep (PROTOCOL.md, section 17). Loaded by sleepy nodes only."""

import asyncio

from petiole import cbor, resume, wire
from petiole.drift import Drift
from petiole_node.carrier import wait_for_event
from petiole_node.progress import Progress

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole.endpoint import NodeEndpoint
    from petiole_node.carrier import Carrier
    from petiole_node.contracts import Json, Port
    from petiole_node.execution import Execution
    from petiole_node.store import Store

_MARGIN_MS = 5000  # after its budget a wake has so long to come to its end, before the watchdog is not fed any more
_LOOK_MS = 250  # no frame is needed for a pause to be over
_LAST_MS = 100  # a wake is not followed by the next at once, however late it is
_DOUBT_AFTER = 4  # wakes in which nobody was heard: the session may be lost, so join beside it
_NOTES = 2  # version of what is in them
_MAIL_ROOM = 380  # of 512 bytes of notes; 16 ids of requests and the rest take less than 100
_MAX_OVERDUE_BITS = 16
_SHORTAGES = 20  # of memory in a row, with all collected each time: a node that cannot even sleep is better reset


class Cycle:
    """Made before the node's boots are counted: what was kept tells whether this is one."""

    def __init__(self, port: "Port", settings: "dict[str, Json]", period_s: float) -> None:
        self.sleeper = port.sleeper()
        self.progress = Progress()
        self.wakes_total = 0
        self.next_s: float | None = None
        self._port = port
        self._period_ms = int(1000 * period_s)
        self._policy_ms = 0
        self._budget_ms: int = settings["awake_ms"]
        self._is_deep: bool = settings["sleep"] == "deep"
        self._backoff: int = settings["backoff"]
        self._failures = 0  # wakes in a row in which the gateway was not heard
        self._woken_at = port.now()
        self._until = self._stay_until = 0
        self._stepped = asyncio.Event()
        self._is_speaking = False
        self._limit: asyncio.Task[None] | None = None
        self._heard: tuple[int, int] = (0, 0)
        self._endpoint: NodeEndpoint | None = None
        self._carrier: Carrier | None = None
        self._execution: Execution | None = None
        self._store: Store | None = None
        self._drift: Drift | None = None

    def attach(
        self, endpoint: "NodeEndpoint", carrier: "Carrier", execution: "Execution", store: "Store | None"
    ) -> None:
        """Go on where the node was before a deep sleep, as far as that was kept."""
        self._endpoint = endpoint
        self._carrier = carrier
        self._execution = execution
        self._store = store
        self._drift = Drift(endpoint.clock)
        carrier.progress = self.progress
        carrier.stepped = self._stepped
        execution.on_result = self.keep_result
        kept = self._load_notes()
        if self.sleeper.session is not None:
            fixed, counters = self.sleeper.session
            if resume.thaw(endpoint, fixed, counters, self.sleeper.is_continued, self._port.now()):
                endpoint.seen = [id for id in kept[2] if isinstance(id, int)]
                if self.sleeper.is_continued:
                    self._slept(kept[6])

    # A wake ------------------------------------------------------------------------------------------------

    async def run(self, main: "Json") -> None:
        """Wake after wake, for ever; a deep sleep does not return. `main` may return the seconds until the next."""
        while True:
            async with self:
                if main is not None:
                    self.next_s = await main()

    def begin(self) -> None:
        """A wake begins. Nothing is said before `speak`, so that all of it is in one frame."""
        now = self._port.now()
        self.wakes_total += 1
        self.next_s = None
        self._woken_at = now
        self._until = now + self._budget_ms
        self._stay_until = 0
        self._is_speaking = False
        self._heard = self._marks()
        self._expect(now, self._budget_ms)
        if self._endpoint is not None and self._failures and self._failures % _DOUBT_AFTER == 0:
            if self._endpoint.session is not None:
                self._endpoint.lose(now)

    def speak(self) -> None:
        """The application has said what it had to, or waits for it to arrive."""
        if self._is_speaking or self._endpoint is None or self._carrier is None:
            return
        # What there is to say has the budget of its own, however long the application has worked for it.
        now = self._port.now()
        self._until = max(self._until, now + self._budget_ms)
        self._expect(now, self._budget_ms)
        if self._store is not None:
            self._store.fill()
        if self._drift is not None and self._drift.is_large:
            self._endpoint.ask_time(now)
        self._endpoint.wake()
        self._carrier.wake()
        self._is_speaking = True  # not before: what finds no memory is tried again

    async def end(self) -> None:
        """Stay awake until everything is said and answered, or the budget is used up; then sleep."""
        if self._endpoint is None or self._carrier is None:
            return
        await self._insist(self._announce)
        await self._insist(self.speak)
        while not await self._insist(self._is_over):
            try:
                await wait_for_event(self._stepped, _LOOK_MS)
            except MemoryError:
                await self._relieve()
        self._failures = self._failures + 1 if self._marks() == self._heard else 0
        await self._insist(self._sleep)

    def _announce(self) -> None:
        wanted = self._wanted_s()
        if self._endpoint is not None and wanted is not None:
            self._endpoint.sleep(int(wanted), True)

    def _is_over(self) -> bool:
        now = self._port.now()
        return now >= max(self._until, self._stay_until) or self._is_done(now)

    async def _insist(self, step: "Callable[[], Json]") -> "Json":
        """Do it, again and again if it finds no memory: a wake that ends in an error is a reset, and what only RAM has
        is gone."""
        for _ in range(_SHORTAGES):
            try:
                return step()
            except MemoryError:
                await self._relieve()
        return step()

    async def _relieve(self) -> None:
        self._port.use_reserve()
        await asyncio.sleep(0)  # a whole number: it takes no memory

    def hear(self, event: "Json") -> None:
        """The gateway asks for more time (AWAKE), or for another period (POLICY), which holds until the next join."""
        if event[0] == "awake":
            now = self._port.now()
            self._stay_until = now + 1000 * event[1]
            self._expect(now, max(1000 * event[1], self._until - now))
        else:
            period = 1000 * event[1] or self._period_ms
            self._policy_ms = max(period, event[2])

    def joined(self) -> None:
        self._policy_ms = 0

    def _expect(self, now: int, within_ms: int) -> None:
        self.progress.expect("wake", now, within_ms + _MARGIN_MS)

    def _marks(self) -> "tuple[int, int]":
        endpoint = self._endpoint
        if endpoint is None:
            return (0, 0)
        return (endpoint.joins_total, -1 if endpoint.session is None else endpoint.session.opened_at)

    def _is_done(self, now: int) -> bool:
        endpoint = self._endpoint
        if endpoint is None or endpoint.session is None or now < self._stay_until or not endpoint.is_settled(now):
            return False
        # How items of mail have ended is not waited for, but it is said.
        if any(not item.is_awaited and not item.is_done for item in endpoint.session.queue):
            return False
        return endpoint.outbox.is_empty or now < endpoint.session.paused_until

    # Sleep -------------------------------------------------------------------------------------------------

    def _pause_ms(self, now: int) -> int:
        """Until the next wake. When nobody was heard, longer and longer: 1, 1, 2, 4 ... periods."""
        wanted = self._wanted_s()
        if wanted is not None:
            return max(_LAST_MS, int(1000 * wanted))
        period = self._policy_ms or self._period_ms
        factor = min(1 << min(max(0, self._failures - 1), _MAX_OVERDUE_BITS), self._backoff)
        return max(_LAST_MS, period * factor - (now - self._woken_at))

    def _wanted_s(self) -> "float | None":
        """The pause that the application wants. The time until something that is over is below zero, and no pause."""
        wanted = self.next_s
        return None if wanted is None else max(0, min(wanted, wire.MAX_PERIOD_S))

    def _sleep(self) -> None:
        """Returns when a light sleep is over. After a MemoryError it may be called again."""
        endpoint, carrier = self._endpoint, self._carrier
        if endpoint is None or carrier is None:
            return
        if self._execution is not None:
            self._execution.interrupt()
        endpoint.suspend()  # no frame, and no counter, from here on
        if self._store is not None:
            self._store.flush(True)
        self.progress.done("wake")
        now = self._port.now()
        ms = self._pause_ms(now)
        if self._is_deep:
            kept = resume.freeze(endpoint)
            try:
                self.save_notes()
                if kept is not None:
                    self.sleeper.keep_fixed(kept[0])
            except OSError:
                kept = None  # flash is worn out: join at each wake
            self.sleeper.deep_sleep(ms, None if kept is None else kept[1])
        self.sleeper.sleep(ms)
        self._slept(now)
        carrier.reopen()

    def _slept(self, asleep_at: object) -> None:
        """The clock has gone on over a sleep."""
        endpoint = self._endpoint
        if endpoint is None or endpoint.session is None or not isinstance(asleep_at, int) or not asleep_at:
            return
        if self._drift is not None:
            self._drift.sleep(max(0, self._port.now() - asleep_at))
            endpoint.session.clock_offset = endpoint.clock.offset

    # Notes -------------------------------------------------------------------------------------------------

    def save_notes(self) -> None:
        """What outlives sessions: results of mail, the policy, failures, drift. Raises OSError where this is flash."""
        endpoint = self._endpoint
        if endpoint is None:
            return
        drift = self._drift or Drift(endpoint.clock)
        drift.learn()
        # Where notes are flash the clock is a crystal, and these numbers would cost a write for each sleep.
        is_cheap = self.sleeper.keeps_clock
        results, returned = endpoint.mail.dump(_MAIL_ROOM)
        notes = [
            _NOTES,
            self._policy_ms,
            list(endpoint.seen),
            results,
            self._failures,
            [drift.ppm, drift.slept_ms] if is_cheap else [0, 0],
            self._port.now() if is_cheap else 0,
            returned,
        ]
        self.sleeper.notes.write(cbor.encode(notes))

    def keep_result(self) -> None:
        """An item of mail has ended: not to be carried out again, whatever happens before the next sleep."""
        if self._port.flash_deafens_uart:
            return  # flash: with the sleep
        try:
            self.save_notes()
        except OSError:
            return

    def _load_notes(self) -> "list[Json]":
        notes: Json = None
        try:
            data = self.sleeper.notes.read()
            notes = cbor.decode(data)[0] if data else None
        except (OSError, ValueError):
            notes = None
        empty: list[Json] = [_NOTES, 0, [], [], 0, [0, 0], 0, []]
        if not isinstance(notes, list) or len(notes) != len(empty) or notes[0] != _NOTES:
            return empty
        for value, wanted in zip(notes, empty):  # noqa: B905 - MicroPython knows no strict
            if not isinstance(value, type(wanted)):
                return empty
        if self._endpoint is not None:
            self._policy_ms = max(0, min(notes[1], 1000 * wire.MAX_PERIOD_S))
            self._failures = max(0, notes[4])
            self._endpoint.mail.load(notes[3], notes[7])
            if self._drift is not None:
                self._drift.ppm, self._drift.slept_ms = notes[5]
        return notes

    # For applications --------------------------------------------------------------------------------------

    async def __aenter__(self) -> "Cycle":
        self.begin()
        self._limit = asyncio.create_task(self._bound(asyncio.current_task()))
        return self

    async def _bound(self, task: "Json") -> None:
        """Cancel what is still at work when the wake has had its time; what waits for nothing is the watchdog's."""
        left = self._budget_ms
        while left > 0:
            await asyncio.sleep(left / 1000)
            left = max(self._until, self._stay_until) - self._port.now()
        self._limit = None
        task.cancel()

    async def __aexit__(self, kind: object, error: object, trace: object) -> bool:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.cancel()
        is_over = limit is None and kind is asyncio.CancelledError
        if kind is None or is_over:
            await self.end()
        return is_over
