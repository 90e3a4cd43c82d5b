"""Plaintexts as a peer may send them: nonsense, records, and records with something wrong."""

from hypothesis import strategies as st

from petiole import cbor, reassembly, wire
from petiole.records import varint

kinds = st.sampled_from([*range(0x40, 0x50), 0, 1, 2, 3, 4, 9, 0x3F])
small = st.one_of(st.integers(0, 40), st.integers(0, 0xFFFFFFFF))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-300, 70000), st.binary(max_size=6), st.text(max_size=6))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


def _record(kind: int, numbers: list[int], value: object) -> bytes:
    """Of this kind, with fields of the right length, whatever they say."""
    head = bytes((kind,))
    if 0 < kind < 0x40:
        return head + cbor.encode(value)
    first, second = numbers
    if kind in (wire.SLEEP, wire.BUSY, wire.PENDING, wire.AWAKE):
        return head + varint(first)
    if kind == wire.FLOOR:
        return head + first.to_bytes(4, "big") + varint(second)
    sizes = {wire.ACKS: 2, wire.TIME: 7, wire.SEQUENCE: 4, wire.COUNTER_FLOOR: 4, wire.MESSAGE_TAKEN: 1}
    size = sizes.get(kind, 0)
    return head + (first << 32 | second).to_bytes(8, "big")[8 - size :]


def _request(id: int, target: object, arguments: object) -> bytes:
    return bytes((wire.REQUEST,)) + cbor.encode([id, target, arguments])


def _reply(id: int, status: object, value: object) -> bytes:
    return bytes((wire.REPLY,)) + cbor.encode([id, status, value])


records = st.one_of(
    st.builds(_record, kinds, st.lists(small, min_size=2, max_size=2), values),
    st.builds(_request, st.integers(0, 0xFFFF), values, values),
    st.builds(_reply, st.integers(0, 20), values, values),
    # Readings: any channel, form and number.
    st.builds(
        lambda kind, fields, value: bytes((kind,)) + fields + cbor.encode(value),
        st.integers(0x80, 0xFF),
        st.binary(max_size=8),
        values,
    ),
)
fragments = st.builds(
    lambda message, index, data: reassembly.fragment(message, index % reassembly.count(len(data)), data),
    st.integers(0, 6),
    st.integers(0, 18),
    st.one_of(
        st.lists(records, min_size=1, max_size=4).map(b"".join),
        st.binary(min_size=1, max_size=700),
        st.integers(1, wire.MAX_MESSAGE).map(bytes),
    ),
)


def _changed(data: bytes, at: int, value: int) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[at % len(changed)] = value
    return bytes(changed)


whole = st.builds(
    lambda several, last: b"".join(several) + last, st.lists(records, max_size=5), fragments | st.just(b"")
)
plaintexts = st.one_of(
    st.binary(max_size=60),
    whole,
    st.builds(_changed, whole, st.integers(0), st.integers(0, 255)),
    st.builds(lambda data, end: data[: end % (len(data) + 1)], whole, st.integers(0)),
)
