"""How much of something may be done: a store that fills at a steady rate."""

from __future__ import annotations


class Allowance:
    """`per_s` in the long run, and what has been saved up at once. Times in ms of any clock that never goes back."""

    def __init__(self, per_s: float, saved: int, now: int) -> None:
        self._per_ms = per_s / 1000
        self._left = float(saved)
        self._at = now

    def take(self, now: int, most: int) -> bool:
        """Take one. `most` may be saved up, from now on. False: nothing is left."""
        self._left = min(float(most), self._left + self._per_ms * (now - self._at))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """What was taken was not used."""
        self._left += 1
