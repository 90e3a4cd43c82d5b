"""What is frozen into an own build: `make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=<this file>`.

../README.md has all steps, and the three files that such a board needs.
"""

# ruff: noqa: F821 - makemanifest.py gives these names
include("$(BOARD_DIR)/manifest.py")  # what the stock image of this board has: networking and Bluetooth, too
include("../manifest.py")
