"""A session over a sleep of its node (PROTOCOL.md, sections 4 and 17): what is kept of it, and how it goes on.

    fixed     JOIN_REQUEST (17) ∥ nonce of its accept (7) ∥ u16 address ∥ first 3 bytes of the SHA-256 of the manifest
    counters  18 bytes, of which bit fields from the highest on: next counter (27), highest opened counter (27), replay
              bitmap (30), number of the next message (8), unused numbers of the outbox (8), everything was acknowledged
              and no FLOOR is due (1), clock doubtful (1), offset of the clock in ms (42, 0: none)

The keys come from `fixed` and the device key, so they are stored nowhere. What was opened before the sleep stays
opened: the window goes on as it was.
"""

from petiole import manifest as manifests
from petiole import states, wire
from petiole.session import Session

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.endpoint import NodeEndpoint

_REQUEST = 5 + wire.JOIN_RANDOM_LENGTH + 4 + wire.JOIN_TAG_LENGTH
_ORIGIN = _REQUEST + wire.ACCEPT_NONCE_LENGTH
FIXED = _ORIGIN + 2 + wire.MANIFEST_HASH_LENGTH
COUNTERS = 18
_OFFSET_BITS = 42
_UNUSED_BITS = 8  # an outbox reserves 128 at once
_COUNTER_BITS = 27
COUNTER_LIMIT = 1 << _COUNTER_BITS  # a wake a second for four years; then each wake is a join
_FIELDS = (_COUNTER_BITS, _COUNTER_BITS, 30, 8, _UNUSED_BITS, 1, 1, _OFFSET_BITS)


def freeze(endpoint: "NodeEndpoint") -> "tuple[bytes, bytes] | None":
    """(fixed, counters) of the session, as it is now; None if there is none, or it is used up."""
    session = endpoint.session
    if session is None or max(session.send_counter, session.replay.highest) >= COUNTER_LIMIT:
        return None
    unused = endpoint.outbox.unused
    if unused < 0:
        return None  # the next join says where numbers go on
    offset = endpoint.clock.offset or 0
    if not 0 < offset < 1 << _OFFSET_BITS:
        offset = 0
    values = (
        session.send_counter,
        max(0, session.replay.highest),
        session.replay.bitmap,
        session.messages.next_number,
        min(unused, (1 << _UNUSED_BITS) - 1),
        1 if endpoint.outbox.is_empty and not session.needs_floor else 0,
        1 if endpoint.clock.is_doubtful else 0,
        offset,
    )
    packed = 0
    for value, bits in zip(values, _FIELDS):  # noqa: B905 - MicroPython knows no strict
        packed = packed << bits | value
    fixed = endpoint.origin + session.address.to_bytes(2, "big") + manifests.digest(endpoint.manifest)
    return fixed, packed.to_bytes(COUNTERS, "big")


def thaw(endpoint: "NodeEndpoint", fixed: bytes, counters: bytes, knows_clock: bool, now: int) -> bool:
    """Go on with the session. The endpoint is new; its outbox is open, its mail loaded. False: join.

    `knows_clock`: `now` is of the clock of before. The outbox is told that everything was acknowledged, if so.
    """
    if len(fixed) != FIXED or len(counters) != COUNTERS or fixed[_ORIGIN + 2 :] != manifests.digest(endpoint.manifest):
        return False  # another program has other channels: the gateway has to hear of them
    packed = int.from_bytes(counters, "big")
    values = []
    for bits in reversed(_FIELDS):
        values.append(packed & (1 << bits) - 1)
        packed >>= bits
    offset, is_doubtful, is_settled, unused, message_number, bitmap, highest, send_counter = values
    if not send_counter:
        return False
    outbox = endpoint.outbox
    if not outbox.is_exact:
        outbox.resume(unused)
    if is_settled and outbox.is_exact and outbox.is_numbered:
        outbox.trim(outbox.next_sequence - 1)
    if offset and knows_clock:
        endpoint.clock.offset = offset
        endpoint.clock.is_doubtful = bool(is_doubtful)
    keys = endpoint.joiner.keys(fixed[:_REQUEST], fixed[_REQUEST:_ORIGIN])[0]
    address = int.from_bytes(fixed[_ORIGIN : _ORIGIN + 2], "big")
    session = Session(keys, address, wire.WINDOW_UPLINK, now, send_counter)
    session.replay.highest = highest
    session.replay.bitmap = bitmap
    session.messages.next_number = message_number
    session.acked_counter = -wire.COUNTER_LONG_AFTER  # long counters until the first ack
    session.acked_sequence = outbox.acked_sequence
    # Nobody knows whether one that was due has arrived.
    session.needs_floor = not is_settled or outbox.oldest_sequence != outbox.acked_sequence + 1
    session.is_suspended = True
    session.dropped = endpoint.dropped
    session.clock_offset = endpoint.clock.offset
    endpoint.session = session
    endpoint.mail.renew(session)  # what was on its way is in no queue any more
    endpoint.origin = fixed[:_ORIGIN]
    endpoint.state = states.after(endpoint.state, states.RESUMED)
    return True
