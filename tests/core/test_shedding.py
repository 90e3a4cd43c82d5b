from petiole import shedding
from petiole.shedding import LAST, NEWEST, OLDEST, THIN
from tests.core.support import Rng


def kept(channels, policies, room, is_gentle=False, size=10, moments=None):
    """Positions of the readings that stay; None if it cannot be done."""
    moments = moments or list(range(len(channels)))
    flags = shedding.keep(bytes(channels), [size] * len(channels), moments, policies, room, is_gentle)
    return None if flags is None else [i for i, flag in enumerate(flags) if flag]


def test_nothing_goes_while_all_fits():
    policies = {0: OLDEST, 1: NEWEST, 2: LAST, 3: THIN}
    assert kept([0, 1, 2, 3] * 4, policies, 160) == list(range(16))


def test_the_oldest_go_first_and_no_more_than_needed():
    assert kept([0, 1, 0, 1, 0], {}, 30) == [2, 3, 4]
    assert kept([0, 1, 0, 1, 0], {}, 29) == [3, 4]
    assert kept([0, 1, 0, 1, 0], {}, 0) == []


def test_of_a_last_channel_the_newest_value_is_kept():
    assert kept([2, 2, 0, 2, 2, 0], {2: LAST}, 50) == [2, 4, 5]


def test_a_thinned_channel_loses_every_second_reading_and_keeps_the_newest():
    assert kept([3] * 8, {3: THIN}, 40) == [1, 3, 5, 7]
    assert kept([3] * 8, {3: THIN}, 20) == [3, 7]
    assert kept([3] * 8, {3: THIN}, 10) == [7]
    assert kept([3] * 9, {3: THIN}, 50) == [0, 2, 4, 6, 8]


def test_thinning_stops_when_it_fits_and_takes_the_older_first():
    assert kept([3] * 8, {3: THIN}, 60) == [1, 3, 4, 5, 6, 7]


def test_two_thinned_channels_are_thinned_alike():
    assert kept([3, 4] * 4, {3: THIN, 4: THIN}, 40) == [2, 3, 6, 7]


def test_what_lies_closest_is_thinned_first_wherever_it_lies():
    moments = [0, 8, 16, 24, 25, 26, 27, 28]
    assert kept([3] * 8, {3: THIN}, 60, moments=moments) == [0, 1, 2, 3, 5, 7]
    assert kept([3] * 8, {3: THIN}, 40, moments=moments) == [0, 1, 2, 7]
    assert kept([3] * 8, {3: THIN}, 20, moments=moments) == [1, 7]
    assert kept([3] * 4, {3: THIN}, 10, moments=[5] * 4) == [3]


def test_what_is_stored_of_a_newest_channel_stays():
    assert kept([1, 0, 1, 0], {1: NEWEST}, 20) == [0, 2]
    assert kept([1, 0, 1, 0], {1: NEWEST}, 19) is None


def test_the_order_of_the_policies_is_last_half_of_thin_oldest():
    channels = [2, 3, 0, 2, 3, 0, 2, 3, 0, 2, 3, 0]
    policies = {2: LAST, 3: THIN}
    assert kept(channels, policies, 90) == [1, 2, 4, 5, 7, 8, 9, 10, 11]
    assert kept(channels, policies, 70) == [2, 4, 5, 8, 9, 10, 11]
    assert kept(channels, policies, 40) == [4, 9, 10, 11]
    assert kept(channels, policies, 20) == [9, 10]
    assert kept(channels, policies, 10) == [10]


def test_gently_oldest_stays_and_thin_keeps_a_quarter():
    channels = [0] * 4 + [3] * 8
    assert kept(channels, {3: THIN}, 60, True) == [0, 1, 2, 3, 7, 11]
    assert kept(channels, {3: THIN}, 59, True) is None


def test_what_stays_always_fits_and_is_missed_only_when_protected():
    rng = Rng(9)
    for _ in range(300):
        number = rng.below(40)
        channels = bytes([rng.below(6) for _ in range(number)])
        sizes = [1 + rng.below(70) for _ in range(number)]
        policies = {channel: rng.below(4) for channel in range(6)}
        room = rng.below(1 + sum(sizes))
        moments = sorted([rng.below(100) for _ in range(number)])
        flags = shedding.keep(channels, sizes, moments, policies, room, False)
        protected = sum([size for c, size in zip(channels, sizes) if policies[c] == NEWEST])
        if flags is None:
            assert protected > room
            continue
        assert sum([size for size, flag in zip(sizes, flags) if flag]) <= room
        for i in range(number):
            assert flags[i] or policies[channels[i]] != NEWEST
