from hypothesis import given
from hypothesis import strategies as st

from petiole.counter import LIMIT, WINDOW, ReplayWindow, reconstruct


@given(st.integers(0, LIMIT - 1), st.integers(1, 16), st.integers(0, (1 << 16) - 1))
def test_the_counter_is_the_nearest_with_these_low_bits(expected: int, bits: int, low: int) -> None:
    size = 1 << bits
    counter = reconstruct(low, bits, expected)
    assert 0 <= counter < LIMIT
    assert counter % size == low % size
    for other in (counter - size, counter + size):
        if 0 <= other < LIMIT:
            assert abs(counter - expected) <= abs(other - expected)
            # A tie goes to the higher.
            assert other < counter or abs(counter - expected) < abs(other - expected)


@given(st.integers(0, LIMIT - 1), st.integers(-127, 128))
def test_one_byte_bridges_127_back_and_128_ahead(expected: int, distance: int) -> None:
    counter = expected + distance
    if 0 <= counter < LIMIT:
        assert reconstruct(counter & 255, 8, expected) == counter


@given(st.lists(st.integers(0, 120), max_size=200))
def test_no_counter_is_taken_twice_and_none_within_the_window_is_refused(counters: list[int]) -> None:
    window = ReplayWindow()
    seen: set[int] = set()
    for counter in counters:
        fresh = counter not in seen and counter > max(seen, default=-1) - WINDOW
        assert window.check(counter) is fresh
        if fresh:
            window.mark(counter)
            seen.add(counter)
