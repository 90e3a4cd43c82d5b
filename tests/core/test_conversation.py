"""What a node says in its session, and what it makes of what the gateway says."""

from petiole import cbor, join, manifest, records, states, wire
from petiole import frame as frames
from petiole.errors import LocalError, QueueFull
from petiole.session import MAX_QUEUE
from tests.core.gateway_peer import Peer, numbers, online
from tests.core.pair import KEY, TIME, Pair, aead
from tests.core.support import raises

# Readings and their numbers --------------------------------------------------------------------------------


def test_what_is_durable_is_not_sent_after_the_join():
    peer = Peer(next_sequence=41, sequence=43)
    for value in range(5):
        peer.node.publish(0, value, peer.now)
    events = peer.join()
    assert [event[1].sequence for event in events if event[0] == "durable"] == [41, 42, 43]
    assert numbers(peer.heard()) == [44, 45]


def test_a_new_gateway_gets_every_reading_of_a_node_that_has_come_far():
    """Its 0 must not be read as 65536, which would make the outbox look durable."""
    for next_sequence in (100, 40_001, 65_530, 65_541, 131_073):
        peer = Peer(next_sequence=next_sequence)
        for value in range(10):
            peer.node.publish(0, value, peer.now)
        assert [event[0] for event in peer.join()] == ["online"], next_sequence
        found = peer.heard()
        assert numbers(found) == list(range(next_sequence, next_sequence + 10))
        assert [r.value for r in found if getattr(r, "kind", 0) == wire.FLOOR] == [(next_sequence, 0)]


def test_numbers_above_the_own_are_another_outboxs_and_trim_nothing():
    peer = Peer(next_sequence=41, sequence=300)
    for value in range(3):
        peer.node.publish(0, value, peer.now)
    assert [event[0] for event in peer.join()] == ["online"]
    assert numbers(peer.heard()) == [301, 302, 303]
    assert peer.node.publish(0, 3, peer.now).sequence == 304


def test_the_first_readings_after_an_exact_number_close_the_gap():
    """An earlier life of the outbox may have numbers on the way, so the gateway left some out."""
    peer = Peer(sequence=70127)
    peer.node.publish(0, "first", peer.now)
    peer.join()
    found = peer.heard()
    assert [(r.kind, r.value) for r in found if not isinstance(r, records.Reading)] == [(wire.FLOOR, (70128, 0))]
    assert numbers(found) == [70128]


def test_a_known_number_needs_no_floor():
    peer = Peer(next_sequence=41, sequence=40)
    peer.node.publish(0, 1, peer.now)
    peer.join()
    assert [getattr(record, "kind", "reading") for record in peer.heard()] == ["reading"]


def test_127_readings_wait_in_the_session_and_leave_room():
    peer = Peer(next_sequence=1, limit=1000)
    peer.join()
    peer.heard()
    for value in range(31):
        peer.node.publish(1, value, peer.now, False)
    for value in range(500):
        peer.node.publish(0, value, peer.now)
    peer.node.deadline(peer.now)
    assert len(peer.node.session.queue) <= MAX_QUEUE - 32
    # An answer still has room, and a request too.
    peer.say(b"\x01" + cbor.encode([9, 0, []]))
    peer.node.reply(9, 0, None)
    peer.node.request("a", None, 1000, peer.now)
    seen = []
    for _ in range(2000):
        found = numbers(peer.heard())
        seen += [number for number in found if number is not None]
        peer.sequence = max([peer.sequence] + seen)
        if len(seen) == 500:
            break
        peer.now += 1
    assert seen == list(range(1, 501))


def test_live_readings_need_a_session_and_room():
    peer = Peer()
    raises(QueueFull, peer.node.publish, 1, 0, peer.now, False)
    peer.join()
    peer.node._is_linked = False
    for value in range(31):
        peer.node.publish(1, value, peer.now, False)
    raises(QueueFull, peer.node.publish, 1, 0, peer.now, False)


def test_what_does_not_fit_the_wire_is_the_callers_mistake():
    peer = online()
    peer.node.publish(0, bytes(1021), peer.now)
    raises(LocalError, peer.node.publish, 0, bytes(1022), peer.now)
    raises(LocalError, peer.node.request, "s", bytes(4090), 1000, peer.now)
    raises(LocalError, peer.node.request, "s" * 100, bytes(4000), 1000, peer.now)
    peer.node.request("s" * 20, bytes(4000), 1000, peer.now)
    too_long = manifest.encode("x" * 4096, [], [], [0, 0])
    assert raises(LocalError, Peer, None, 64, 0, too_long).what == "manifest"


# Commands, requests and the rest ---------------------------------------------------------------------------


