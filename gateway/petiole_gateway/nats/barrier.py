"""The step from "the server has it" to "it is on disk": one syncfs() for many messages.

A PubAck of a server with default settings means the kernel has the message. One `syncfs()` on the store's file
system makes all messages acknowledged before it durable, for a fifth of the wear of a sync per message.
"""

from __future__ import annotations

import asyncio
import ctypes
import enum
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..durations import Durations
from .errors import BarrierError, ConfigError

# At full load one barrier per 100 ms bounds the wear to about 1 kB per reading at 10 readings per second;
# a reading that comes alone does not wait.
INTERVAL_S = 0.1


class Durability(enum.StrEnum):
    """What an acknowledged uplink survives."""

    POWER_LOSS = "power-loss"
    CRASH = "crash"  # of processes, not of the machine


class Barrier:
    """Group commit. `request` asks for a barrier; `on_passed(number)` is called when one that *began* after the
    request is complete; `number` is what `request` returned, or a later one. `on_failed(error)` if it failed; it is
    then tried again."""

    def __init__(
        self,
        store_dir: Path | None,
        durability: Durability,
        *,
        on_passed: Callable[[int], None],
        on_failed: Callable[[BarrierError], None] = lambda error: None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """`store_dir` None means that the leaf runs on another machine: ConfigError unless durability is crash."""
        if durability is Durability.POWER_LOSS:
            if store_dir is None:
                raise ConfigError("durability", durability.value, "the leaf's disk is not on this machine, use 'crash'")
            if sys.platform != "linux":
                raise ConfigError("durability", durability.value, "needs Linux (syncfs), use 'crash' here")
        self.durability = durability
        self.barrier_total = 0
        self.durations = Durations()  # of the calls of syncfs(), also of those that failed
        self.passed = 0  # number of the last barrier that is complete
        self._store_dir = store_dir
        self._on_passed = on_passed
        self._on_failed = on_failed
        self._interval_s = interval_s
        self._requested = 0
        self._wake = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="petiole-barrier")
        self._syncfs = ctypes.CDLL(None, use_errno=True).syncfs if sys.platform == "linux" else None

    def request(self) -> int:
        """Ask for a barrier; returns its number. Cheap, may be called for every message."""
        self._requested += 1
        self._wake.set()
        return self._requested

    @property
    def is_requested(self) -> bool:
        """Somebody waits for a barrier."""
        return self.passed < self._requested

    async def wait(self) -> None:
        """Return when everything written before this call is durable."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self.request(), passed))
        await passed

    async def run(self) -> None:
        """Serve requests until cancelled."""
        loop = asyncio.get_running_loop()
        if self.is_requested:
            self._wake.set()  # of a run that ended
        while True:
            await self._wake.wait()
            self._wake.clear()
            number = self._requested
            began_at = loop.time()
            if self.durability is Durability.POWER_LOSS:
                try:
                    await self._timed_sync()
                except BarrierError as error:
                    self._on_failed(error)
                    self._wake.set()
                    await asyncio.sleep(1.0)  # a disk that fails is not helped by hammering it
                    continue
                self.barrier_total += 1
            self.passed = number
            for waiter in [waiter for waiter in self._waiters if waiter[0] <= number]:
                self._waiters.remove(waiter)
                if not waiter[1].done():
                    waiter[1].set_result(None)
            self._on_passed(number)
            # The first of a group waits for nothing, the next barrier begins at the earliest an interval later.
            if self.durability is Durability.POWER_LOSS:
                await asyncio.sleep(max(0.0, began_at + self._interval_s - loop.time()))

    async def _timed_sync(self) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            await loop.run_in_executor(self._executor, self._sync)
        finally:
            self.durations.add(loop.time() - began_at)

    def close(self) -> None:
        """Release the thread."""
        self._executor.shutdown(wait=False)

    def _sync(self) -> None:
        assert self._store_dir is not None
        assert self._syncfs is not None
        try:
            descriptor = os.open(self._store_dir, os.O_RDONLY)
        except OSError as error:
            raise BarrierError(self._store_dir, error.errno or 0, error.strerror or "") from error
        try:
            if self._syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise BarrierError(self._store_dir, number, os.strerror(number))
        finally:
            os.close(descriptor)
