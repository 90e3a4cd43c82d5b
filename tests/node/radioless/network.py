"""A Pico without a radio has no such module."""

raise ImportError("no module named 'network'")
