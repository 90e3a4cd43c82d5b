"""What is frozen into an own build of the unix port: `make -C ports/unix FROZEN_MANIFEST=<this file>`."""

# ruff: noqa: F821 - makemanifest.py gives these names
include("$(MPY_DIR)/extmod/asyncio")  # images of boards have it, and this port only in its own manifest
include("../manifest.py")
