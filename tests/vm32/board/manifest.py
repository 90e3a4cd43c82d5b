"""What a stock image of a board has beside its firmware."""

# ruff: noqa: F821 - makemanifest.py gives this name
include("$(MPY_DIR)/extmod/asyncio")
