"""What is frozen into an own build: `make -C ports/rp2 BOARD=RPI_PICO2 FROZEN_MANIFEST=<this file>`.

`app.py` and `petiole.json` stay files on the board; frozen modules take bytecode and names out of RAM.
"""

# ruff: noqa: F821 - makemanifest.py gives these names
include("$(PORT_DIR)/boards/manifest.py")
include("../manifest.py")
