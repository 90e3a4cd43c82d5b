"""An application that sleeps, with no node in it, for ms that an argument says. What it keeps counts its lives."""

import sys

from petiole_node import port

board = port.choose()
sleeper = board.sleeper()
life = 1
if sleeper.session is None:
    sleeper.keep_fixed(b"session")
else:
    life = sleeper.session[1][0] + 1
print("life", life, "reset", board.reset_reason(), "boots", board.boot_count(), "clock", board.now())
sleeper.deep_sleep(int(sys.argv[1]) if len(sys.argv) > 1 else 300, bytes([life]))
