"""What a node does with mail, and when it may sleep."""

from petiole import cbor, records, wire
from petiole.mail import Mail
from petiole.records import Record
from tests.core.gateway_peer import online


def mail(item, attempt=1, target=0, arguments=None):
    fields = [item, target, arguments or []]
    if attempt > 1:
        fields.append(attempt)
    return bytes((wire.MAIL,)) + cbor.encode(fields)


def pending(number):
    return bytes((wire.PENDING,)) + records.varint(number)


def results(peer):
    """The ends that the node tells now; acknowledged."""
    return [record.value for record in peer.heard() if isinstance(record, Record) and record.kind == wire.MAIL_RESULT]


def acknowledge(peer, more=b""):
    """The gateway acknowledges all that it may have opened, in a frame that says more."""
    last = peer.node.session.send_counter - 1
    return peer.say(more + bytes((wire.ACKS, last & 255, 255)))


def test_mail_is_an_event_and_its_end_a_record():
    peer = online()
    assert peer.say(mail(7, arguments=[True])) == [("mail", 7, 0, [True], False)]
    peer.node.finish(7, 0, {"on": True})
    assert results(peer) == [[7, 0, {"on": True}]]


def test_an_item_is_carried_out_once_and_answered_as_often_as_it_comes():
    peer = online()
    peer.say(mail(7))
    assert peer.say(mail(7, 2)) == []  # it is being carried out
    peer.node.finish(7, 0, 1)
    assert results(peer) == [[7, 0, 1]]
    assert peer.say(mail(7, 3)) == []
    assert results(peer) == [[7, 0, 1]]
    assert peer.node.dropped == {}


def test_a_result_on_its_way_is_not_said_twice():
    peer = online()
    peer.say(mail(7))
    peer.node.finish(7, 0, 1)
    peer.say(mail(7, 2))
    assert results(peer) == [[7, 0, 1]]


def test_an_item_that_was_begun_before_is_told_so():
    peer = online()
    assert peer.say(mail(7, 2)) == [("mail", 7, 0, [], True)]


def test_one_item_too_many_is_dropped_and_comes_again():
    peer = online()
    for item in range(wire.MAX_OPEN_REQUESTS + 1):
        assert len(peer.say(mail(item))) == (item < wire.MAX_OPEN_REQUESTS)
    assert peer.node.dropped == {"unexpected": 1}
    peer.node.finish(0, 0, None)
    assert len(peer.say(mail(wire.MAX_OPEN_REQUESTS, 2))) == 1


def test_malformed_mail_is_counted_and_harms_nothing():
    peer = online()
    for value in ([], [1], [1, 0], ["1", 0, []], [1, 0, [], "2"], [1, 0, [], 2, 3], 5, {}, None):
        assert peer.say(bytes((wire.MAIL,)) + cbor.encode(value)) == []
    assert peer.node.dropped == {"malformed_record": 9}
    assert peer.node.mail.is_idle


def test_the_last_results_are_remembered_and_long_ones_without_their_value():
    peer = online()
    for item in range(wire.REMEMBERED_ITEMS + 1):
        peer.say(mail(item))
        peer.node.finish(item, item % 2, "x" * 100)
        assert results(peer) == [[item, item % 2, "x" * 100]]
    assert peer.say(mail(0, 2)) == [("mail", 0, 0, [], True)]  # forgotten
    peer.say(mail(1, 2))
    assert results(peer) == [[1, 1, None]]
    peer.say(mail(wire.REMEMBERED_ITEMS, 2))
    assert results(peer) == [[wire.REMEMBERED_ITEMS, 0, None]]


def test_a_result_that_fits_nothing_becomes_too_large():
    peer = online()
    peer.say(mail(7))
    peer.node.finish(7, 0, "x" * wire.MAX_MESSAGE)
    assert results(peer) == [[7, wire.TOO_LARGE, "result"]]


def test_results_that_were_not_heard_are_said_in_the_next_session():
    peer = online()
    peer.say(mail(1))
    peer.node.finish(1, 0, "heard")
    results(peer)
    peer.say(mail(2))
    peer.node.finish(2, 0, "lost")
    frame = peer.frames()[-1]
    peer.reject(wire.REJECT_SESSION, frame)
    peer.join()
    assert results(peer) == [[2, 0, "lost"]]


