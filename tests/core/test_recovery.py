from petiole import wire
from petiole.items import Encoded
from petiole.recovery import MAX_GIVEN_UP, Recovery


def item(text=b"x"):
    return Encoded(text)


def sent(recovery, counter, now):
    one = item()
    recovery.sent(counter, [one], now)
    return one


def lost(recovery, now):
    recovery.has_timed_out(now)
    items = recovery.lost()
    recovery.retry()
    return items


def acked(recovery, counter, now):
    """The items of the frame with this counter, None if no ack of it is awaited."""
    found = recovery.acked(counter, now)
    if found is None:
        return None
    recovery.forget(found)
    return found.items


def settled(rtt=20):
    """A recovery that has measured a steady round trip."""
    recovery = Recovery(wire.WINDOW_UPLINK)
    for counter in range(20):
        sent(recovery, counter, 100 * counter)
        acked(recovery, counter, 100 * counter + rtt)
    return recovery


def test_the_first_timeout_is_a_second():
    recovery = Recovery(8)
    assert recovery.timeout_ms() == wire.TIMEOUT_INITIAL_MS
    sent(recovery, 1, 0)
    assert recovery.deadline() == 1000
    assert lost(recovery, 999) == []
    assert len(lost(recovery, 1000)) == 1


def test_the_timeout_follows_the_round_trip():
    # RFC 6298, section 2.2 and 2.3, and 100 ms for a commit: 600 + 4 * 300 + 100.
    recovery = Recovery(8)
    sent(recovery, 1, 0)
    acked(recovery, 1, 600)
    assert recovery.timeout_ms() == 1900
    # rttvar = (3 * 300 + 200) / 4, srtt = (7 * 600 + 800) / 8.
    sent(recovery, 2, 1000)
    acked(recovery, 2, 1800)
    assert recovery.timeout_ms() == 625 + 4 * 275 + 100


def test_the_timeout_has_bounds():
    assert settled(5).timeout_ms() == wire.TIMEOUT_MIN_MS
    assert settled(400).timeout_ms() > wire.TIMEOUT_MIN_MS
    recovery = settled(60_000)
    assert recovery.timeout_ms() == wire.TIMEOUT_MAX_MS


def test_each_timeout_in_a_row_doubles_the_next():
    recovery = settled()
    now = 10_000
    waits = []
    for counter in range(30, 40):
        sent(recovery, counter, now)
        waits.append(recovery.deadline() - now)
        now = recovery.deadline()
        assert lost(recovery, now)
    assert waits == [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000]
    assert recovery.timeouts == 10
    sent(recovery, 50, now)
    acked(recovery, 50, now + 20)
    assert recovery.timeouts == 0


def test_the_window_bounds_what_is_in_flight():
    for window in (wire.WINDOW_UPLINK, wire.WINDOW_DOWNLINK):
        recovery = Recovery(window)
        for counter in range(window):
            assert recovery.can_send()
            sent(recovery, counter, 0)
        assert not recovery.can_send()
        acked(recovery, 0, 10)
        assert recovery.can_send()


def test_after_a_timeout_one_frame_is_in_flight():
    recovery = settled()
    for counter in range(30, 34):
        sent(recovery, counter, 10_000)
    assert len(lost(recovery, 10_250)) == 4
    assert recovery.can_send()
    sent(recovery, 40, 10_250)
    assert not recovery.can_send()
    acked(recovery, 40, 10_270)
    for counter in range(41, 49):
        assert recovery.can_send()
        sent(recovery, counter, 10_270)


def test_with_the_oldest_all_in_flight_are_lost_in_order():
    recovery = settled()
    items = [sent(recovery, 30, 10_000), sent(recovery, 31, 10_100), sent(recovery, 32, 10_200)]
    assert lost(recovery, 10_249) == []
    assert lost(recovery, 10_250) == items
    assert lost(recovery, 20_000) == []


def test_a_frame_that_a_later_one_overtook_is_lost_after_nine_eighths():
    recovery = settled(80)
    first = sent(recovery, 30, 10_000)
    sent(recovery, 31, 10_005)
    sent(recovery, 32, 10_011)
    acked(recovery, 31, 10_085)
    # 85 ms is within 9/8 of 80 ms: it may only be late.
    assert lost(recovery, 10_085) == []
    acked(recovery, 32, 10_095)
    assert lost(recovery, 10_095) == [first]


def test_a_late_ack_of_a_given_up_frame_counts():
    recovery = settled()
    first = sent(recovery, 30, 10_000)
    assert lost(recovery, 10_250) == [first]
    assert 30 in recovery.counters()
    assert acked(recovery, 30, 10_900) == [first]
    assert recovery.timeouts == 0
    assert acked(recovery, 30, 10_901) is None


def test_of_given_up_frames_sixteen_are_remembered():
    recovery = settled()
    now = 10_000
    for counter in range(30, 80):
        sent(recovery, counter, now)
        now += 10_000
        assert len(lost(recovery, now)) == 1
    assert MAX_GIVEN_UP == 16
    assert len(recovery.counters()) == 17
    assert recovery.counters() == list(range(79, 79 - len(recovery.counters()), -1))


def test_an_ack_of_nothing_is_nothing():
    recovery = settled()
    assert acked(recovery, 5, 10_000) is None
    assert acked(recovery, 99, 10_000) is None
    assert recovery.deadline() is None


def test_what_the_peer_did_not_take_is_sent_at_once():
    recovery = settled()
    items = [sent(recovery, 30, 10_000), sent(recovery, 31, 10_000)]
    recovery.lose_all()
    assert recovery.deadline() <= 10_001
    assert lost(recovery, 10_001) == items
    assert recovery.timeouts == 0


def test_what_is_lost_is_told_until_it_is_queued_again():
    recovery = settled()
    one = sent(recovery, 30, 10_000)
    # Whoever asks may find no memory to queue it.
    assert recovery.has_timed_out(10_250)
    assert not recovery.has_timed_out(10_250)
    assert recovery.lost() == recovery.lost() == [one]
    assert lost(recovery, 10_250) == [one]
    assert lost(recovery, 10_250) == []
    assert recovery.timeouts == 1


def test_a_peer_that_was_asleep_is_told_again_as_soon_as_it_is_heard():
    recovery = settled()
    one = sent(recovery, 100, 10000)
    assert lost(recovery, recovery.deadline()) == [one]
    again = recovery.deadline()
    assert again is None
    recovery.sent(101, [one], 12000)
    assert recovery.deadline() > 12100, "its timer backs off"
    recovery.wake(12100)
    assert lost(recovery, 12100) == [one]


def test_a_peer_that_is_awake_has_the_time_of_a_round_trip_to_answer():
    recovery = settled()
    one = sent(recovery, 100, 10000)
    recovery.wake(10200)
    assert lost(recovery, 10200) == [], "no timeout has passed"
    assert lost(recovery, recovery.deadline()) == [one]
    recovery.sent(101, [one], 12000)
    recovery.wake(12020)
    assert lost(recovery, 12020) == []
