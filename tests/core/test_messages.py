"""Messages longer than a frame, between two sessions."""

from petiole import cbor, records, wire
from petiole.items import Encoded
from tests.core.two_ends import End, deliver, ends, inject, kinds, reading


def long_reading(sequence, length=600):
    return reading(sequence, value=cbor.encode(bytes(length)))


def test_a_message_is_done_when_the_peer_says_that_it_is_taken():
    node, gateway = ends()
    node.session.oldest_sequence = 1
    node.session.send(long_reading(1))
    taken = deliver(node, gateway, 0)
    assert [incoming.is_deferred for incoming in taken] == [False, False, True]
    deliver(gateway, node, 5)
    assert node.session.acked_sequence == 0
    gateway.session.acknowledge(taken[-1], 50)
    deliver(gateway, node, 50)
    assert node.session.acked_sequence == 1
    assert node.session.deadline(50) is None


def test_a_message_whose_readings_the_store_did_not_take_comes_again():
    """The store was busy and the reading forgotten: the acks of its fragments must not be the last word."""
    node, gateway = ends()
    node.session.oldest_sequence = 1
    node.session.send(long_reading(1))
    now = 0
    taken = []
    while len(taken) < 2:
        for incoming in deliver(node, gateway, now):
            taken += [incoming] if incoming.is_deferred else []
        deliver(gateway, node, now)
        following = node.session.deadline(now)
        assert following is not None
        now = max(now + 1, following)
        assert now < 60_000
    assert [r.sequence for r in taken[1].records if isinstance(r, records.Reading)] == [1]
    gateway.session.acknowledge(taken[1], now)
    deliver(gateway, node, now)
    assert node.session.acked_sequence == 1


def test_who_is_not_told_asks_with_the_last_fragment_and_then_with_all():
    node, gateway = ends()
    node.session.oldest_sequence = 1
    node.session.send(long_reading(1))
    deliver(node, gateway, 0)
    deliver(gateway, node, 0)
    now = 0
    asked = []
    while len(asked) < 7:
        now = max(now + 1, node.session.deadline(now))
        sent = deliver(node, gateway, now)
        deliver(gateway, node, now)
        asked.append((now, len(sent)))
    assert [count for _, count in asked] == [1, 1, 3, 1, 1, 3, 1]
    waits = [after - before for (before, _), (after, _) in zip([(0, 0)] + asked, asked)]
    assert waits == [250, 500, 1000, 2000, 4000, 4000, 4000]


def test_a_message_that_was_taken_is_said_again_to_who_asks():
    node, gateway = ends()
    node.session.send(Encoded(b"\x04" + cbor.encode([10, "x" * 500])))
    deliver(node, gateway, 0)
    gateway.frames(0)  # its MESSAGE_TAKEN is lost, and the acks
    again = [incoming for incoming in deliver(node, gateway, 1000) if not isinstance(incoming, str)]
    assert all(incoming.records == [] for incoming in again)
    assert any(wire.MESSAGE_TAKEN in kinds(text) for text in gateway.texts(1000) if text)


def test_two_messages_are_open_and_a_third_costs_nothing():
    node, _ = ends()
    for _ in range(3):
        node.session.send(Encoded(b"\x04" + cbor.encode([10, "x" * 300])))
    texts = node.texts(0)
    assert [kinds(text) for text in texts] == [[wire.FRAGMENT]] * 4
    assert sorted({records.parse(text)[0].value[0] for text in texts}) == [0, 1]


def test_incomplete_messages_are_dropped_and_counted():
    _, gateway = ends()
    inject(gateway, 1, b"\x41\x00\x00\x01\xf4" + bytes(224), now=0)
    gateway.frames(0)
    assert gateway.session.deadline(0) == wire.REASSEMBLY_MS
    gateway.frames(wire.REASSEMBLY_MS)
    assert gateway.session.dropped == {"fragment_timeout": 1}


def test_a_fragment_that_cannot_be_is_not_acknowledged():
    _, gateway = ends()
    assert inject(gateway, 1, b"\x41\x00\x00\x10\x01" + bytes(224)) == "malformed_fragment"
    assert inject(gateway, 2, b"\x41\x00\x00\x01\xf4" + bytes(223)) == "malformed_fragment"
    assert gateway.frames(1000) == []


def test_a_message_that_does_not_parse_is_not_taken():
    _, gateway = ends()
    assert inject(gateway, 1, b"\x41\x07\x00\x00\x02\x49\x00") == "malformed_record"
    assert gateway.frames(1000) == []
    assert not isinstance(inject(gateway, 2, b"\x41\x07\x00\x00\x02\x49\x49"), str)
    assert [kinds(text) for text in gateway.texts(0)] == [[wire.MESSAGE_TAKEN, wire.ACKS]]


def test_a_message_that_comes_very_late_is_still_the_same_reading():
    node, gateway = End(True), End(False, True)
    node.session.acked_sequence = 1494
    node.session.oldest_sequence = 1495
    node.session.send(reading(1495, 0, cbor.encode("x" * 300)))
    found = []
    for frame in node.frames(0):
        found += gateway.receive(frame, 0, 1495 + 129).records
    assert [record.sequence for record in found if hasattr(record, "sequence")] == [1495]