def test_results_survive_in_retained_memory():
    peer = online()
    for item in (1, 2, 3):
        peer.say(mail(item))
        peer.node.finish(item, 0, "x" * 20)
        if item < 3:
            results(peer)
    kept, returned = cbor.decode(cbor.encode(peer.node.mail.dump(100)))[0]
    assert [(entry[0], entry[3]) for entry in kept] == [(2, True), (3, False)]
    other = online()
    assert returned == [], "what did not fit is acknowledged"
    other.node.mail.load(kept, [])
    other.node.mail.load([[], 5, [1, 2, 3, 4], ["1", 0, b"", True]], ["x", None])
    other.node.mail.renew(other.node.session)
    assert results(other) == [[3, 0, "x" * 20]]
    assert other.say(mail(2, 2)) == []
    assert results(other) == [[2, 0, "x" * 20]]


def test_a_node_may_sleep_when_it_is_answered():
    peer = online()
    node = peer.node
    assert node.is_settled(peer.now)
    node.publish(0, 1, peer.now)
    node.wake()
    assert not node.is_settled(peer.now)
    peer.frames()
    assert not node.is_settled(peer.now)
    acknowledge(peer)
    assert node.is_settled(peer.now)


def test_a_node_stays_awake_for_pending_items_and_for_handlers():
    peer = online()
    node = peer.node
    node.wake()
    peer.frames()
    acknowledge(peer, pending(2) + mail(1))
    assert node.mail.pending == 1
    node.finish(1, 0, None)
    peer.frames()
    assert not node.is_settled(peer.now)
    peer.say(mail(2))
    assert not node.is_settled(peer.now)
    node.finish(2, 0, None)
    peer.frames()
    assert node.is_settled(peer.now)  # the result is on its way; its ack is not waited for


def test_an_ack_without_a_number_says_that_nothing_waits():
    peer = online()
    peer.node.wake()
    peer.frames()
    acknowledge(peer, pending(3))
    assert peer.node.mail.pending == 3
    peer.say(b"")
    assert peer.node.mail.pending == 3
    acknowledge(peer)
    assert peer.node.mail.pending == 0


def test_sleep_stops_the_clock_of_the_session():
    peer = online()
    node = peer.node
    node.publish(0, 1, peer.now)
    peer.frames()
    node.suspend()
    peer.now += 600_000
    assert node.next_frame(peer.now) is None
    assert node.session.deadline(peer.now) is None
    node.wake()
    found = peer.heard()
    assert [record.age_ms for record in found if isinstance(record, records.Reading)] == [600_000]
    assert node.session.recovery.timeouts_total == 0
    assert not node.outbox.items


def test_a_wake_without_anything_to_say_is_one_short_frame():
    peer = online()
    peer.node.suspend()
    peer.now += 600_000
    peer.node.wake()
    (frame,) = peer.frames()
    assert len(frame) == 10
    assert peer.frames() == []


def test_a_busy_gateway_keeps_nobody_awake():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    peer.node.wake()
    peer.frames()
    peer.say(bytes((wire.BUSY,)) + records.varint(60))
    assert peer.node.is_settled(peer.now)
    assert not peer.node.is_settled(peer.now + 61_000)


def test_policy_and_awake_are_events_within_bounds():
    peer = online()
    say = peer.say
    assert say(bytes((wire.POLICY,)) + cbor.encode([600, 5])) == [("policy", 600, 5)]
    assert say(bytes((wire.POLICY,)) + cbor.encode([1 << 40, 1 << 40])) == [
        ("policy", wire.MAX_PERIOD_S, wire.MAX_SPACING_MS)
    ]
    assert say(bytes((wire.AWAKE,)) + records.varint(100_000)) == [("awake", wire.MAX_AWAKE_S)]
    for value in ([], [1], [-1, 0], ["1", 0], 7):
        assert say(bytes((wire.POLICY,)) + cbor.encode(value)) == []
    assert peer.node.dropped == {"malformed_record": 5}


