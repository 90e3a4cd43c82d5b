"""Whatever a device or a stranger says hurts nobody else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from petiole import frame as frames
from petiole import wire
from petiole.records import varint
from petiole.session import MAX_QUEUE
from petiole_gateway.hub.ports import Place

from .memory import MemoryLink, MemoryNode, Site, until, with_site
from .test_records import DEVICE_REASONS, REASONS, record, say
from .virtual_time import now_ms, run


def bounded(site: Site) -> None:
    """What a device may make the hub keep."""
    for device in site.hub.roster.devices.values():
        assert len(device.stashed) <= 8
        assert len(device.uplinks._held) <= 2 * wire.MAX_SEQUENCES_AHEAD + 1
        assert len(device.uplinks._waiting) <= 64
        assert set(device.dropped) <= DEVICE_REASONS
        if device.current is not None:
            assert len(device.current.session.queue) <= MAX_QUEUE
            assert len(device.current.answering) <= wire.MAX_OPEN_REQUESTS
            assert len(device.current.remembered_requests) <= wire.REMEMBERED_REQUESTS
    assert set(site.hub.traffic.dropped) <= REASONS


async def with_other_device_unaffected(site: Site, attack: Callable[[MemoryNode], None]) -> None:
    good = await site.node("good", MemoryLink("cable"))
    bad = await site.node("bad", MemoryLink("air"))
    attack(bad)
    await asyncio.sleep(1)
    bounded(site)
    good.publish(1, 2)
    await until(lambda: good.is_empty)
    assert site.uplinks.numbers("good") == [1, 2]
    assert await site.hub.command("good", "led", [True], 5)
    # Whoever saw a frame can have it rejected, and the node asks anew; no more than that.
    assert good.endpoint.joins_total <= 2


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=20)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=12,
)
requests = st.tuples(st.integers(0, 70000), values, values, st.integers(-5, 1 << 40)).map(list)
some_records = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.tuples(st.integers(1, 0x3F), values).map(lambda pair: record(*pair)),
    requests.map(lambda value: record(wire.REQUEST, value)),
    st.tuples(st.integers(0, 70000), values, values).map(lambda value: record(wire.REPLY, list(value))),
    st.tuples(values, values).map(lambda value: record(wire.LOG, list(value))),
    st.dictionaries(st.sampled_from(["fw", "ch", "cmd", "p", "x"]), values).map(lambda v: record(wire.MANIFEST, v)),
    st.integers(0, 2**32 - 1).map(lambda n: bytes((wire.COUNTER_FLOOR,)) + n.to_bytes(4, "big")),
    st.integers(0, 2**32 - 1).map(lambda n: bytes((wire.SLEEP,)) + varint(n)),
    st.integers(0, 2**32 - 1).map(lambda n: bytes((wire.FLOOR,)) + n.to_bytes(4, "big") + varint(n)),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0x80, 0xFF), st.binary(max_size=20)).map(
        lambda p: bytes((wire.SEQUENCE,)) + p[0].to_bytes(4, "big") + bytes((p[1],)) + p[2]
    ),
    st.just(bytes((wire.TIME_REQUEST,)) * 200),
    st.tuples(st.integers(0, 255), st.integers(0, 30), st.integers(0, 5000), st.binary(max_size=200)).map(
        lambda p: bytes((wire.FRAGMENT, p[0], p[1])) + p[2].to_bytes(2, "big") + p[3]
    ),
)
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@PROPERTY
@given(said=st.lists(some_records.filter(lambda data: len(data) < 230), max_size=30))
def test_whatever_an_authentic_device_says_hurts_nobody_else(said: list[bytes]) -> None:
    @with_site
    async def main(site: Site) -> None:
        def attack(bad: MemoryNode) -> None:
            for data in said:
                say(bad, data)

        await with_other_device_unaffected(site, attack)

    main()


@PROPERTY
@given(datagrams=st.lists(st.binary(max_size=300), max_size=60), seed=st.integers(0, 2**32))
def test_whatever_a_stranger_sends_hurts_nobody(datagrams: list[bytes], seed: int) -> None:
    @with_site
    async def main(site: Site) -> None:
        rng = random.Random(seed)

        def attack(bad: MemoryNode) -> None:
            recorded = [frame for link in (bad.link, site.nodes[0].link) for frame in link.received + link.sent]
            places = [Place(bad.link, None), Place(site.nodes[0].link, None), Place(bad.link, ("10.0.0.1", 7))]
            for datagram in datagrams:
                site.hub.receive(rng.choice(places), datagram)
                forged = bytearray(rng.choice(recorded))
                forged[rng.randrange(len(forged))] ^= 1 << rng.randrange(8)
                site.hub.receive(rng.choice(places), bytes(forged))
                site.hub.receive(rng.choice(places), rng.choice(recorded))

        await with_other_device_unaffected(site, attack)

    main()


def test_virtual_time_passes_by_itself() -> None:
    async def main() -> None:
        before = now_ms()
        await asyncio.sleep(3600)
        assert now_ms() - before == 3_600_000

    run(main())


@with_site
async def test_a_message_that_is_never_complete_is_counted_for_its_device(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    session = node.endpoint.session
    assert session is not None
    fragment = bytes((wire.FRAGMENT, 200, 0)) + (500).to_bytes(2, "big") + bytes(wire.FRAGMENT_SIZE)
    frame = frames.seal_data(session.keys, session.send_counter, fragment, session.address, False)
    session.send_counter += 1
    site.hub.receive(Place(node.link, node.peer), frame)
    await asyncio.sleep(wire.REASSEMBLY_MS / 1000 - 1)
    assert "fragment_timeout" not in site.hub.device("a").dropped
    await asyncio.sleep(2)
    assert site.hub.device("a").dropped["fragment_timeout"] == 1
