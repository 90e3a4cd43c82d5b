from petiole.clock import Clock

TIME = 1_800_000_000_000


def test_there_is_no_time_before_the_first_sample():
    clock = Clock()
    assert clock.time(1000) is None
    assert clock.offset is None
    assert clock.is_doubtful


def test_half_of_the_round_trip_is_taken_for_the_way_back():
    clock = Clock()
    clock.sample(TIME, 1000, 1040, False)
    assert clock.time(1040) == TIME + 20
    assert clock.time(5000) == TIME + 20 + 3960


def test_the_sample_with_the_shortest_round_trip_counts():
    clock = Clock()
    clock.sample(TIME, 1000, 1010, False)
    clock.sample(TIME + 5000, 2000, 2500, False)  # 500 ms: off by up to 250
    assert clock.time(3000) == TIME + 5 + 1990
    clock.sample(TIME + 2000, 3000, 3002, False)
    assert clock.time(3002) == TIME + 2001


def test_the_last_eight_samples_count():
    """A crystal drifts: the best sample of last week is wrong today."""
    clock = Clock()
    clock.sample(TIME, 0, 2, False)
    for n in range(7):
        clock.sample(TIME + 100, 100 * n, 100 * n + 50, False)
    assert clock.time(0) == TIME - 1
    clock.sample(TIME + 100, 0, 50, False)
    # Of those that are left all took 50 ms; the smallest offset is that of the last of them.
    assert clock.time(0) == TIME + 100 + 25 - 650


def test_what_a_doubtful_clock_said_is_forgotten_when_it_is_sure():
    clock = Clock()
    clock.sample(5000, 0, 2, True)
    assert clock.is_doubtful
    clock.sample(TIME, 100, 900, False)
    assert not clock.is_doubtful
    assert clock.time(900) == TIME + 400
    clock.sample(7000, 1000, 1100, True)
    assert clock.is_doubtful
    assert clock.time(1100) == 7050
