from petiole import frame as frames
from petiole import join, wire
from petiole.errors import LocalError
from tests.core.support import raises
from tests.core.two_ends import aead

KEY = bytes(range(16))
HASH = b"\x01\x02\x03"
NONCE = (1_800_000_000_000).to_bytes(6, "big") + b"\x5a"


def request(full=False, random=b"rand"):
    joiner = join.Joiner(aead, KEY)
    frame = joiner.start(random, 3, 4, HASH, full)
    return joiner, join.open_request(aead, KEY, frame)


def answered(sequence, next_sequence, full=False):
    """The sequence as the node understands it."""
    joiner, opened = request(full)
    frame, _ = join.accept(aead, KEY, opened, 5, sequence, NONCE)
    return joiner.accept(frames.split(frame), next_sequence).sequence


def test_both_ends_have_the_keys_of_each_other():
    joiner, opened = request()
    frame, gateway = join.accept(aead, KEY, opened, 300, 40, NONCE, True)
    accept = joiner.accept(frames.split(frame), 41)
    assert (accept.address, accept.sequence, accept.is_doubtful) == (300, 40, True)
    up = frames.split(frames.seal_data(accept.keys, 1, b"up", None, False))
    down = frames.split(frames.seal_data(gateway, 1, b"down", None, False))
    assert frames.open_data(gateway, up, 1, 1) == b"up"
    assert frames.open_data(accept.keys, down, 1, 1) == b"down"
    assert frames.open_data(gateway, down, 1, 1) is None


def test_what_the_request_says_is_read():
    _, opened = request()
    assert (opened.boot, opened.reset_reason, opened.manifest_hash) == (3, 4, HASH)
    assert not opened.wants_full_sequence
    assert request(True)[1].wants_full_sequence


def test_an_accept_opens_once():
    joiner, opened = request()
    frame, _ = join.accept(aead, KEY, opened, 5, 40, NONCE)
    assert joiner.accept(frames.split(frame), 41) is not None
    assert joiner.accept(frames.split(frame), 41) is None


def test_an_accept_of_an_earlier_request_does_not_open():
    joiner, opened = request()
    frame, _ = join.accept(aead, KEY, opened, 5, 40, NONCE)
    joiner.start(b"new!", 3, 4, HASH, False)
    assert joiner.accept(frames.split(frame), 41) is None


def test_every_accept_makes_other_keys():
    """A replayed request with a new time gives keys that whoever replays it has never seen in use."""
    _, opened = request()
    other = (1_800_000_000_001).to_bytes(6, "big") + b"\x5a"
    one = join.session_keys(aead, KEY, opened.frame, NONCE, True, 8)[0]
    two = join.session_keys(aead, KEY, opened.frame, other, True, 8)[0]
    frame = frames.split(frames.seal_data(one, 1, b"", None, False))
    assert frames.open_data(join.session_keys(aead, KEY, opened.frame, NONCE, False, 8)[0], frame, 1, 1) == b""
    assert one.common_iv != two.common_iv
    assert frames.open_data(join.session_keys(aead, KEY, opened.frame, other, False, 8)[0], frame, 1, 1) is None


def test_another_key_opens_nothing():
    joiner, opened = request()
    other = join.Joiner(aead, b"\xff" * 16)
    assert join.open_request(aead, b"\xff" * 16, opened.frame) is None
    other.request = opened.frame
    frame, _ = join.accept(aead, KEY, opened, 5, 40, NONCE)
    assert other.accept(frames.split(frame), 41) is None
    assert joiner.request


def test_two_bytes_of_a_number_mean_the_nearest():
    for own, sequence in ((44, 40), (65540, 65530), (65530, 65540), (100, 90), (5, 300), (1 << 31, (1 << 31) - 120)):
        assert answered(sequence, own + 1) == sequence, (own, sequence)


def test_a_gateway_that_has_taken_nothing_says_so_in_full():
    """Two bytes of 0 would be 65536 to a node that has come past 32768, and its outbox would be taken for durable."""
    for own in (0, 100, 32767, 32768, 40000, 65536, 65540, 131072):
        assert answered(0, own + 1) == 0, own


def test_a_full_number_is_itself():
    for sequence in (0, 1, 65536, 70000, 0xFFFFFFFF):
        assert answered(sequence, 1, True) == sequence


def test_a_key_of_another_length_is_the_callers_mistake():
    assert raises(LocalError, join.Joiner, aead, bytes(15)).what == "device key"
    raises(LocalError, join.check_key, bytes(32))


def test_the_request_and_the_accept_are_as_short_as_promised():
    _, opened = request()
    frame, _ = join.accept(aead, KEY, opened, 5, 40, NONCE)
    assert (len(opened.frame), len(frame)) == (17, 19)
    assert len(opened.frame) == 1 + wire.DEVICE_ID_LENGTH + wire.JOIN_RANDOM_LENGTH + 1 + 4 + wire.JOIN_TAG_LENGTH