def test_interrupted_items_come_again():
    peer = online()
    peer.say(mail(1))
    peer.node.mail.interrupt()
    assert peer.node.mail.is_idle
    peer.node.finish(1, 0, None)
    assert results(peer) == []
    assert peer.say(mail(1, 2)) == [("mail", 1, 0, [], True)]


def test_an_empty_memory_has_nothing_to_dump():
    assert Mail().dump(1000) == ([], [])


def returned(peer):
    """What the node says now of mail that it gave back; acknowledged."""
    return [record.value for record in peer.heard() if isinstance(record, Record) and record.kind == wire.MAIL_RETURN]


def test_what_was_cut_short_is_given_back_at_the_next_wake_until_it_is_heard():
    peer = online()
    peer.say(mail(1))
    peer.say(mail(2))
    acknowledge(peer)
    peer.node.suspend()
    peer.node.mail.interrupt()
    peer.node.wake()
    peer.frames()  # lost
    peer.node.suspend()
    peer.node.wake()
    assert returned(peer) == [2]
    peer.node.suspend()
    peer.node.wake()
    assert returned(peer) == []
    assert peer.node.mail.returned == []


def test_what_was_given_back_meanwhile_is_said_too():
    peer = online()
    peer.say(mail(1))
    peer.node.mail.interrupt()
    peer.node.wake()
    peer.say(mail(2))
    peer.node.mail.interrupt()
    assert returned(peer) == [1]
    peer.node.suspend()
    peer.node.wake()
    assert returned(peer) == [1]
    assert peer.node.mail.returned == [2]


def test_what_could_not_be_begun_is_given_back_after_a_while_by_a_node_that_is_awake():
    peer = online()
    peer.say(mail(1))
    acknowledge(peer)
    peer.node.mail.forget(1)
    assert returned(peer) == []
    peer.now += wire.LISTENING_MS - 1
    assert returned(peer) == []
    peer.now += 1
    assert returned(peer) == [1]
    peer.now += 2 * wire.LISTENING_MS
    assert returned(peer) == []


def test_what_does_not_fit_retained_memory_is_given_back():
    peer = online()
    for item in (1, 2, 3):
        peer.say(mail(item))
        peer.node.finish(item, 0, "x" * 20)
    peer.say(mail(4))
    peer.node.mail.interrupt()
    kept, given_back = peer.node.mail.dump(100)
    assert [entry[0] for entry in kept] == [2, 3]
    assert given_back == [4, 1], "what has no result, and the one whose result did not fit"
    other = online()
    other.node.mail.load(kept, given_back)
    other.node.wake()
    assert returned(other) == [2]


def test_what_was_begun_is_told_so_though_it_comes_as_before():
    """The frame that brought it was not acknowledged, and is sent again by its timer."""
    peer = online()
    assert peer.say(mail(1)) == [("mail", 1, 0, [], False)]
    peer.node.mail.interrupt()
    peer.node.suspend()
    peer.node.wake()
    assert peer.say(mail(1)) == [("mail", 1, 0, [], True)]
    peer.node.finish(1, 0, None)
    assert peer.node.mail.returned == []


def test_a_new_session_gives_nothing_back():
    peer = online()
    peer.say(mail(1))
    peer.node.mail.interrupt()
    peer.node.wake()
    frame = peer.frames()[-1]
    peer.reject(wire.REJECT_SESSION, frame)
    peer.join()
    assert returned(peer) == []
    peer.node.suspend()
    peer.node.wake()
    assert returned(peer) == []


def test_what_is_kept_over_a_sleep_fits_however_much_was_given_back():
    """Notes that are too long end the wake in an error."""
    peer = online()
    number = 1 << 31
    for size in (90, 100, 90, 100):
        number += 1
        peer.say(mail(number))
        peer.node.finish(number, 0, "x" * size)
    for _ in range(8):
        number += 1
        peer.say(mail(number))
    peer.node.mail.interrupt()
    for room in (100, 250, 380):
        kept, given_back = peer.node.mail.dump(room)
        assert len(kept) + len(given_back) == 12
        assert len(cbor.encode(kept)) + len(cbor.encode(given_back)) <= room, room
