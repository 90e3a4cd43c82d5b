"""How a node joins, and when."""

from petiole import frame as frames
from petiole import join, states, wire
from tests.core.gateway_peer import Peer, online
from tests.core.pair import KEY, TIME, aead


def test_without_a_link_nothing_is_sent():
    peer = Peer(is_linked=False)
    peer.node.publish(0, 1, 0)
    assert peer.node.next_frame(0) is None
    assert peer.node.deadline(0) is None
    assert peer.node.state == states.OFFLINE


def test_the_same_request_is_sent_three_times_and_then_a_new_one():
    peer = Peer()
    for _ in range(7):
        peer.request()
    assert peer.requests[0] == peer.requests[1] == peer.requests[2] != peer.requests[3]
    assert peer.requests[3] == peer.requests[5] != peer.requests[6]


def test_join_requests_double_their_distance_up_to_15_seconds():
    peer = Peer()
    times = []
    for _ in range(8):
        peer.request()
        times.append(peer.now)
    for before, after, base in zip(times, times[1:], (1000, 2000, 4000, 8000, 15000, 15000, 15000)):
        assert base <= after - before <= base * 5 // 4 + 1


def test_the_first_frame_follows_the_accept_at_once():
    peer = Peer()
    peer.join()
    assert [frames.split(frame).type for frame in peer.frames()] == [wire.DATA]
    assert peer.node.state == states.ONLINE
    assert peer.node.clock.time(peer.now) == TIME + peer.now - 5


def test_an_accept_that_nobody_waits_for_changes_nothing():
    peer = Peer()
    request = join.open_request(aead, KEY, peer.request())
    nonce = TIME.to_bytes(6, "big") + b"r"
    accept, _ = join.accept(aead, KEY, request, 5, 0, nonce)
    assert peer.node.receive(accept, peer.now)
    session = peer.node.session
    assert peer.node.receive(accept, peer.now) == []
    assert peer.node.session is session
    assert peer.node.dropped == {"unexpected": 1}


def test_a_refused_node_waits_and_doubles_the_wait():
    for reason in (wire.REJECT_JOIN, wire.REJECT_VERSION, wire.REJECT_LATER, 9):
        peer = Peer()
        waits = []
        for _ in range(7):
            frame = peer.request()
            assert peer.reject(reason, frame) == [("refused", reason)]
            waits.append(peer.node.deadline(peer.now) - peer.now)
            peer.now = peer.node.deadline(peer.now)
        assert waits == [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]


def test_a_reject_of_the_session_makes_the_node_join_once_in_five_seconds():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    (frame,) = peer.frames()
    session = peer.node.session
    peer.reject(wire.REJECT_SESSION, frame)
    assert peer.node.state == states.REJOINING
    assert peer.node.session is session
    peer.say(b"")
    assert peer.node.state == states.ONLINE
    peer.now += wire.REJOIN_AFTER_REJECT_MS - 1
    frame = peer.frames()[-1]
    peer.reject(wire.REJECT_SESSION, frame)
    assert peer.node.state == states.ONLINE
    peer.now += 1
    peer.reject(wire.REJECT_SESSION, frame)
    assert peer.node.state == states.REJOINING


def test_a_rejected_node_waits_for_another_gateway_to_answer():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    (frame,) = peer.frames()
    peer.reject(wire.REJECT_SESSION, frame)
    rejected_at = peer.now
    kinds = []
    while wire.JOIN_REQUEST not in kinds:
        kinds += [sent[0] & wire.TYPE_MASK for sent in peer.frames()]
        if wire.JOIN_REQUEST not in kinds:
            peer.now = peer.node.deadline(peer.now)
    assert peer.now == rejected_at + wire.REJECTED_WAIT_MS


def test_a_reject_of_what_was_answered_is_ignored():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    (frame,) = peer.frames()
    peer.say(b"")
    peer.reject(wire.REJECT_SESSION, frame)
    assert peer.node.state == states.ONLINE
    assert peer.node.dropped == {"echo": 1}


def test_a_reject_of_a_frame_that_is_long_gone_is_ignored():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    (frame,) = peer.frames()
    for _ in range(wire.ECHO_MEMORY):
        peer.node.sleep(5)
        assert len(peer.frames()) == 1
    peer.reject(wire.REJECT_SESSION, frame)
    assert peer.node.state == states.ONLINE
    assert peer.node.dropped == {"echo": 1}


def test_four_timeouts_without_an_answer_make_the_node_join():
    peer = online()
    peer.node.publish(0, 1, peer.now)
    for timeouts in range(4):
        assert peer.node.state == states.ONLINE, timeouts
        peer.frames()
        peer.now = peer.node.session.recovery.deadline()
        peer.frames()
    assert [frame[0] & wire.TYPE_MASK for frame in peer.frames()][:1] != [wire.DATA]
    assert peer.node.state == states.REJOINING


def test_a_frame_of_the_old_session_ends_the_search_for_a_new_one():
    peer = online()
    peer.node.state = states.REJOINING
    peer.say(b"")
    assert peer.node.state == states.ONLINE
    assert peer.frames()[0][0] & wire.TYPE_MASK == wire.ACK


def test_a_used_up_session_is_replaced_whatever_it_still_says():
    peer = online()
    peer.say(b"\x48\xff\xff\xff\xff")
    peer.frames()
    assert peer.node.state == states.REJOINING
    request = peer.request()
    peer.say(b"")
    assert peer.node.state == states.REJOINING
    assert ("online",) in peer.join(request=request)
    assert peer.node.state == states.ONLINE


def test_an_idle_node_asks_after_thirty_seconds_of_silence():
    peer = online()
    opened = peer.node.session.opened_at
    peer.now = opened + wire.KEEPALIVE_MS - 1
    assert peer.frames() == []
    assert peer.node.deadline(peer.now) == opened + wire.KEEPALIVE_MS
    peer.now += 1
    assert len(peer.frames()) == 1
    assert peer.frames() == []
