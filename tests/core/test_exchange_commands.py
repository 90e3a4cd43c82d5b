"""Commands, requests and long values between both ends, over a bad link."""

from petiole import wire
from petiole.gateway_session import GatewaySession
from tests.core.pair import answer_commands, online

from .support import raises

BAD = {"loss": 10, "duplicate": 10, "reorder": 20, "corrupt": 5}


def test_a_command_is_executed_once_and_answered():
    for seed in range(1, 4):
        pair = online(seed=seed, loss=10, duplicate=20)
        results = []
        for n in range(10):
            pair.gateway.request(0, [n], pair.now)
            answer_commands(pair, results, n + 1)
        assert results == list(range(10))
        assert [r.value[2] for r in pair.gateway.records if r.kind == wire.REPLY] == [2 * n for n in range(10)]


def test_a_request_of_the_node_is_answered():
    pair = online(loss=20)
    item = pair.node.request("time.now", {"zone": "UTC"}, 5000, pair.now)
    assert pair.run(lambda: pair.count("reply") == 1)
    assert ("reply", item, 0, {"zone": "UTC"}) in pair.events


def test_a_request_without_an_answer_fails_in_time():
    pair = online()
    pair.gateway.auto_reply = False
    pair.node.request("nobody", None, 700, pair.now)
    start = pair.now
    assert pair.run(lambda: pair.count("failed") == 1)
    assert 700 <= pair.now - start < 800
    assert pair.events[-1][2] == "timed_out"


def test_a_ninth_open_request_is_refused():
    pair = online()
    pair.gateway.auto_reply = False
    for _ in range(8):
        pair.node.request("nobody", None, 700, pair.now)
    from petiole.errors import QueueFull

    raises(QueueFull, pair.node.request, "nobody", None, 700, pair.now)


def deliver_long_values(seed):
    pair = online(seed=seed, loss=20, duplicate=10, reorder=20)
    values = [bytes([i]) * (300 + 100 * i) for i in range(7)]
    for value in values:
        pair.node.publish(3, value, pair.now)
    assert pair.run(lambda: not pair.node.outbox.items)
    assert [value for _, value, _ in pair.gateway.readings] == values
    pair.gateway.request(0, [], pair.now)
    assert pair.run(lambda: pair.count("command") == 1)
    command = next(event for event in pair.events if event[0] == "command")
    pair.node.reply(command[1], wire.OK, "x" * 3000)
    assert pair.run(lambda: [r for r in pair.gateway.records if r.kind == wire.REPLY])
    assert pair.gateway.records[-1].value[2] == "x" * 3000


def test_values_and_results_longer_than_a_frame_arrive():
    for seed in range(1, 5):
        deliver_long_values(seed)


def test_a_long_reading_is_not_acknowledged_before_it_is_durable():
    pair = online(commit_ms=5000)
    pair.node.publish(3, bytes(900), pair.now)
    start = pair.now
    assert pair.run(lambda: pair.count("durable") == 1)
    assert pair.now - start >= 5000


def test_a_gateway_that_forgot_half_a_message_gets_all_of_it():
    pair = online()
    pair.gateway.commit_ms = 10
    pair.node.publish(3, bytes(1000), pair.now)
    pair.pump()
    pair.run(for_ms=3)
    # All parts but the last arrive, then the gateway restarts from storage.
    frames_up = pair.up.frames
    pair.up.frames = []
    for _, _, frame in sorted(frames_up)[:-1]:
        pair.gateway.receive(frame, pair.now)
    pair.gateway.next_frames(pair.now)
    for frame in pair.gateway.next_frames(pair.now):
        pair.down.send(frame, pair.now)
    old = pair.gateway.current
    pair.gateway.current = GatewaySession(
        old.keys, old.address, wire.WINDOW_DOWNLINK, pair.now, old.send_counter + 256, old.replay.highest + 200
    )
    assert pair.run(lambda: not pair.node.outbox.items)
    assert [value for _, value, _ in pair.gateway.readings] == [bytes(1000)]
