from petiole import records, wire
from petiole.reassembly import Reassembly, count, fragment
from tests.core.support import Rng

TEXT = bytes([n % 251 for n in range(500)])


def parts(message, data=TEXT):
    return [records.parse(fragment(message, n, data))[0].value for n in range(count(len(data)))]


def test_a_message_is_whole_whatever_the_order():
    rng = Rng(5)
    for length in (1, 223, 224, 225, 447, 448, 449, 4096):
        data = rng.bytes(length)
        waiting = parts(7, data)
        together = Reassembly()
        while waiting:
            whole = together.add(waiting.pop(rng.below(len(waiting))), 0)
            assert whole == (None if waiting else data)


def test_a_fragment_fits_a_frame_with_everything_around_it():
    largest = len(fragment(0, 0, bytes(4096)))
    assert largest + 1 + 2 + 4 + wire.TAG_LENGTH <= wire.MAX_FRAME


def test_no_total_is_believed_that_is_not_possible():
    together = Reassembly()
    for total in (0, 4097, 65535):
        assert together.add((1, 0, total, bytes(224)), 0) == "malformed_fragment"
    for index, length in ((2, 52), (2, 51), (3, 52), (18, 224), (255, 52)):
        fits = index == 2 and length == 52
        assert (together.add((1, index, 500, bytes(length)), 0) is None) == fits
    assert together.add((1, 0, 501, bytes(224)), 0) == "malformed_fragment"


def test_memory_is_bounded_by_two_messages():
    together = Reassembly()
    for message in range(20):
        assert together.add((message, 0, 4096, bytes(224)), message) is None
        assert len(together._partials) <= wire.MAX_REASSEMBLIES
    assert [partial.message for partial in together._partials] == [18, 19]


def test_what_is_not_whole_in_time_is_dropped():
    together = Reassembly()
    assert together.deadline() is None
    together.add(parts(1)[0], 1000)
    together.add(parts(2)[0], 5000)
    assert together.deadline() == 31_000
    assert together.expire(30_999) == 0
    assert together.expire(31_000) == 1
    assert together.deadline() == 35_000
    # The last part of it makes nothing whole.
    assert together.add(parts(1)[2], 31_000) is None


def test_a_taken_message_is_not_whole_again():
    together = Reassembly()
    for part in parts(1)[:-1]:
        together.add(part, 0)
    assert together.add(parts(1)[-1], 0) == TEXT
    together.take(1)
    for part in parts(1):
        assert together.add(part, 0) == b""
    assert together.deadline() is None


def test_a_message_that_met_a_busy_store_can_come_again():
    together = Reassembly()
    for _ in range(3):
        results = [together.add(part, 0) for part in parts(1)]
        assert results == [None, None, TEXT]
        together.release(1)
    # The probe that came before it was taken leaves nothing behind.
    assert together.add(parts(1)[-1], 0) is None
    together.take(1)
    assert together.deadline() is None
    assert together.expire(1_000_000) == 0


def test_four_taken_messages_are_remembered():
    together = Reassembly()
    for message in range(6):
        together.take(message)
        together.take(message)
    assert together.taken == [2, 3, 4, 5]
