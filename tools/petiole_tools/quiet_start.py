"""Programs that Ctrl-C and SIGTERM end without a traceback, whenever they come.

`python -m petiole_tools.quiet_start MODULE WORDS` starts another one. Whoever does that may hold SIGINT back: it is
heard from the first line here on.
"""

from __future__ import annotations

import importlib
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143  # 128 + SIGTERM


def start(module: str) -> int:
    """Load a module and run its `main`; the exit code. Until it is loaded, a second on a small machine, nothing has
    been begun, and SIGINT ends the process at once."""
    # A shell that starts it in the background may have had Ctrl-C ignored.
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    main = importlib.import_module(module).main
    try:
        if is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if is_heard:
        # While Python ends: what is done cannot be interrupted, what was interrupted may be once more.
        signal.signal(signal.SIGINT, signal.SIG_DFL if code else signal.SIG_IGN)
    return int(code or 0)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


if __name__ == "__main__":
    # In order, as the terminal may have to be as it was before.
    signal.signal(signal.SIGTERM, _terminate)
    del sys.argv[0]
    sys.exit(start(sys.argv[0]))
