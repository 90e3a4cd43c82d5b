"""Keeps readings beyond RAM: when they go to flash, and who hears of it. Loaded by nodes with a durable outbox only."""

import asyncio

from petiole_node.carrier import wait_for_event
from petiole_node.durable import DurableOutbox
from petiole_node.quiet import Quiet
from petiole_node.segments import Segments

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole.endpoint import NodeEndpoint
    from petiole.items import Measured
    from petiole_node.contracts import Json, Port
    from petiole_node.ledger import Retained

_PATIENCE_MS = 2000  # what is acknowledged by then costs no write; two timeouts of a session
_LOOK_AGAIN_MS = 50
_SHORTAGE_S = 0.1


class Store:
    """`policies`: of channels (petiole.shedding). `tell(items)`: these are stored, or refused (`outcome`); `wake()`:
    there may be more to send."""

    def __init__(
        self,
        port: "Port",
        settings: "dict[str, Json]",
        boot: int,
        retained: "Retained | None",
        policies: "dict[int, int]",
        tell: "Callable[[list[Measured]], None]",
    ) -> None:
        segments = Segments(port.path(""), settings["outbox_bytes"], port.has_littlefs)
        self.outbox = DurableOutbox(segments, boot, retained, policies, settings["outbox"])
        self._port = port
        self._quiet = Quiet(port.flash_deafens_uart and any(link["kind"] == "uart" for link in settings["links"]))
        self._tell = tell
        self._event = asyncio.Event()
        self._is_full = False
        self._is_held = False  # what is stored waits for the time
        self._unstored_since: int | None = None
        self._endpoint: NodeEndpoint | None = None
        self._wake: Callable[[], None] | None = None

    def attach(self, endpoint: "NodeEndpoint", wake: "Callable[[], None]") -> None:
        self._endpoint = endpoint
        self._wake = wake

    def look(self) -> None:
        """There is a new reading, one is durable, or there is a new session."""
        self._event.set()

    def press(self) -> None:
        """RAM is full of readings."""
        self._is_full = True
        self._event.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self._step()
            except MemoryError:
                await asyncio.sleep(_SHORTAGE_S)

    async def _step(self) -> None:
        since = self._unstored_since
        patience = None if since is None else max(1, since + _PATIENCE_MS - self._port.now())
        if self._is_held:
            patience = _LOOK_AGAIN_MS
        await wait_for_event(self._event, patience)
        wanted_at = self._port.now()
        while self._pause(wanted_at):  # noqa: ASYNC110 - what it waits for is no event
            await asyncio.sleep(_LOOK_AGAIN_MS / 1000)
        self.fill()
        now = self._port.now()
        if self.outbox.is_stored:
            self._unstored_since = None
        elif self._unstored_since is None:
            self._unstored_since = now
        if self._is_full or (self._unstored_since is not None and now - self._unstored_since >= _PATIENCE_MS):
            self._is_full = False
            if not self.flush() and self._unstored_since is not None:
                self._unstored_since = now

    def _pause(self, wanted_at: int) -> int:
        """How long a write is to be put off: what comes over a UART meanwhile would be lost."""
        now = self._port.now()
        session = None if self._endpoint is None else self._endpoint.session
        if session is not None and session.recovery.in_flight():
            self._quiet.expect(now, session.recovery.timeout_ms())
        else:
            self._quiet.settle()
        return self._quiet.wait_ms(now, wanted_at)

    def fill(self) -> None:
        """Have in RAM what may be sent next."""
        endpoint = self._endpoint
        if endpoint is None or self._wake is None:
            return
        session = endpoint.session
        offset = endpoint.clock.offset
        # The time of such an accept may be anything, and another one is on its way.
        self._is_held = session is not None and endpoint.clock.is_doubtful and self._port.now() < session.messages_from
        self.outbox.fill(None if self._is_held else offset)
        if session is not None:
            session.dropped_readings = self.outbox.dropped_total
            if self.outbox.take_gap():
                session.needs_floor = True  # the oldest does not follow what was sent before
        self._wake()

    def flush(self, is_sleep: bool = False) -> bool:
        """Store all readings: where power loss leaves them, or (`is_sleep`) where sleep and a reset do."""
        outbox = self.outbox
        offset = None
        if self._endpoint is not None:
            offset = self._endpoint.clock.offset
            outbox.is_clock_doubtful = self._endpoint.clock.is_doubtful
        held = outbox.waiting + outbox.items
        is_done = outbox.save(offset) if is_sleep else outbox.flush(offset)
        for item in outbox.refused:
            item.outcome = "refused"
        if is_done:
            self._unstored_since = None
            for item in held:
                item.outcome = item.outcome or "stored"
        self._tell([item for item in held if item.outcome])
        if not is_sleep:
            self.fill()
        return is_done
