"""How long something took, counted in buckets. Values only."""

from __future__ import annotations

from bisect import bisect_left

# From a page cache that has nothing to write to a card that is busy with its own affairs.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Durations:
    """`counts[i]` are those of at most `bounds[i]` seconds and above the bound before; the last, all others."""

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, how many took at most so long), as Prometheus has it; the last bound is `+Inf`."""
        found, total = [], 0
        for bound, count in zip((*(f"{each:g}" for each in self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found
