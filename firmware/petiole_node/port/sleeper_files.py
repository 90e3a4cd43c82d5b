"""Sleep of a process: it ends, and whoever started it starts it again. Files stand for what a chip retains."""

import sys
import time

from petiole_node.port.sleeper import OUTBOX, TIMER, Retained, Sleeper

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Port

SLEEP_CODE = 11  # the exit code of a deep sleep, after its length was written
SLEEP_FILE = "sleep.ms"
_ROOM = 1346  # what an ESP32 has


class FileSleeper(Sleeper):
    """Whoever cuts the power of such a node removes the files `sleeper.FILES`."""

    start_ms = 60000  # a process on a busy machine may begin late, and the machine's clock is right

    def __init__(self, port: "Port") -> None:
        super().__init__(port)
        self.outbox = Retained(self, OUTBOX, _ROOM)

    def _wall(self) -> int:
        return time.time_ns() // 1000000

    def _why(self, kept: int) -> int:
        return TIMER

    def _doze(self, ms: int) -> bool:
        time.sleep(ms / 1000)
        return False

    def _enter(self, ms: int, counters: "bytes | None") -> None:
        with open(self._port.path(SLEEP_FILE), "w") as file:
            file.write(str(ms))
        sys.exit(SLEEP_CODE)
