from petiole.counter import LIMIT, WINDOW, ReplayWindow, reconstruct
from tests.core.support import Rng


def nearest(low, bits, expected):
    """The definition, by trying every candidate around."""
    size = 1 << bits
    base = expected - expected % size + low
    best = None
    for candidate in (base - size, base, base + size):
        if 0 <= candidate < LIMIT:
            distance = abs(candidate - expected)
            # A tie goes to the higher, which comes last.
            if best is None or distance <= best[0]:
                best = (distance, candidate)
    return best[1]


def test_low_bits_give_the_nearest_counter():
    for bits in (1, 2, 4, 8):
        size = 1 << bits
        step = 1 if bits < 8 else 5
        for expected in list(range(0, 3 * size, step)) + [LIMIT - 1, LIMIT - size, LIMIT - size // 2]:
            for low in range(size):
                counter = reconstruct(low, bits, expected)
                assert counter == nearest(low, bits, expected), (low, bits, expected)
                assert counter % size == low
                assert 0 <= counter < LIMIT


def test_every_loss_below_half_the_range_is_bridged():
    for expected in (0, 1, 200, 255, 256, 1000, 1 << 30, (1 << 32) - 3):
        for ahead in range(129):
            assert reconstruct((expected + ahead) & 255, 8, expected) == expected + ahead
        for behind in range(1, 128):
            if behind <= expected:
                assert reconstruct((expected - behind) & 255, 8, expected) == expected - behind


def test_bits_beyond_the_announced_are_ignored():
    assert reconstruct(0x3FF, 8, 250) == 255
    assert reconstruct(-1, 8, 250) == 255


def test_a_window_takes_each_counter_once():
    window = ReplayWindow()
    for counter in (0, 1, 5, 3, 2, 4, 40, 39, 11):
        assert window.check(counter)
        window.mark(counter)
        assert not window.check(counter)
    assert window.highest == 40
    assert not window.check(10)
    assert window.check(12)


def test_a_check_moves_nothing():
    window = ReplayWindow()
    window.mark(7)
    state = (window.highest, window.bitmap)
    for counter in (0, 6, 7, 8, 1000, LIMIT - 1):
        window.check(counter)
    assert (window.highest, window.bitmap) == state
    # So a forged high counter locks nobody out.
    assert window.check(8)


def test_a_window_agrees_with_a_set_of_everything_seen():
    rng = Rng(10)
    for spread in (3, 20, 40, 200):
        window = ReplayWindow()
        seen = {}
        highest = -1
        base = 0
        for _ in range(400):
            base += rng.below(3)
            counter = max(0, base + rng.below(spread) - spread // 2)
            fresh = counter not in seen and counter > highest - WINDOW
            assert window.check(counter) == fresh, counter
            if fresh:
                window.mark(counter)
                seen[counter] = True
                highest = max(highest, counter)
            assert window.highest == highest
            assert 0 <= window.bitmap < 1 << 30


def test_marking_what_is_too_old_changes_nothing():
    window = ReplayWindow()
    window.mark(100)
    state = (window.highest, window.bitmap)
    window.mark(100 - WINDOW)
    assert (window.highest, window.bitmap) == state


def test_jumps_around_the_size_of_the_window():
    for jump in (WINDOW - 1, WINDOW, WINDOW + 1, 1 << 35):
        window = ReplayWindow()
        window.mark(0)
        window.mark(jump)
        assert not window.check(0), jump
        assert not window.check(jump)
        assert window.check(jump - 1)


def test_a_window_resumes_from_its_state():
    window = ReplayWindow()
    for counter in (1, 2, 9):
        window.mark(counter)
    resumed = ReplayWindow(window.highest, window.bitmap)
    for counter in range(12):
        assert resumed.check(counter) == window.check(counter)
    # With the highest alone, nothing up to it is taken again.
    careful = ReplayWindow(9)
    assert [careful.check(counter) for counter in range(11)] == [False] * 10 + [True]
