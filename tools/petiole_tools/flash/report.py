"""What a person sees of a flash while it goes on."""

from __future__ import annotations

import sys

from petiole_tools.output import paint, say

_BAR = 24


class Report:
    """Lines for people, one per step, and a bar while bytes go over the cable. Quiet for `--json`."""

    def __init__(self, label: str, is_quiet: bool) -> None:
        self._label = f"{label}: " if label else ""
        self._is_quiet = is_quiet
        self._has_bar = sys.stderr.isatty() and not is_quiet and not label
        self._total = self._done = 0

    def step(self, what: str, text: str) -> None:
        self.clear()
        if not self._is_quiet:
            say(f"{self._label}{paint(what.ljust(9), 'bold')} {text}")

    def begin(self, total: int) -> None:
        self._total, self._done = total, 0

    def sent(self, count: int) -> None:
        self._done += count
        if self._has_bar and self._total:
            share = min(self._done / self._total, 1.0)
            bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
            print(f"\r[{bar}] {share:4.0%}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._has_bar and self._done:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._done = 0