def test_a_command_is_executed_once_however_often_it_comes():
    peer = online()
    text = b"\x01" + cbor.encode([513, 0, [True], 5000])
    assert peer.say(text) == [("command", 513, 0, [True])]
    assert peer.say(text) == []
    peer.node.reply(513, 0, None)
    assert peer.say(text) == []
    assert [record.value for record in peer.heard() if getattr(record, "kind", 0) == wire.REPLY] == [[513, 0, None]]
    # The id is forgotten with the session.
    peer.node.state = states.REJOINING
    peer.join()
    assert len(peer.say(text)) == 1


def test_sixteen_commands_are_remembered():
    peer = online()
    for id in range(17):
        assert len(peer.say(b"\x01" + cbor.encode([id, 0, []]))) == 1
        peer.node.reply(id, 0, None)
        peer.heard()
    assert peer.say(b"\x01" + cbor.encode([1, 0, []])) == []
    assert len(peer.say(b"\x01" + cbor.encode([0, 0, []]))) == 1


def test_a_ninth_command_at_once_gets_429():
    peer = online()
    events = []
    for id in range(10):
        events += peer.say(b"\x01" + cbor.encode([id, 0, []]))
    assert len(events) == 8
    replies = [record.value[:2] for record in peer.heard() if getattr(record, "kind", 0) == wire.REPLY]
    assert replies == [[8, 429], [9, 429]]


def test_a_result_that_is_too_much_becomes_413():
    deep = []
    for _ in range(7):
        deep = [deep]
    for value in (bytes(4096), [0] * 1022, deep):
        peer = online()
        peer.say(b"\x01" + cbor.encode([7, 0, []]))
        peer.node.reply(7, 0, value)
        replies = [record.value for record in peer.heard() if getattr(record, "kind", 0) == wire.REPLY]
        assert [reply[:2] for reply in replies] == [[7, 413]]


def test_what_is_no_value_can_be_answered_differently():
    peer = online()
    peer.say(b"\x01" + cbor.encode([7, 0, []]))
    raises(TypeError, peer.node.reply, 7, 0, object())
    peer.node.reply(7, 500, "result")
    assert [r.value for r in peer.heard() if getattr(r, "kind", 0) == wire.REPLY] == [[7, 500, "result"]]


def test_a_reply_of_a_session_that_is_gone_is_not_sent():
    peer = online()
    peer.say(b"\x01" + cbor.encode([7, 0, []]))
    peer.node.state = states.REJOINING
    peer.join()
    peer.heard()
    peer.node.reply(7, 0, None)
    assert peer.heard() == []


def test_a_request_that_went_out_has_an_unknown_outcome_when_its_session_ends():
    peer = online()
    sent = peer.node.request("a", None, 60_000, peer.now)
    peer.heard()
    peer.node.state = states.REJOINING
    request = peer.request()
    unsent = peer.node.request("b", None, 60_000, peer.now)
    events = peer.join(request=request)
    assert ("failed", sent, "session_lost") in events
    assert ("failed", unsent, "session_lost") not in events
    assert [r.value[1] for r in peer.heard() if getattr(r, "kind", 0) == wire.REQUEST] == ["b"]


def test_a_reply_ends_its_request_and_a_second_one_is_nothing():
    peer = online()
    item = peer.node.request("a", None, 60_000, peer.now)
    peer.heard()
    text = b"\x02" + cbor.encode([item.id, 404, "nobody"])
    assert peer.say(text) == [("reply", item, 404, "nobody")]
    assert peer.say(text) == []
    assert peer.node.dropped == {"unexpected": 1}
    assert peer.node.expire(peer.now + 100_000) == []


def test_the_manifest_is_sent_once_for_any_number_of_questions():
    peer = online()
    peer.say(b"\x4a" * 200)
    peer.say(b"\x4a")
    assert [r.kind for r in peer.heard() if getattr(r, "kind", 0) == wire.MANIFEST] == [wire.MANIFEST]
    peer.say(b"\x4a")
    assert [r.kind for r in peer.heard() if getattr(r, "kind", 0) == wire.MANIFEST] == [wire.MANIFEST]


def test_a_peer_cannot_fill_the_queue():
    peer = online()
    peer.node._is_linked = False  # nothing leaves
    for id in range(1000):
        peer.say(b"\x01" + cbor.encode([id, 0, []]) + b"\x4a")
    assert len(peer.node.session.queue) < MAX_QUEUE
    assert peer.node.dropped["unexpected"] > 0
    assert len(peer.node.executing) <= 8
    assert len(peer.node.seen) <= 16
    for id in list(peer.node.executing):
        peer.node.reply(id, 0, None)


