from petiole.clock import Clock
from petiole.drift import Drift
from tests.core.test_clock import TIME


def test_the_drift_of_a_sleeping_clock_is_learnt():
    """An RC oscillator that is 2 % slow while the node sleeps: an hour is wrong by 72 s at first."""
    clock = Clock()
    drift = Drift(clock)
    true = TIME
    now = 0
    clock.sample(true, now, now, False)
    errors = []
    for _ in range(8):
        true += 3600000
        now += 3600000 * 98 // 100
        drift.sleep(3600000 * 98 // 100)
        assert drift.is_large
        errors.append(abs(clock.time(now) - true))
        clock.sample(true, now, now, False)
    assert errors[0] == 72000
    assert errors[-1] < 2000


def test_a_gateway_whose_clock_is_set_teaches_no_drift():
    clock = Clock()
    drift = Drift(clock)
    clock.sample(TIME, 0, 0, False)
    drift.sleep(60000)
    clock.sample(TIME + 3600000, 60000, 60000, False)
    drift.learn()
    assert drift.ppm == 0
    assert clock.time(60000) == TIME + 3600000


def test_the_time_is_asked_for_when_it_may_be_wrong():
    clock = Clock()
    drift = Drift(clock)
    assert drift.is_large
    clock.sample(TIME, 0, 0, False)
    assert not drift.is_large
    for _ in range(22):
        drift.sleep(1000)
    assert drift.is_large
    clock.sample(TIME + 23000, 22000, 22000, False)
    drift.learn()
    assert not drift.is_large
