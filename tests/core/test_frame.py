from petiole import frame as frames
from petiole import wire
from petiole.errors import LocalError
from tests.core.support import Rng, raises
from tests.core.two_ends import keys

NODE, GATEWAY = keys(True), keys(False)


def opened(frame, counter, reader=GATEWAY):
    part = frames.split(frame)
    return frames.open_data(reader, part, counter, frames.data_counter(part)[2])


def test_a_frame_opens_at_the_other_end_only():
    frame = frames.seal_data(NODE, 7, b"text", None, False)
    assert opened(frame, 7) == b"text"
    assert opened(frame, 7, NODE) is None
    assert opened(frame, 8) is None


def test_both_address_forms_come_back():
    for address in (0, 1, 127, 128, 300, 32767):
        for long in (False, True):
            part = frames.split(frames.seal_data(NODE, 7, b"text", address, long))
            assert part.address == address
            assert len(frames.encode_address(address)) == (1 if address < 128 else 2)
    assert frames.split(frames.seal_data(NODE, 7, b"", None, False)).address is None
    raises(LocalError, frames.encode_address, 32768)


def test_a_bridge_may_add_and_take_away_the_address():
    plain = frames.seal_data(NODE, 7, b"text", None, False)
    for address in (5, 300):
        addressed = frames.seal_data(NODE, 7, b"text", address, False)
        stripped = bytes((addressed[0] & ~wire.ADDRESSED,)) + addressed[1 + len(frames.encode_address(address)) :]
        assert stripped == plain
        assert opened(addressed, 7) == b"text"


def test_the_header_is_authenticated():
    """Bit L says how the counter is read: it cannot be turned over on the way."""
    part = frames.split(frames.seal_data(NODE, 7, b"text", None, True))
    part.header ^= wire.LONG_COUNTER
    assert frames.open_data(GATEWAY, part, 7, 4) is None


def test_a_long_counter_is_whole_and_a_short_one_its_lowest_byte():
    for counter in (1, 255, 256, 70000, wire.COUNTER_LIMIT - 1):
        part = frames.split(frames.seal_data(NODE, counter, b"", None, True))
        assert frames.data_counter(part) == (counter, 32, 4)
        part = frames.split(frames.seal_data(NODE, counter, b"", None, False))
        assert frames.data_counter(part) == (counter & 255, 8, 1)


def test_an_ack_is_always_the_same_bytes_and_names_one_counter():
    for counter in (1, 8, 9, 256, 70000):
        frame = frames.seal_ack(GATEWAY, counter, None)
        assert frame == frames.seal_ack(GATEWAY, counter, None)
        assert frame[0] & 7 == counter & 7
        part = frames.split(frame)
        assert frames.opens_ack(NODE, part, counter)
        assert not frames.opens_ack(NODE, part, counter + 8)
        assert not frames.opens_ack(GATEWAY, part, counter)


def test_an_ack_and_a_frame_with_the_same_counter_have_different_nonces():
    """Both are sealed under the gateway's key; the empty frame's tag would forge an ack if their nonces met."""
    data = frames.seal_data(GATEWAY, 8, b"", None, False)
    ack = frames.seal_ack(GATEWAY, 8, None)
    assert data[-8:] != ack[-8:]


def test_every_single_bit_of_a_frame_counts():
    frame = frames.seal_data(NODE, 7, b"text", None, True)
    for position in range(len(frame)):
        for bit in range(8):
            changed = bytearray(frame)
            changed[position] ^= 1 << bit
            part = frames.split(bytes(changed))
            if not isinstance(part, str) and part.type == wire.DATA:
                value, bits, offset = frames.data_counter(part)
                counter = value if bits == 32 else 7
                assert frames.open_data(GATEWAY, part, counter, offset) is None, (position, bit)


def test_a_reject_echoes_the_end_of_the_frame():
    for address in (None, 5, 300):
        frame = frames.seal_data(NODE, 7, b"text", address, False)
        part = frames.split(frames.reject(frames.split(frame), wire.REJECT_LATER))
        assert part.type == wire.REJECT
        assert part.address == address
        assert part.header & 15 == wire.REJECT_LATER
        assert part.echo == frame[-4:]


def test_any_bytes_are_a_frame_or_a_reason():
    reasons = ("empty", "short", "oversize", "unknown_type", "reserved_bits", "address_form")
    rng = Rng(3)
    for _ in range(1000):
        part = frames.split(rng.bytes(rng.below(24)))
        assert isinstance(part, frames.Split) or part in reasons
    assert frames.split(b"\x20" * 251) == "oversize"
    assert not isinstance(frames.split(b"\x20" * 250), str)
