"""One of mpremote's commands: `python -m petiole_tools.quiet_start petiole_tools.board_command connect PORT …`."""

from __future__ import annotations

import os
import sys

from mpremote.main import main as mpremote
from mpremote.transport import TransportError

from petiole_tools.quiet_start import INTERRUPTED


def main() -> int:
    """As mpremote's, which leaves a port that vanishes beneath it to a traceback."""
    try:
        return int(mpremote() or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read it has enough; Python would complain about it once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, TransportError) as error:
        return _fail(error)


def _fail(error: Exception) -> int:
    from petiole_tools.flash.errors import BoardLost  # noqa: PLC0415 - takes a tenth of a second
    from petiole_tools.output import clean, note  # noqa: PLC0415

    words = str(getattr(error, "strerror", None) or error).strip().lower()
    path = getattr(error, "filename", None)
    if path is not None and path != _port():
        note(f"error: {path}: {words}")
        note("hint: check that path")
        return 1
    note(f"error: {_port()}: the board is gone, or silent: {clean(words)}")
    note("hint: check the cable, and plug it in again")
    return BoardLost.exit_code


def _port() -> str:
    """What it was to connect to."""
    return sys.argv[sys.argv.index("connect") + 1]
