"""`time` of a board whose time passes when it sleeps or waits. Ticks wrap, and the clock may say anything."""

# mypy: ignore-errors
# ruff: noqa: F403
# The VM keeps its own `time` under an older name.

import chip
from utime import *


def ticks_ms():
    chip.look()
    return chip.ticks & (1 << 30) - 1


def time_ns():
    chip.look()
    return chip.state["wall_ms"] * 1000000


def time():
    chip.look()
    return chip.state["wall_ms"] // 1000


def sleep_ms(ms):
    until = chip.ticks + ms
    while chip.ticks < until:
        chip.advance(until - chip.ticks)


def sleep(seconds):
    sleep_ms(int(seconds * 1000))