def test_records_of_the_wrong_shape_are_counted():
    peer = online()
    for value in (None, 7, [], [1, 2], [1, 2, 3, 4, 5], {"id": 1}, ["a", 0, []], [[], 0, []]):
        assert peer.say(b"\x01" + cbor.encode(value)) == []
    for value in (None, [], [1, 2], [1, 2, 3, 4]):
        assert peer.say(b"\x02" + cbor.encode(value)) == []
    assert peer.node.dropped == {"malformed_record": 12}


def test_what_is_not_known_is_counted_and_acknowledged():
    peer = online()
    peer.say(b"\x3f\x01")
    assert peer.node.dropped == {"unknown_extension": 1}
    assert [frames.split(frame).type for frame in peer.frames()] == [wire.ACK]


def test_the_time_is_asked_and_set():
    peer = online()
    peer.node.ask_time(peer.now)
    assert [record.kind for record in peer.heard()] == [wire.TIME_REQUEST]
    peer.say(b"\x42\x01" + (TIME + 777_000).to_bytes(6, "big"))
    assert peer.node.clock.is_doubtful
    assert abs(peer.node.clock.time(peer.now) - TIME - 777_000) <= 10


def test_an_accept_that_comes_again_does_not_set_the_clock_back():
    peer = Peer()
    request = peer.request()
    asked_at = peer.now
    peer.request()
    peer.request()
    took = peer.now - asked_at
    assert took > 2000
    # The gateway answered the first request at once; that answer was lost and comes again.
    request = join.open_request(aead, KEY, request)
    nonce = (TIME + asked_at).to_bytes(6, "big") + b"r"
    accept, peer.keys = join.accept(aead, KEY, request, 5, 0, nonce)
    peer.node.publish(0, "x" * 300, peer.now)
    peer.node.receive(accept, peer.now)
    assert abs(peer.node.clock.time(peer.now) - TIME - peer.now) <= took // 2
    # It asks, and sends nothing with a time in it before it knows.
    assert [record.kind for record in peer.heard()] == [wire.TIME_REQUEST]
    assert peer.frames() == []
    peer.now += 20
    peer.say(b"\x42\x00" + (TIME + peer.now - 10).to_bytes(6, "big"))
    assert abs(peer.node.clock.time(peer.now) - TIME - peer.now) <= 10
    assert [record.kind for record in peer.heard()][:1] == [wire.FRAGMENT]


def late(peer):
    """A join that took half a second, and a reading that fills more than a frame."""
    peer.request()
    peer.now += 500
    peer.join(request=peer.node.joiner.request)
    peer.node.publish(0, "x" * 300, peer.now)
    assert [record.kind for record in peer.heard()] == [wire.TIME_REQUEST]


def next_kinds(peer):
    """Of what the node says when its time has come, within a second."""
    due = peer.node.deadline(peer.now)
    assert peer.now < due <= peer.now + 1000
    peer.now = due
    return [record.kind for record in peer.heard()]


def test_a_time_that_does_not_come_is_asked_for_again():
    """Its question is acknowledged, the answer in another frame is lost."""
    peer = Peer()
    late(peer)
    assert next_kinds(peer) == [wire.TIME_REQUEST]
    peer.say(b"\x42\x00" + (TIME + peer.now + 60000).to_bytes(6, "big"))
    assert abs(peer.node.clock.time(peer.now) - TIME - peer.now - 60000) <= 250
    assert [record.kind for record in peer.heard()][:1] == [wire.FRAGMENT]
    peer.now += 3000
    assert wire.TIME_REQUEST not in [record.kind for record in peer.heard()]


def test_without_an_answer_the_time_is_waited_for_no_longer_than_3_seconds():
    peer = Peer()
    late(peer)
    until = peer.now + 3000
    kinds = []
    while peer.now < until:
        assert wire.FRAGMENT not in kinds
        kinds += next_kinds(peer)
    assert peer.now == until
    assert wire.FRAGMENT in kinds
    peer.now += 30000
    for _ in range(10):
        kinds += [record.kind for record in peer.heard()]
        peer.now += 1000
    assert kinds.count(wire.TIME_REQUEST) == 4  # and the first one


def test_half_a_message_is_counted_at_the_node_too():
    peer = online()
    peer.say(b"\x41\x00\x00\x01\xf4" + bytes(224))
    peer.now += wire.REASSEMBLY_MS
    peer.frames()
    assert peer.node.dropped == {"fragment_timeout": 1}


def test_both_address_forms_are_understood_on_every_link():
    pair = Pair(addressed=False)
    pair.run(for_ms=500)
    keys = pair.gateway.current.keys
    address = pair.gateway.current.address
    counter = pair.gateway.current.send_counter
    assert pair.node.receive(frames.seal_data(keys, counter, b"", address, True), pair.now) == []
    assert pair.node.dropped == {}
    pair.node.receive(frames.seal_data(keys, counter + 1, b"", address ^ 1, True), pair.now)
    assert pair.node.dropped == {"unknown_session": 1}
