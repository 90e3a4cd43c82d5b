"""Carries an endpoint's frames over the first of its links that works, and comes back from every failure."""

import asyncio

from petiole import states

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Awaitable, Callable

    from petiole.endpoint import NodeEndpoint
    from petiole_node.contracts import Link, Port
    from petiole_node.progress import Progress

_WAKE_MS = 2000  # a watchdog of 8 s is fed several times
_PATIENCE_MS = 15000  # of one link: four tries to join
_TRIAL_MS = 5000  # of the preferred link, while another one works: two or three tries
_SHORTAGE_S = 0.02  # in which others may give memory back
_MAX_SHORTAGES = 50  # in a row, a second: then the session is given up, after as many more the program
_REOPEN_S = (1, 2, 5, 10, 30)  # pauses between rounds in which no link could be opened
_PREFERRED_S = (60, 120, 300, 600)  # pauses before the preferred link is tried again


class Carrier:
    """`dispatch(event)` takes an event of the endpoint, and gets it again if it raises MemoryError; `log(level, text)`
    says what happens to the links."""

    def __init__(
        self,
        endpoint: "NodeEndpoint",
        links: "list[Link]",
        port: "Port",
        dispatch: "Callable[[tuple[object, ...]], None]",
        log: "Callable[[int, str], None]",
    ) -> None:
        self.link: Link | None = None
        self.wakes_total = 0
        self.stepped: asyncio.Event | None = None  # set whenever something was sent or heard; of a sleepy node
        self.progress: Progress | None = None  # what the watchdog is fed for; None: for each step
        self._endpoint = endpoint
        self._links = links
        self._port = port
        self._dispatch = dispatch
        self._log = log
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._attention = asyncio.Event()  # the keeper of the links has something to do
        self._error: OSError | None = None  # of the link in use
        self._failure: Exception | None = None  # of the program
        self._is_heard = False  # on the link in use, anything authentic
        self._was_online = False
        self._since = 0  # when the link was opened or the endpoint went on or off line
        self._patience = _PATIENCE_MS
        self._events: list[tuple[object, ...]] = []  # of the endpoint, not dealt with yet
        # In a row, each of its own work: what can still be sent says nothing about what can be taken.
        self._unsent = self._untaken = self._unopened = 0  # for want of memory

    def wake(self) -> None:
        """The endpoint has something new to say."""
        self._wake.set()

    def is_on_console(self) -> bool:
        return self.link is not None and self.link.is_console

    async def run(self) -> None:
        """Runs until cancelled. Raises only what is a mistake in the program."""
        self._keeper = asyncio.create_task(self.guard(self._keep()))
        try:
            while True:
                if self._failure is not None:
                    raise self._failure
                try:
                    await self._step()
                    self._unsent = 0
                except MemoryError:
                    self._unsent += 1
                    await self._relieve(self._unsent)
        finally:
            self._keeper.cancel()
            if self.link is not None:
                self._release(self.link)

    def reopen(self) -> None:
        """The network is gone, as after a sleep: open the link anew."""
        link = self.link
        if link is not None and link.is_addressed and self._keeper is not None:
            self._keeper.cancel()
            self._release(link)
            self._keeper = asyncio.create_task(self.guard(self._keep()))

    async def guard(self, work: "Awaitable[None]") -> None:
        """Await something; what it raises comes out of `run`."""
        try:
            await work
        except Exception as error:
            self._failure = error
            self._wake.set()

    # Frames ------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Send what there is, then sleep until there is more or a deadline comes."""
        endpoint = self._endpoint
        self._tell()
        self._events = endpoint.expire(self._port.now())
        self._tell()
        await self._send()
        now = self._port.now()
        self._watch(now)
        if self.progress is None or self.progress.late(now) is None:
            self._port.feed_watchdog()
        if self.stepped is not None:
            self.stepped.set()
        deadline = endpoint.deadline(now)
        wait = _WAKE_MS
        if deadline is not None:
            wait = max(1, min(deadline - now, wait))
        self.wakes_total += 1
        await wait_for_event(self._wake, wait)

    async def _send(self) -> None:
        link = self.link
        while link is not None and link is self.link:
            frame = self._endpoint.next_frame(self._port.now())
            if frame is None:
                return
            try:
                await link.send(frame)
            except OSError as error:
                self._leave(link, error)
                return

    async def _read(self, link: "Link") -> None:
        try:
            while True:
                try:
                    for frame in await link.receive():
                        self._take(link, frame)
                    self._untaken = 0
                except MemoryError:
                    self._untaken += 1
                    await self._relieve(self._untaken)
        except OSError as error:
            self._leave(link, error)

    async def _relieve(self, shortages: int) -> None:
        """No memory, so often in a row: what was to be sent or taken is lost, as on a bad link. Raises MemoryError if
        that is no help. Work that was done between two shortages makes the second the first: a node that hears nobody
        for days has many, and its readings in RAM."""
        self._port.use_reserve()
        try:
            if shortages == _MAX_SHORTAGES:
                self._endpoint.lose_session(self._port.now())
            self._dispatch(("memory",))
            await asyncio.sleep(_SHORTAGE_S)
        except MemoryError:
            await asyncio.sleep(0)  # a whole number: it takes no memory
        if shortages > 2 * _MAX_SHORTAGES:
            raise MemoryError
        self._wake.set()

    def _tell(self) -> None:
        """Have the events dealt with. One for which there is no memory is the first next time."""
        while self._events:
            event = self._events[0]
            self._dispatch(event)
            if event[0] == "refused":
                # The gateway is there, and says how long to wait: the endpoint does.
                self._since = self._port.now()
            self._events.pop(0)

    def _take(self, link: "Link", frame: bytes) -> None:
        endpoint = self._endpoint
        self._tell()  # before anything more is acknowledged
        joins, opened = endpoint.joins_total, self._opened_at()
        self._events = endpoint.receive(frame, self._port.now())
        if endpoint.joins_total != joins or self._opened_at() != opened:
            self._is_heard = True
            link.heard()
        self._tell()
        self._wake.set()

    def _opened_at(self) -> int:
        session = self._endpoint.session
        return -1 if session is None else session.opened_at

    def _watch(self, now: int) -> None:
        """Tell the keeper when the link went silent, and again after each span of patience."""
        is_online = self._endpoint.state == states.ONLINE
        if is_online != self._was_online:
            self._was_online = is_online
            self._since = now
            if not is_online and self.link is not None:
                self._attention.set()
        elif not (is_online and self._is_heard) and self.link is not None and now - self._since >= self._patience:
            self._attention.set()

    # Links -------------------------------------------------------------------------------------------------

    def _leave(self, link: "Link", error: OSError) -> None:
        if link is self.link:
            self._error = error
            self._attention.set()

    async def _keep(self) -> None:
        """Use the links one after the other, for ever."""
        position = 0
        failures = 0  # rounds in a row in which no link brought anything
        trials = 0  # of the preferred link, in vain
        is_open = False
        self._patience = _PATIENCE_MS
        while True:
            link = self._links[position]
            self._is_heard = False
            try:
                try:
                    if not is_open:
                        await link.open()
                    is_open = await self._use(link, position, trials)
                except OSError as error:
                    is_open = False
                    self._log(30, link.name + ": " + str(error))
            except MemoryError:
                is_open = False
                self._unopened += 1
                await self._relieve(self._unopened)
            if self._is_heard:
                failures = 0
                trials = trials if position else 0
            self._release(link)
            if is_open:
                trials += 1
                position = 0
                self._patience = _TRIAL_MS
                continue
            self._patience = _PATIENCE_MS
            position = (position + 1) % len(self._links)
            if not position:
                await asyncio.sleep(_REOPEN_S[min(failures, len(_REOPEN_S) - 1)])
                failures += 1

    async def _use(self, link: "Link", position: int, trials: int) -> bool:
        """Carry frames over an open link until it is to be left. True: the preferred link is open and to be used.

        Raises OSError when the link is gone.
        """
        reader = self._begin(link)
        try:
            while True:
                wait = None
                if position:
                    wait = 1000 * _PREFERRED_S[min(trials, len(_PREFERRED_S) - 1)]
                if not await wait_for_event(self._attention, wait):
                    if await self._opens(self._links[0]):
                        return True
                    trials += 1
                    continue
                if self._error is not None:
                    raise self._error
                if self._port.now() - self._since >= self._patience:
                    if len(self._links) > 1:
                        self._log(30, link.name + ": silent")
                        return False
                    self._since = self._port.now()
                await link.refresh()
        finally:
            reader.cancel()

    def _begin(self, link: "Link") -> "asyncio.Task[None]":
        self._attention.clear()
        self._error = None
        self._since = self._port.now()
        self._endpoint.link_up(self._since, link.is_addressed)
        if self._endpoint.state == states.ONLINE and self.stepped is None:
            self._endpoint.ask_time(self._since)  # an answer tells that this link works
        self.link = link
        self._wake.set()
        reader = asyncio.create_task(self.guard(self._read(link)))
        self._unopened = 0
        return reader

    async def _opens(self, link: "Link") -> bool:
        """Open a link while another one is in use."""
        try:
            await link.open()
        except (OSError, MemoryError):
            link.close()
            return False
        return True

    def _release(self, link: "Link") -> None:
        if self.link is link:
            self.link = None
            self._endpoint.link_down()
        link.close()


async def wait_for_event(event: "asyncio.Event", timeout_ms: "int | None") -> bool:
    """Wait and clear. False: the time was up."""
    if not event.is_set():
        if timeout_ms is None:
            await event.wait()
        else:
            try:
                await asyncio.wait_for(event.wait(), timeout_ms / 1000)
            except asyncio.TimeoutError:
                return False
    event.clear()
    return True
