"""The ends as a whole: no frame raises or fills memory, and no disturbance loses, doubles or reorders anything."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from petiole import cbor, join, oscore, reassembly, states, wire
from petiole import frame as frames
from petiole.acks import MAX_DUE_ACKS
from petiole.endpoint import NodeEndpoint
from petiole.gateway_session import GatewaySession
from petiole.outbox import Outbox
from petiole.records import Reading
from petiole.session import MAX_QUEUE, Session
from tests.core.pair import KEY, MANIFEST, TIME, Gateway, Pair, aead
from tests.protocol_text import drop_reasons

from .plaintexts import plaintexts

REASONS = drop_reasons()
READINGS = 60
HOUR_MS = 3_600_000


# Any frames ------------------------------------------------------------------------------------------------

Step = tuple[str, Any]
changes = st.tuples(st.integers(0), st.integers(0, 255))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("bytes"), st.binary(max_size=260)),
        st.tuples(st.just("changed"), changes),
        st.tuples(st.just("sealed"), st.tuples(plaintexts, st.sampled_from([0, 1, 1, 1, 2, 40, 300, 1 << 30]))),
        st.tuples(st.just("accept"), st.binary(max_size=8)),
        st.tuples(st.just("ack"), st.integers(0, 12)),
        st.tuples(st.just("reject"), st.integers(0, 15)),
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 300, 20_000, 40_000])),
        st.tuples(st.just("publish"), st.sampled_from([1, 700])),
    ),
    max_size=25,
)


def joined() -> tuple[NodeEndpoint, frames.Keys, bytes]:
    """A node with a session, the keys of its peer, and the last frame it sent."""
    node = NodeEndpoint(join.Joiner(aead, KEY), bytes, MANIFEST, Outbox(64, 1))
    node.link_up(0, False)
    request = node.next_frame(0)
    assert request is not None
    opened = join.open_request(aead, KEY, request)
    assert opened is not None
    accept, keys = join.accept(aead, KEY, opened, 5, 0, TIME.to_bytes(6, "big") + b"\x01")
    node.receive(accept, 5)
    assert node.state == states.ONLINE
    first = node.next_frame(5)
    assert first is not None
    return node, keys, first


def mirrored(keys: frames.Keys) -> frames.Keys:
    """The keys of the other end."""
    return frames.Keys(keys.recipient, keys.sender, keys.common_iv, keys.peer_id, keys.own_id, keys.tag_length)


def sealed_accept(request: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    """A JOIN_ACCEPT that opens, whatever is in it."""
    keys, accept_aead = join.session_keys(aead, KEY, request, nonce, False, wire.TAG_LENGTH)
    header = bytes((wire.JOIN_ACCEPT | wire.VERSION,))
    sealed = accept_aead.seal(oscore.nonce(keys.common_iv, wire.GATEWAY_ID, b"\x00"), header, plaintext)
    return header + nonce + sealed


def check_bounds(session: Session, was_drained: bool) -> None:
    assert len(session.queue) <= MAX_QUEUE
    assert len(session._acks.due) <= MAX_DUE_ACKS
    assert len(session.messages.open) <= wire.MAX_REASSEMBLIES
    assert len(session._reassembly._partials) <= wire.MAX_REASSEMBLIES
    assert len(session._reassembly.taken) <= wire.REMEMBERED_MESSAGES
    assert session.recovery.in_flight() <= wire.WINDOW_UPLINK
    if was_drained:
        assert session._notices == []


def drain(next_frame: Callable[[int], bytes | None], now: int) -> bytes:
    """Send all that is to be sent; the last of it."""
    last = b""
    for _ in range(200):
        frame = next_frame(now)
        if frame is None:
            return last
        assert len(frame) <= wire.MAX_FRAME
        last = frame
    raise AssertionError("there is always one more frame")


@given(steps)
@settings(max_examples=250, deadline=None)
def test_no_frame_disturbs_a_node(plan: list[Step]) -> None:
    node, keys, last = joined()
    peer_counter = 0
    now = 10
    for what, value in plan:
        frame = b""
        if what == "bytes":
            frame = value
        elif what == "changed":
            changed = bytearray(frames.seal_data(keys, peer_counter + 1, b"", None, False))
            changed[value[0] % len(changed)] = value[1]
            frame = bytes(changed)
        elif what == "sealed":
            # A hostile gateway has the keys, and says what it likes.
            peer_counter = min(peer_counter + value[1], 0xFFFFFFFF)
            frame = frames.seal_data(keys, peer_counter, value[0][:230], None, True)
        elif what == "accept":
            request = node.joiner.request
            if request:
                frame = sealed_accept(request, (TIME + now).to_bytes(6, "big") + b"\x02", value)
        elif what == "ack" and node.session is not None:
            frame = frames.seal_ack(keys, max(0, node.session.send_counter - value), None)
        elif what == "reject":
            frame = bytes((wire.REJECT | value,)) + last[-wire.ECHO_LENGTH :]
        elif what == "wait":
            now += value
        elif what == "publish" and len(node.outbox.items) < 64:
            node.publish(0, bytes(value), now)
        if what not in ("wait", "publish"):
            events = node.receive(frame, now)
            assert all(isinstance(event[0], str) for event in events)
            assert set(node.dropped) <= REASONS, node.dropped
            if ("online",) in events and node.session is not None:
                # The keys of the new session, seen from the other side.
                keys = mirrored(node.session.keys)
                peer_counter = 0
        node.expire(now)
        last = drain(node.next_frame, now) or last
        assert len(node.seen) <= wire.REMEMBERED_REQUESTS
        assert len(node.executing) <= wire.MAX_OPEN_REQUESTS
        assert len(node._echoes) <= wire.ECHO_MEMORY
        if node.session is not None:
            check_bounds(node.session, node.session.send_counter < wire.COUNTER_LIMIT)
        assert node.deadline(now) is not None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.binary(max_size=260), st.just(0)),
            st.tuples(plaintexts, st.sampled_from([1, 1, 1, 2, 40, 300, 1 << 30])),
        ),
        max_size=30,
    ),
    st.sampled_from([0, 0, 70]),
)
@settings(max_examples=250, deadline=None)
def test_no_frame_disturbs_a_session_of_a_gateway(plan: list[tuple[bytes, int]], floor: int) -> None:
    _, keys, _ = joined()
    node_keys = mirrored(keys)
    session = GatewaySession(keys, 5, wire.WINDOW_DOWNLINK, 0, floor + 1, floor)
    counter = 0
    for now, (data, step) in enumerate(plan):
        frame = data
        if step:
            counter = min(counter + step, 0xFFFFFFFF)
            frame = frames.seal_data(node_keys, counter, data[:230], None, True)
        part = frames.split(frame)
        if isinstance(part, str):
            assert part in REASONS
            continue
        if part.type == wire.ACK:
            session.receive_ack(part, now)
        elif part.type == wire.DATA:
            incoming = session.receive_data(part, now, 100)
            assert not step or session.receive_data(part, now, 100) == "replayed"
            if isinstance(incoming, str):
                assert incoming in REASONS
                assert not step or incoming != "tag"
            elif incoming.is_deferred:
                assert any(isinstance(r, Reading) and r.sequence is not None for r in incoming.records)
                session.acknowledge(incoming, now)
        assert set(session.dropped) <= REASONS
        drain(session.next_frame, now)
        check_bounds(session, session.send_counter < wire.COUNTER_LIMIT)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "requests": lambda number: bytes((wire.REQUEST,)) + cbor.encode([number, 0, []]),
    "fragments": lambda number: reassembly.fragment(number % 256, 0, bytes(500)),
    "messages": lambda number: reassembly.fragment(number % 256, 0, bytes((wire.PING,))),
    "readings": lambda number: bytes((0x81, number % 256, 0)),
    "manifest requests": lambda number: bytes((wire.MANIFEST_REQUEST,)),
    "empty frames": lambda number: b"",
}


@given(st.sampled_from(sorted(FLOODS)), st.sampled_from([1, 12, 40, 400]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_flood_fills_nothing(what: str, count: int, is_node: bool) -> None:
    """More than a peer that keeps to the windows would send, faster than this end can answer."""
    node, keys, _ = joined()
    session = node.session if is_node else GatewaySession(keys, 5, wire.WINDOW_DOWNLINK, 0)
    assert session is not None
    for counter in range(1, count + 1):
        frame = frames.seal_data(keys if is_node else mirrored(keys), counter, FLOODS[what](counter), None, True)
        if is_node:
            node.receive(frame, 10)
        else:
            part = frames.split(frame)
            assert not isinstance(part, str)
            assert not isinstance(session.receive_data(part, 10), str)
        check_bounds(session, False)
        assert len(node.executing) <= wire.MAX_OPEN_REQUESTS
    drain(node.next_frame if is_node else session.next_frame, 10)
    check_bounds(session, True)


# A bad link and restarts -----------------------------------------------------------------------------------


class Hub(Gateway):  # type: ignore[misc] # the helpers of the core's tests have no types
    """A gateway that may crash: what was not durable is gone."""

    def _take(self, record: Any, now: int) -> None:
        number = record.sequence if isinstance(record, Reading) else None
        if number is None or number - self.taken <= wire.MAX_SEQUENCES_AHEAD:
            super()._take(record, now)  # else `sequence_range`: the node sends it again

    def crash(self, now: int, keeps_session: bool) -> None:
        self.readings = [entry for entry in self.readings if entry[0] <= self.durable]
        self.taken = self.durable
        self.held, self.waiting, self.accepts, self.out, self.provisional = {}, [], {}, [], []
        old, self.current = self.current, None
        if keeps_session and old is not None:
            # Bounds are stored ahead of their use.
            self.current = GatewaySession(
                old.keys, old.address, wire.WINDOW_DOWNLINK, now, old.send_counter + 256, old.replay.highest + 99
            )


class World:
    """A pair of ends, what was published and executed, and the mishaps."""

    def __init__(self, seed: int, bad: dict[str, int], addressed: bool) -> None:
        self.pair = Pair(seed=seed, addressed=addressed, **bad)
        self.pair.gateway = Hub(self.pair.rng)
        self.executed: list[int] = []
        self.asked = 0
        self.published = 0
        self.forgotten: set[int] = set()  # readings that a node without a memory took with it

    def tick(self) -> None:
        """Do what the node is told."""
        for event in self.pair.events:
            if event[0] == "command":
                self.executed.append(event[3][0])
                self.pair.node.reply(event[1], wire.OK, event[3][0])
        self.pair.events.clear()

    def run(self, for_ms: int) -> None:
        self.pair.run(self.tick, for_ms)

    def act(self, what: str) -> None:
        pair = self.pair
        if what == "publish":
            self.publish(7)
        elif what == "publish long":
            self.publish(1, 400)
        elif what == "command" and pair.gateway.current is not None:
            pair.gateway.request(0, [self.asked], pair.now)
            self.asked += 1
        elif what == "node restarts":
            old = pair.node.outbox
            kept = Outbox(64, old.oldest_sequence if old.has_memory else None)
            for item in old.items:
                kept.add(item.channel, item.taken, item.value)
            pair.start_node(kept)
        elif what == "node forgets":
            self.forgotten |= set(range(self.published)) - set(values(self, pair.gateway.durable))
            pair.start_node(Outbox())
        elif what == "gateway restarts":
            pair.gateway.crash(pair.now, True)
        elif what == "gateway forgets":
            pair.gateway.crash(pair.now, False)
        elif what == "cut":
            pair.up.is_cut = pair.down.is_cut = not pair.up.is_cut

    def publish(self, number: int, size: int = 0) -> None:
        for _ in range(number):
            if len(self.pair.node.outbox.items) < 64:
                value = [self.published, bytes(size)] if size else self.published
                self.pair.node.publish(3, value, self.pair.now)
                self.published += 1

    def settle(self) -> None:
        """Let everything arrive."""
        pair = self.pair
        pair.up.is_cut = pair.down.is_cut = False

        def is_done() -> bool:
            self.tick()
            if self.published < READINGS:
                self.publish(READINGS - self.published)
            return self.published >= READINGS and not pair.node.outbox.items

        assert pair.run(is_done, HOUR_MS), (pair.node.state, pair.node.dropped, pair.gateway.dropped)
        self.run(30_000)


bad_links = st.fixed_dictionaries(
    {
        "loss": st.sampled_from([0, 5, 20]),
        "duplicate": st.sampled_from([0, 10]),
        "reorder": st.sampled_from([0, 30]),
        "corrupt": st.sampled_from([0, 5]),
    }
)
waits = st.sampled_from([0, 3, 8, 30, 60, 300, 2000, 12_000])


def mishaps(*more: str) -> st.SearchStrategy[list[tuple[int, str]]]:
    what = ["publish", "publish", "publish long", "command", "gateway restarts", "gateway forgets", "cut", *more]
    return st.lists(st.tuples(waits, st.sampled_from(what)), max_size=14)


def values(world: World, up_to: int = 0xFFFFFFFF) -> list[int]:
    """What the gateway has, as far as the number `up_to`."""
    readings = [(number, value) for number, value, _ in world.pair.gateway.readings]
    return [value[0] if isinstance(value, list) else value for number, value in readings if number <= up_to]


def play(seed: int, bad: dict[str, int], addressed: bool, plan: list[tuple[int, str]]) -> World:
    world = World(seed, bad, addressed)
    for wait, what in plan:
        world.run(wait)
        world.act(what)
    world.settle()
    assert len(world.executed) == len(set(world.executed))
    assert set(world.executed) <= set(range(world.asked))
    assert set(world.pair.node.dropped) <= REASONS
    assert set(world.pair.gateway.dropped) <= REASONS
    return world


@given(st.integers(1, 1 << 30), bad_links, st.booleans(), mishaps("node restarts"))
@settings(max_examples=150, deadline=None)
def test_every_reading_arrives_once_and_in_order_whatever_restarts(
    seed: int, bad: dict[str, int], addressed: bool, plan: list[tuple[int, str]]
) -> None:
    world = play(seed, bad, addressed, plan)
    assert values(world) == list(range(world.published))
    numbers = [number for number, _, _ in world.pair.gateway.readings]
    assert numbers == sorted(set(numbers))


@given(st.integers(1, 1 << 30), bad_links, mishaps("node restarts", "node forgets", "node forgets"))
@settings(max_examples=150, deadline=None)
def test_a_node_without_a_memory_loses_what_it_had_and_no_more(
    seed: int, bad: dict[str, int], plan: list[tuple[int, str]]
) -> None:
    world = play(seed, bad, False, plan)
    arrived = values(world)
    assert arrived == sorted(set(arrived))
    assert set(range(world.published)) - set(arrived) <= world.forgotten
