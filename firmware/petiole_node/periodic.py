"""What a node does every so many seconds."""

import asyncio

from petiole_node.errors import describe

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole_node.contracts import Handler, Port

_LONGEST_WAIT_MS = 1 << 28  # three days: asyncio takes less than 2**29 ms on a board


async def repeat(
    seconds: float, handler: "Handler", port: "Port", count: "Callable[[str], None]", log: "Callable[[int, str], None]"
) -> None:
    """Call a function, or await a coroutine function, for ever; whatever it raises is counted and said."""
    period_ms = int(1000 * seconds)  # as a whole number: a single float has 24 bits
    while True:
        started = port.now()
        try:
            result = handler()
            if port.is_waitable(result):
                await result
        except MemoryError:
            count("memory")
        except Exception as error:
            count("task_failed")
            log(40, "every " + str(seconds) + " s: " + describe(error))
        is_over = False
        while not is_over:
            left = max(0, started + period_ms - port.now())
            is_over = left <= _LONGEST_WAIT_MS
            await asyncio.sleep(min(left, _LONGEST_WAIT_MS) / 1000)
