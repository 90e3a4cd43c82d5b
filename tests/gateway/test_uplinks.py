"""Readings of one device on their way to the store, as values."""

from __future__ import annotations

from petiole import wire
from petiole_gateway.hub.ports import Busy
from petiole_gateway.hub.uplinks import MAX_HELD, DeviceUplinks, Taken


class Store:
    """Takes what is submitted, unless it is busy."""

    def __init__(self) -> None:
        self.is_busy = True
        self.numbers: list[int] = []

    def submit(self, sequence: int, taken: Taken) -> None:
        if self.is_busy:
            raise Busy("the store is busy", 1.0)
        self.numbers.append(sequence)


def offer_and_give_up(uplinks: DeviceUplinks, first: int, rounds: int) -> list[int]:
    """What a node does that gives up all it has sent, again and again; the numbers that were held."""
    held: list[int] = []
    for base in range(first, first + rounds * wire.MAX_SEQUENCES_AHEAD, wire.MAX_SEQUENCES_AHEAD):
        uplinks.close_gap(base, 0)
        numbers = range(base, base + wire.MAX_SEQUENCES_AHEAD)
        held += [number for number in numbers if not uplinks.offer(number, lambda: Taken("x", b"1"))]
        uplinks.flush(0)
    return held


def test_a_node_that_gives_up_readings_without_end_takes_no_memory_without_end() -> None:
    store = Store()
    for is_open in (False, True):  # the manifest is not here; the store is busy
        uplinks = DeviceUplinks(store.submit)
        uplinks.learn(0)
        uplinks.is_open = is_open
        assert len(offer_and_give_up(uplinks, 1, 50)) == MAX_HELD


def test_what_was_held_is_taken_in_order_when_the_store_is_back_and_what_was_not_comes_again() -> None:
    store = Store()
    uplinks = DeviceUplinks(store.submit)
    uplinks.learn(0)
    uplinks.is_open = True
    held = offer_and_give_up(uplinks, 1, 5)
    store.is_busy = False
    uplinks.flush(60_000)
    assert store.numbers == held
    base = 1 + 4 * wire.MAX_SEQUENCES_AHEAD
    again = [number for number in range(base, base + 127) if not uplinks.offer(number, lambda: Taken("x", b"1"))]
    assert again == list(range(base, base + 127))
    uplinks.flush(60_000)
    assert store.numbers == held + again
