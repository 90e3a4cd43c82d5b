"""A session against frames that are not its peer's, and two sessions over a link that does what it likes."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from petiole import cbor, wire
from petiole import frame as frames
from petiole.gateway_session import GatewaySession
from petiole.items import Encoded, Measured
from petiole.records import Reading
from petiole.session import Session
from tests.core.two_ends import keys
from tests.protocol_text import drop_reasons

NODE, GATEWAY = keys(True), keys(False)


def snapshot(session: Session) -> tuple[Any, ...]:
    """All that a frame could change."""
    sent = [(entry.counter, entry.lost, entry.reported) for entry in session.recovery._sent]
    reassembly = [(part.message, part.have) for part in session._reassembly._partials]
    return (
        session.replay.highest,
        session.replay.bitmap,
        session.send_counter,
        session.acked_counter,
        session.opened_at,
        session.paused_until,
        session.silent_timeouts,
        len(session.queue),
        session.acked_sequence,
        list(session._acks.due),
        list(session._notices),
        sent,
        reassembly,
        session.recovery.srtt,
    )


def busy_session() -> Session:
    """One with something in each of its queues."""
    session = Session(NODE, 5, wire.WINDOW_UPLINK, 0)
    session.oldest_sequence = 1
    for sequence in range(1, 12):
        session.send(Measured(0, sequence, 0, b"\x58\xc8" + bytes(200)))
    while session.next_frame(0) is not None:
        pass
    for counter, text in ((1, b"\x40\x02\x00"), (2, b"\x41\x00\x00\x01\xf4" + bytes(224)), (4, b"\x4a")):
        session.receive_data(split(frames.seal_data(GATEWAY, counter, text, None, True)), 5)
    return session


def split(frame: bytes) -> frames.Split:
    part = frames.split(frame)
    assert isinstance(part, frames.Split)
    return part


def genuine(counter: int, text: bytes, is_long: bool, is_ack: bool) -> bytes:
    if is_ack:
        return frames.seal_ack(GATEWAY, counter, None)
    return frames.seal_data(GATEWAY, counter, text, None, is_long)


changed = st.builds(
    lambda frame, at, bit: bytes(byte ^ (bit if n == at % len(frame) else 0) for n, byte in enumerate(frame)),
    st.builds(genuine, st.integers(1, 400), st.binary(max_size=60), st.booleans(), st.booleans()),
    st.integers(0),
    st.sampled_from([1 << n for n in range(8)]),
)
mirrored = st.builds(
    lambda counter, text: frames.seal_data(NODE, counter, text, None, True), st.integers(0, 400), st.binary(max_size=60)
)


@given(st.lists(st.one_of(st.binary(max_size=260), changed, mirrored), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_what_is_not_authentic_changes_nothing(strange: list[bytes]) -> None:
    session = busy_session()
    before = snapshot(session)
    for frame in strange:
        part = frames.split(frame)
        if isinstance(part, str):
            assert part in drop_reasons()
        elif part.type == wire.ACK:
            # A changed header may name another of the counters in flight; its tag does not.
            assert not session.receive_ack(part, 50)
        elif part.type == wire.DATA:
            if part.address is not None:
                continue  # the address is not part of what is authenticated: the owner compares it
            result = session.receive_data(part, 50)
            assert result in ("tag", "short"), result
        assert snapshot(session) == before


@given(st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_frame_is_taken_once_in_whatever_order_copies_come(order: list[tuple[int, bool]]) -> None:
    session = GatewaySession(GATEWAY, 5, wire.WINDOW_DOWNLINK, 0)
    taken: list[int] = []
    for step, is_long in order:
        counter = step + 1
        result = session.receive_data(split(frames.seal_data(NODE, counter, b"\x81\x01\x00", None, is_long)), 0)
        if isinstance(result, str):
            assert result == "replayed"
            assert counter in taken or counter <= max(taken, default=0) - wire.REPLAY_WINDOW
        else:
            assert result.counter == counter
            taken.append(counter)
    assert len(taken) == len(set(taken))


@given(st.data(), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_records_arrive_once_whatever_the_link_does(data: st.DataObject, count: int) -> None:
    """The link loses, repeats and turns around as hypothesis chooses; then it gets better."""
    node = Session(NODE, 5, wire.WINDOW_UPLINK, 0)
    gateway = GatewaySession(GATEWAY, 5, wire.WINDOW_DOWNLINK, 0)
    node.oldest_sequence = 1
    readings = [Measured(0, sequence, 0, cbor.encode(sequence)) for sequence in range(1, count + 1)]
    for item in readings:
        node.send(item)
    node.send(Encoded(b"\x04\x82\x0a\x79\x02\x58" + b"x" * 600))
    taken = 0
    held: set[int] = set()
    logs = 0
    on_the_way: list[tuple[bool, bytes]] = []
    now = 0
    mishaps = data.draw(st.lists(st.sampled_from(["lose", "repeat", "late", "pass"]), max_size=60))
    for _ in range(3000):
        for is_up, session in ((True, node), (False, gateway)):
            while (frame := session.next_frame(now)) is not None:
                what = mishaps.pop() if mishaps else "pass"
                copies = {"lose": 0, "repeat": 2}.get(what, 1)
                place = 0 if what == "late" else len(on_the_way)
                on_the_way[place:place] = [(is_up, frame)] * copies
        if not on_the_way:
            times = [t for t in (node.deadline(now), gateway.deadline(now)) if t is not None]
            if not times:
                break
            now = max(now + 1, min(times))
            continue
        now += 1
        is_up, frame = on_the_way.pop(0)
        part = split(frame)
        session = gateway if is_up else node
        if part.type == wire.ACK:
            session.receive_ack(part, now)
            continue
        incoming = session.receive_data(part, now, taken)
        if isinstance(incoming, str):
            assert incoming == "replayed"
            continue
        for record in incoming.records:
            if isinstance(record, Reading):
                assert record.sequence == record.value
                held.add(record.sequence or 0)
            elif record.kind == wire.LOG:
                logs += 1
        while taken + 1 in held:
            taken += 1
        if incoming.is_deferred:
            session.acknowledge(incoming, now)
    assert taken == count
    assert all(item.is_done for item in readings)
    assert node.acked_sequence == count
    assert logs == 1
    assert node.unfinished() == []
