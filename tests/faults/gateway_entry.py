"""`petiole`, slower and more talkative.

With FLUSH_S in the environment every flush of the disk takes so many seconds longer, as on an SD card. SIGUSR1 has it
say what all its tasks wait for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from petiole_gateway.nats.barrier import Barrier
from petiole_tools.cli import main

FLUSH_S = "PETIOLE_TEST_FLUSH_S"


def slow_down_flushes(seconds: float) -> None:
    flush = Barrier._sync

    def slowly(barrier: Barrier) -> None:
        time.sleep(seconds)
        flush(barrier)

    Barrier._sync = slowly  # type: ignore[method-assign]


def tell_tasks(number: int, frame: object) -> None:
    for task in asyncio.all_tasks():
        task.print_stack()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell_tasks)
    if FLUSH_S in os.environ:
        slow_down_flushes(float(os.environ[FLUSH_S]))
    sys.exit(main())
