"""A session over the sleeps of its node. Runs on CPython and on MicroPython."""

from petiole import cbor, records, resume, wire
from petiole import frame as frames
from petiole.endpoint import NodeEndpoint
from petiole.join import Joiner
from petiole.outbox import Outbox
from tests.core.gateway_peer import online
from tests.core.pair import KEY, MANIFEST, aead
from tests.core.support import Rng


def life(kept, next_sequence=1, described=MANIFEST, now=0, mail=((), ())):
    node = NodeEndpoint(Joiner(aead, KEY), Rng(4).bytes, described, Outbox(64, next_sequence), 1, 4)
    node.mail.load(*mail)
    return node, resume.thaw(node, kept[0], kept[1], True, now)


def hear(peer, counter=None):
    """The counters of the DATA frames that the node sends now, acknowledged."""
    counters = []
    for frame in peer.frames():
        part = frames.split(frame)
        assert part.type == wire.DATA
        value, bits, offset = frames.data_counter(part)
        if bits < 32:
            value = peer.node.session.send_counter - 1
        assert frames.open_data(peer.keys, part, value, offset) is not None
        counters.append((value, bits))
        peer.node.receive(frames.seal_ack(peer.keys, value, None), peer.now)
    return counters


def sleep(peer, next_sequence=None, mail=((), ())):
    kept = resume.freeze(peer.node)
    assert len(kept[0]) <= 128
    assert len(kept[1]) <= 18
    following = peer.node.outbox.next_sequence if next_sequence is None else next_sequence
    peer.node, is_resumed = life(kept, following, now=peer.now, mail=mail)
    assert is_resumed
    peer.node.link_up(peer.now, False)
    return peer.node


def test_a_session_goes_on_after_a_sleep_without_a_join():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    before = hear(peer)[-1][0]
    node = sleep(peer)
    assert peer.frames() == []  # nothing before it is awake
    node.publish(0, 2, peer.now)
    node.wake()
    assert hear(peer) == [(before + 1, 32)]  # with a long counter
    assert node.is_settled(peer.now)
    assert node.joins_total == 0
    node.publish(0, 3, peer.now)
    assert hear(peer) == [(before + 2, 8)]


def test_a_wake_without_readings_is_one_empty_frame():
    peer = online()
    node = sleep(peer)
    node.wake()
    assert len(hear(peer)) == 1
    assert node.is_settled(peer.now)


def test_what_was_opened_before_the_sleep_is_not_opened_again():
    peer = online()
    for counter in (3, 7, 5):
        peer.say(bytes((wire.AWAKE, 5)), counter)
    node = sleep(peer)
    for counter in (3, 7, 5):
        assert peer.say(bytes((wire.AWAKE, 5)), counter) == []
    assert node.dropped == {"replayed": 3}
    assert peer.say(bytes((wire.AWAKE, 5)), 6) == [("awake", 5)]
    assert peer.say(bytes((wire.AWAKE, 5)), 9) == [("awake", 5)]


def kinds(peer):
    """Of the records in the frames that the node sends now, which nobody answers."""
    found = []
    for frame in peer.frames():
        part = frames.split(frame)
        value, bits, offset = frames.data_counter(part)
        counter = value if bits == 32 else peer.node.session.send_counter - 1
        taken = records.taken(frames.open_data(peer.keys, part, counter, offset), 0)
        found.append([record.kind if isinstance(record, records.Record) else "reading" for record in taken])
    return found


def test_a_floor_that_may_not_have_arrived_is_said_again_after_a_sleep():
    peer = online()
    peer.node.session.needs_floor = True  # as after a join of a node that had lost its numbers
    peer.node.publish(0, 1, peer.now)
    assert kinds(peer) == [[wire.FLOOR, "reading"]]
    for _ in range(2):
        peer.node.outbox.items.clear()  # as if they were in memory that this outbox does not have
        node = sleep(peer)
        node.publish(0, 2, peer.now)
        node.wake()
        assert kinds(peer) == [[wire.FLOOR, "reading"]]
    node.publish(0, 3, peer.now)
    hear(peer)
    peer.now += 2000
    hear(peer)
    node = sleep(peer)
    node.publish(0, 4, peer.now)
    node.wake()
    assert kinds(peer) == [["reading"]]


def test_how_mail_ended_is_said_again_after_a_sleep_until_it_is_acknowledged():
    peer = online()
    item = bytes((wire.MAIL,)) + cbor.encode([70, 2, [5]])
    assert peer.say(item, 3) == [("mail", 70, 2, [5], False)]
    peer.node.finish(70, 0, 5)
    assert kinds(peer) == [[wire.ACKS, wire.MAIL_RESULT]]
    for _ in range(2):
        notes = peer.node.mail.dump(400)
        node = sleep(peer, mail=notes)
        node.wake()
        assert peer.say(item, node.session.replay.highest + 1) == []  # begun once
        assert any(wire.MAIL_RESULT in found for found in kinds(peer))
    notes = peer.node.mail.dump(400)
    node = sleep(peer, mail=notes)
    node.wake()
    hear(peer)
    node = sleep(peer, mail=node.mail.dump(400))
    node.wake()
    assert not any(wire.MAIL_RESULT in found for found in kinds(peer))


def test_the_time_is_known_after_a_sleep():
    peer = online()
    before = peer.node.clock.time(peer.now)
    peer.now += 3600000
    node = sleep(peer)
    assert node.clock.time(peer.now) == before + 3600000
    kept = resume.freeze(node)
    other = NodeEndpoint(Joiner(aead, KEY), Rng(4).bytes, MANIFEST, Outbox(64, 1), 1, 4)
    assert resume.thaw(other, kept[0], kept[1], False, 0)
    assert other.clock.time(0) is None  # another clock


def test_another_program_joins():
    peer = online()
    assert not life(resume.freeze(peer.node), described=MANIFEST + b"\x00")[1]


def test_garbage_is_no_session():
    rng = Rng(8)
    peer = online()
    fixed, counters = resume.freeze(peer.node)
    assert not life((fixed[:-1], counters))[1]
    assert not life((fixed, counters[:-1]))[1]
    assert not life((fixed, bytes(18)))[1]
    assert not life((rng.bytes(len(fixed)), counters))[1]


def test_messages_are_numbered_on():
    """The gateway remembers which ones it has taken: the same number again would be acknowledged and thrown away."""
    peer = online()
    peer.node.session.messages.next_number = 201
    assert sleep(peer).session.messages.next_number == 201


def test_no_nonce_is_used_twice_in_thousands_of_lives():
    peer = online()
    rng = Rng(5)
    used = set()
    now = peer.now
    for count in range(1500):
        node = sleep(peer, 1)
        node.wake()
        for _ in range(rng.bytes(1)[0] % 3):
            node.publish(0, count, now, False)
        for frame in peer.frames():
            part = frames.split(frame)
            value, bits, _ = frames.data_counter(part)
            # Short ones of a life follow its long ones.
            counter = value if bits == 32 else node.session.send_counter - 1
            assert counter not in used
            used.add(counter)
        assert len(used) == node.session.send_counter - 2  # the join took one
    assert len(used) >= 1500


def test_a_session_that_is_used_up_is_not_kept():
    peer = online()
    peer.node.session.send_counter = resume.COUNTER_LIMIT - 1
    assert resume.freeze(peer.node) is not None
    peer.node.session.send_counter = resume.COUNTER_LIMIT
    assert resume.freeze(peer.node) is None
