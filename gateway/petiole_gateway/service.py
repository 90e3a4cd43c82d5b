"""The gateway as the work of a process, under a service manager or at a terminal."""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import suppress

from .app import Gateway
from .hub.availability import ONLINE
from .hub.ports import Logger
from .notify_socket import NotifySocket
from .progress import Part

# Of the watchdog's patience: three answers may get lost or late before it bites.
TURNS = 4
# Without a watchdog somebody may still read the status line.
STATUS_S = 15.0


class Watch:
    """Tells the service manager at even intervals how the gateway is, and that it lives, if all its parts get on."""

    def __init__(self, gateway: Gateway, manager: NotifySocket, logger: Logger) -> None:
        self._gateway = gateway
        self._manager = manager
        self._logger = logger
        self._parts: list[Part] = gateway.parts()
        self.interval_s = manager.watchdog_s / TURNS if manager.watchdog_s else STATUS_S
        self.withheld_total = 0  # turns in which something stood still
        self._told = ""
        self._stall = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.turn()
            except Exception as error:
                # A defect of this look; if it stays the manager hears nothing more, and the journal has why.
                self.withheld_total += 1
                self._logger.error("watch_failed", error=repr(error))
            await asyncio.sleep(self.interval_s)

    async def turn(self) -> bool:
        """Look at every part once. True: all get on."""
        stall = await self.stall()
        if stall:
            self.withheld_total += 1
            if not self._stall:
                self._logger.error("progress_stopped", reason=stall, watchdog_s=self._manager.watchdog_s)
        elif self._stall:
            self._logger.info("progress_resumed")
        self._stall = stall
        status = stall or await status_line(self._gateway)
        if status != self._told and self._manager.tell(STATUS=status):
            self._told = status
        if not stall and self._manager.watchdog_s and not self._manager.tell(WATCHDOG=1):
            self._logger.warning("watchdog_not_told", reason=self._manager.problem)
        return not stall

    async def stall(self) -> str:
        """What stands still, "" if nothing does. A part that does not say so in time stands still itself."""
        for part in self._parts:
            try:
                async with asyncio.timeout(self.interval_s):
                    reason = await part.stall()
            except TimeoutError:
                reason = f"{type(part).__name__} does not answer"
            if reason:
                return reason
        return ""


async def status_line(gateway: Gateway) -> str:
    """What `systemctl status` shows: "12 devices, 9 online; hub linked; 37 readings wait for it"."""
    devices = gateway.hub.roster.devices.values()
    online = sum(gateway.hub.state(device) == ONLINE for device in devices)
    words = [f"{len(devices)} devices, {online} online"]
    if gateway.leaf is not None and not gateway.config.nats.hub:
        words.append("no hub")
    elif gateway.leaf is not None:
        words.append("hub linked" if gateway.leaf.link_up else "hub not linked")
    elif not gateway.connection.is_connected:
        words.append("no connection to the server")
    waiting = await gateway.store.not_at_hub() if gateway.connection.is_connected else None
    if waiting:
        words.append(f"{waiting} readings wait for it")
    return "; ".join(words)


async def run_until_stopped(gateway: Gateway, manager: NotifySocket | None = None) -> None:
    """Start, run until SIGTERM or SIGINT, which may come while it starts, and stop. Errors at the start are raised."""
    manager = NotifySocket.take() if manager is None else manager
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    loop.set_exception_handler(gateway.supervisor.handle)
    try:
        is_started = await _start(gateway, stopped)
    except Exception as error:
        manager.tell(STATUS=f"not started: {error}")
        raise
    if not is_started:
        return
    # A look for garbage among all that was loaded holds the loop for 70 ms with 40 devices, and longer with more;
    # what is here now stays, so it need not be looked at again.
    gc.collect()
    gc.freeze()
    # Ready is: devices are loaded, the leaf stores, the links are open. The hub may be away for weeks.
    watch = loop.create_task(Watch(gateway, manager, gateway.logger).run(), name="watch") if manager.address else None
    manager.tell(READY=1)
    try:
        await stopped.wait()
    finally:
        manager.tell(STOPPING=1, STATUS="making durable what has come")
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await gateway.stop()


async def _start(gateway: Gateway, stopped: asyncio.Event) -> bool:
    """False: it was stopped before it had started. A start waits for its server for up to minutes."""
    loop = asyncio.get_running_loop()
    starting, stopping = loop.create_task(gateway.start()), loop.create_task(stopped.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()  # once: what was started is stopped again, which is not to be cut short
        await asyncio.wait({starting})
    finally:
        stopping.cancel()
    if starting.cancelled():
        return False
    starting.result()
    return True
