"""Both ends of the protocol over a bad link, in virtual time."""

from petiole import frame as frames
from petiole import states, wire
from petiole.endpoint import NodeEndpoint
from petiole.gateway_session import GatewaySession
from petiole.outbox import Outbox
from tests.core.pair import answer_commands, online, publish_all

from .pair import TIME, Pair
from .support import raises

BAD = {"loss": 10, "duplicate": 10, "reorder": 20, "corrupt": 5}


def test_a_join_and_a_confirmed_reading_fit_their_budgets():
    pair = Pair(next_sequence=5)
    pair.gateway.taken = pair.gateway.durable = 4
    pair.run(lambda: pair.node.state == states.ONLINE)
    assert len(pair.up.sent[0]) + 2 + len(pair.down.sent[0]) + 2 == 40
    pair.run(for_ms=500)
    up, down = len(pair.up.sent), len(pair.down.sent)
    pair.node.publish(0, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", pair.now)  # 10 bytes of CBOR
    pair.run(for_ms=500)
    assert [len(frame) + 2 for frame in pair.up.sent[up:]] == [24]
    assert [len(frame) + 2 for frame in pair.down.sent[down:]] == [11]


def test_a_clean_link_delivers_in_order_with_the_times():
    pair = online()
    for i in range(30):
        pair.node.publish(0, i, pair.now)
        pair.run(for_ms=7)
    pair.run(lambda: not pair.node.outbox.items)
    assert [value for _, value, _ in pair.gateway.readings] == list(range(30))
    assert [sequence for sequence, _, _ in pair.gateway.readings] == list(range(1, 31))


def test_a_lossy_link_delivers_every_confirmed_reading_once():
    for seed in range(1, 6):
        pair = online(seed=seed, **BAD)
        publish_all(pair, 300)
        assert [value for _, value, _ in pair.gateway.readings] == list(range(300)), seed
        assert pair.count("durable") == 300


def test_an_addressed_lossy_link_does_the_same():
    pair = online(seed=9, addressed=True, **BAD)
    publish_all(pair, 200)
    assert [value for _, value, _ in pair.gateway.readings] == list(range(200))


def test_no_ack_comes_before_a_reading_is_durable():
    pair = online(commit_ms=400)
    pair.node.publish(0, 1, pair.now)
    start = pair.now
    pair.run(lambda: pair.count("durable") == 1)
    assert pair.now - start >= 400


def test_a_reading_keeps_its_time_through_an_outage():
    pair = online()
    pair.up.is_cut = pair.down.is_cut = True
    times = []
    for i in range(5):
        times.append(TIME + pair.now)
        pair.node.publish(0, i, pair.now)
        pair.run(for_ms=7000)
    pair.up.is_cut = pair.down.is_cut = False
    assert pair.run(lambda: not pair.node.outbox.items)
    for (_, _, at), taken in zip(pair.gateway.readings, times):
        assert abs(at - taken) <= 10, (at, taken)


def test_readings_before_the_first_join_arrive_with_numbers_and_times():
    pair = Pair()
    pair.up.is_cut = True
    for i in range(3):
        pair.node.publish(0, i, pair.now)
        pair.run(for_ms=5000)
    pair.gateway.taken = 70000  # of an earlier life of the node
    pair.up.is_cut = False
    assert pair.run(lambda: not pair.node.outbox.items)
    assert [entry[:2] for entry in pair.gateway.readings] == [(70001, 0), (70002, 1), (70003, 2)]
    assert abs(pair.gateway.readings[0][2] - TIME - 1000) <= 10


def test_a_join_trims_what_is_durable_already():
    pair = online(next_sequence=500)
    pair.gateway.taken = pair.gateway.durable = 499
    for i in range(5):
        pair.node.publish(0, i, pair.now)
    pair.down.is_cut = True  # the acks are lost
    pair.run(lambda: len(pair.gateway.readings) == 5)
    pair.gateway.current = None  # the gateway forgets the session, not the readings
    sent = len(pair.gateway.readings)
    pair.down.is_cut = False
    assert pair.run(lambda: not pair.node.outbox.items)
    assert len(pair.gateway.readings) == sent
    assert pair.count("durable") == 5


def test_a_number_above_the_own_is_continued():
    pair = Pair(next_sequence=10)
    pair.gateway.taken = pair.gateway.durable = 300
    pair.run(lambda: pair.node.state == states.ONLINE)
    pair.node.publish(0, 1, pair.now)
    pair.run(lambda: not pair.node.outbox.items)
    assert pair.gateway.readings[0][0] == 301


def test_a_gap_of_dropped_readings_is_closed_by_the_node():
    pair = online(next_sequence=1)
    publish_all(pair, 3)
    pair.up.is_cut = True
    pair.node.outbox.next_sequence = 1001  # 997 readings were thrown away unsent
    pair.node.outbox.items = []
    pair.node.publish(0, "late", pair.now)
    pair.run(for_ms=3000)
    pair.up.is_cut = False
    assert pair.run(lambda: not pair.node.outbox.items)
    assert pair.gateway.readings[-1][:2] == (1001, "late")


def test_the_gateway_that_forgot_the_session_is_joined_anew():
    pair = online()
    publish_all(pair, 5)
    pair.gateway.current = None
    pair.gateway.provisional = []
    publish_all(pair, 5, 5)
    assert [value for _, value, _ in pair.gateway.readings] == list(range(10))
    assert pair.node.joins_total == 2


def test_a_silent_gateway_is_found_again():
    pair = online()
    pair.up.is_cut = pair.down.is_cut = True
    pair.node.publish(0, 1, pair.now)
    assert pair.run(lambda: pair.node.state == states.REJOINING)
    pair.up.is_cut = pair.down.is_cut = False
    assert pair.run(lambda: not pair.node.outbox.items and pair.node.state == states.ONLINE)


def test_a_restarted_gateway_takes_no_frame_twice_and_the_session_goes_on():
    pair = online()
    publish_all(pair, 20)
    old = pair.gateway.current
    replay = pair.up.sent[-3]
    # Resumed from storage: bounds are ahead of what was used.
    pair.gateway.current = GatewaySession(
        old.keys, old.address, wire.WINDOW_DOWNLINK, pair.now, old.send_counter + 256, old.replay.highest + 200
    )
    count = len(pair.gateway.readings)
    pair.up.send(replay, pair.now)
    publish_all(pair, 20, 20)
    assert [value for _, value, _ in pair.gateway.readings][count:] == list(range(20, 40))
    assert pair.node.joins_total == 1
    assert pair.gateway.dropped.get("replayed", 0) >= 1


def test_live_readings_cost_no_ack():
    pair = online()
    pair.run(for_ms=500)
    down = len(pair.down.sent)
    for i in range(10):
        pair.node.publish(1, i, pair.now, False)
        pair.run(for_ms=20)
    assert pair.gateway.live == [(1, i) for i in range(10)]
    assert len(pair.down.sent) == down


def test_an_idle_node_asks_whether_the_gateway_is_there():
    pair = online()
    pair.run(for_ms=1000)
    up = len(pair.up.sent)
    pair.run(for_ms=95_000)
    assert 2 <= len(pair.up.sent) - up <= 4


def test_a_replayed_join_request_harms_nothing():
    pair = online()
    request = pair.up.sent[0]
    publish_all(pair, 5)
    for _ in range(5):
        pair.gateway.accepts = {}  # as after a restart: a fresh accept each time
        pair.up.send(request, pair.now)
        pair.run(for_ms=100)
    publish_all(pair, 5, 5)
    assert [value for _, value, _ in pair.gateway.readings] == list(range(10))
    assert pair.node.joins_total == 1


def test_a_replayed_frame_is_dropped():
    pair = online()
    publish_all(pair, 3)
    before = pair.gateway.dropped.get("replayed", 0)
    for frame in list(pair.up.sent[1:]):
        pair.up.send(frame, pair.now)
    pair.run(for_ms=100)
    assert pair.gateway.dropped["replayed"] > before
    assert len(pair.gateway.readings) == 3


def test_any_bytes_are_dropped_with_a_reason():
    pair = online()
    for _ in range(500):
        length = pair.rng.below(260)
        pair.gateway.receive(pair.rng.bytes(length), pair.now)
        assert pair.node.receive(pair.rng.bytes(length), pair.now) == []
    # A random byte may look like a REJECT or a JOIN_ACCEPT; none may get through.
    publish_all(pair, 3)
    assert sum(pair.node.dropped.values()) >= 500


def test_a_forged_reject_is_ignored():
    pair = online()
    part = frames.split(bytes((wire.DATA, 1)) + bytes(12))
    pair.node.receive(frames.reject(part, wire.REJECT_SESSION), pair.now)
    assert pair.node.state == states.ONLINE
    assert pair.node.dropped["echo"] == 1


def test_a_busy_gateway_is_not_sent_readings_meanwhile():
    pair = online()
    pair.run(for_ms=500)
    pair.gateway.current.notify(bytes((wire.BUSY, 20)))
    pair.run(for_ms=100)
    pair.node.publish(0, 1, pair.now)
    start = pair.now
    assert pair.run(lambda: not pair.node.outbox.items)
    assert pair.now - start >= 19_000


def test_readings_that_nobody_makes_durable_hold_up_no_reply():
    pair = online()
    pair.gateway.commit_ms = 3_600_000
    for _ in range(60):
        pair.node.publish(0, "x" * 200, pair.now)
    pair.run(for_ms=20_000)
    pair.gateway.request(0, [7], pair.now)
    results = []
    start = pair.now
    answer_commands(pair, results, 1)
    assert results == [7]
    assert pair.now - start < 15_000


def test_the_full_outbox_refuses_and_loses_nothing():
    pair = Pair(outbox_limit=4)
    for i in range(4):
        pair.node.publish(0, i, pair.now)
    from petiole.errors import QueueFull

    raises(QueueFull, pair.node.publish, 0, 4, pair.now)
    assert pair.run(lambda: not pair.node.outbox.items)
    assert [value for _, value, _ in pair.gateway.readings] == [0, 1, 2, 3]


def test_a_restarted_node_continues_its_numbers():
    pair = online()
    publish_all(pair, 5)
    pair.start_node(Outbox())
    publish_all(pair, 5, 5)
    # The numbers that the first life may still have had on the way stay unused.
    assert [sequence for sequence, _, _ in pair.gateway.readings] == [1, 2, 3, 4, 5, 133, 134, 135, 136, 137]
    assert [value for _, value, _ in pair.gateway.readings] == list(range(10))


def test_a_node_that_restarts_again_and_again_loses_only_what_it_had():
    """Each time it is told a number that is further above what the gateway has taken."""
    pair = online()
    for life in range(4):
        pair.start_node(Outbox())
        assert pair.run(lambda: pair.node.state == states.ONLINE)
        publish_all(pair, 3, 3 * life)
    assert [value for _, value, _ in pair.gateway.readings] == list(range(12))


def test_two_lives_of_a_node_never_share_numbers():
    """What the first had on the way comes between the second's accept and its first frame."""
    pair = Pair()
    pair.up.delay = 20
    for value in range(7):
        pair.node.publish(0, value, pair.now)
    assert pair.run(lambda: pair.node.state == states.ONLINE)
    pair.pump()
    pair.up.frames = [(pair.now + 35, number, frame) for _, number, frame in pair.up.frames]
    pair.start_node(Outbox())
    for value in range(7, 14):
        pair.node.publish(0, value, pair.now)
    assert pair.run(lambda: not pair.node.outbox.items)
    assert [value for _, value, _ in pair.gateway.readings] == list(range(14))


def test_no_frame_is_ever_the_nonce_of_another():
    pair = online(**BAD)
    publish_all(pair, 150)
    seen = {}
    for direction, link in (("up", pair.up), ("down", pair.down)):
        for frame in link.sent:
            if frame[0] & wire.TYPE_MASK == wire.ACK:
                continue
            assert (direction, bytes(frame[-8:])) not in seen or seen[(direction, bytes(frame[-8:]))] == frame
            seen[(direction, bytes(frame[-8:]))] = frame
    assert NodeEndpoint is not None
