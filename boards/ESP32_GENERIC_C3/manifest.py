"""What is frozen into an own build: `make -C ports/esp32 BOARD=ESP32_GENERIC_C3 FROZEN_MANIFEST=<this file>`.

../README.md has all steps, and the three files that such a board needs.
"""

# ruff: noqa: F821 - makemanifest.py gives these names
include("$(PORT_DIR)/boards/manifest.py")
include("../manifest.py")
