"""Fragments in any order, repeated, mixed and made up: whole messages or nothing, in bounded memory."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from petiole import records, wire
from petiole.reassembly import Reassembly, count, fragment
from petiole.records import Record
from tests.protocol_text import drop_reasons

Part = tuple[int, int, int, bytes]
parts = st.tuples(
    st.integers(0, 3),
    st.one_of(st.integers(0, 3), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 224, 225, 448, 500, 4096, 4097]), st.integers(0, 65535)),
    st.one_of(st.binary(max_size=3), st.sampled_from([0, 1, 52, 223, 224, 225]).map(bytes)),
)


def cut(message: int, data: bytes) -> list[Part]:
    out = []
    for index in range(count(len(data))):
        (record,) = records.parse(fragment(message, index, data))
        assert isinstance(record, Record)
        out.append(record.value)
    return out


@given(st.lists(st.tuples(parts, st.integers(0, 20_000), st.booleans()), max_size=40))
@settings(max_examples=400)
def test_any_fragments_make_a_whole_message_or_nothing(plan: list[tuple[Part, int, bool]]) -> None:
    together = Reassembly()
    now = 0
    for part, wait, is_taken in plan:
        now += wait
        together.expire(now)
        result = together.add(part, now)
        if isinstance(result, str):
            assert result in drop_reasons()
        elif result:
            assert len(result) == part[2] <= wire.MAX_MESSAGE
            if is_taken:
                together.take(part[0])
        elif result is not None:
            assert part[0] in together.taken
        assert len(together._partials) <= wire.MAX_REASSEMBLIES
        assert sum(len(partial.data) for partial in together._partials) <= wire.MAX_REASSEMBLIES * wire.MAX_MESSAGE
        assert len(together.taken) <= wire.REMEMBERED_MESSAGES
        deadline = together.deadline()
        assert deadline is None or now < deadline <= now + wire.REASSEMBLY_MS


@given(st.binary(min_size=1, max_size=4096), st.binary(min_size=1, max_size=700), st.integers(0), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_two_messages_in_any_order_come_out_once_and_unchanged(one: bytes, other: bytes, seed: int, twice: int) -> None:
    rng = random.Random(seed)
    coming = cut(254, one) + cut(255, other)
    coming += [rng.choice(coming) for _ in range(twice)]
    rng.shuffle(coming)
    together = Reassembly()
    whole = []
    for part in coming:
        result = together.add(part, 0)
        assert not isinstance(result, str)
        if result:
            together.take(part[0])
            whole.append(result)
    assert sorted(whole) == sorted([one, other])
