from petiole.errors import QueueFull
from petiole.outbox import Outbox
from tests.core.support import raises


def filled(count, next_sequence=None, limit=64):
    outbox = Outbox(limit, next_sequence)
    for value in range(count):
        outbox.add(0, 1000 + value, bytes((value,)))
    return outbox


def numbers(outbox):
    return [item.sequence for item in outbox.items]


def test_numbers_follow_each_other_without_a_gap():
    outbox = filled(5, 41)
    assert numbers(outbox) == [41, 42, 43, 44, 45]
    assert (outbox.oldest_sequence, outbox.next_sequence) == (41, 46)


def test_what_is_durable_is_taken_out_and_returned():
    outbox = filled(5, 41)
    assert [item.sequence for item in outbox.trim(43)] == [41, 42, 43]
    assert outbox.trim(43) == []
    assert numbers(outbox) == [44, 45]
    assert outbox.add(0, 0, b"").sequence == 46


def test_an_empty_outbox_says_which_number_is_next():
    outbox = filled(2, 41)
    outbox.trim(42)
    assert (outbox.oldest_sequence, outbox.next_sequence) == (43, 43)


def test_numbers_never_go_back():
    outbox = filled(0, 41)
    outbox.trim(100)
    assert outbox.next_sequence == 101
    outbox.trim(50)
    assert outbox.next_sequence == 101


def test_the_full_outbox_refuses_and_keeps_what_it_has():
    outbox = filled(4, 1, limit=4)
    raises(QueueFull, outbox.add, 0, 0, b"")
    assert numbers(outbox) == [1, 2, 3, 4]
    outbox.trim(1)
    assert outbox.add(0, 0, b"").sequence == 5


def test_without_memory_the_gateway_says_where_to_continue():
    outbox = filled(3)
    assert not outbox.has_memory
    outbox.rebase(70000)
    assert outbox.has_memory
    assert numbers(outbox) == [70001, 70002, 70003]
    assert outbox.next_sequence == 70004
    assert [item.value for item in outbox.items] == [b"\x00", b"\x01", b"\x02"]
