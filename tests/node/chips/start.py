"""What runs `app.py` on a chip that lives: `micropython start.py CHIPS`, in the folder of the node."""

# mypy: ignore-errors

import asyncio
import sys

# The runtime's loop keeps the ticks of its machine; all else gets those of the chip.
for _part in ("Event", "Lock", "wait_for", "gather"):
    getattr(asyncio, _part)
for _name in ("time", "utime"):
    sys.modules.pop(_name, None)
_chips = sys.argv[1]
sys.path.insert(0, _chips + "/..")
sys.path.insert(0, _chips)
import chip  # noqa: E402

sys.path.insert(0, _chips + "/" + chip.state["kind"])
import live  # noqa: E402

from petiole_node import port as ports  # noqa: E402

port = ports._chosen["unix"] = ports.choose(chip.state["kind"])
flash = live.Flash("flash.img", 64, chip.state["kind"])
flash.mount("/flash")
try:
    import app  # noqa: F401
except Exception as error:
    port.crashed(error)
chip.end("reset")
