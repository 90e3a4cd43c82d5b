"""A frame that there is no memory for tells nothing, and nothing is forgotten for it."""

from petiole import wire
from petiole.items import Encoded, Measured
from tests.core.support import raises
from tests.core.two_ends import End, ends, inject, kinds

NOTICE = b"\x44\x05"
PING = b"\x49"


class Scarce:
    """An AEAD that finds no memory for its next `failures` frames."""

    def __init__(self, aead, failures=1):
        self._aead = aead
        self._failures = failures

    def seal(self, nonce, aad, plaintext):
        if self._failures:
            self._failures -= 1
            raise MemoryError
        return self._aead.seal(nonce, aad, plaintext)


def run_short(end, failures=1):
    end.session.keys.sender = Scarce(end.session.keys.sender, failures)


def fail(end, now):
    """The next frame finds no memory."""
    raises(MemoryError, end.session.next_frame, now)
    if end._seen:
        end._seen.pop()


def test_a_notice_is_told_by_the_next_frame():
    node, _ = ends()
    node.session.notify(NOTICE)
    run_short(node, 2)
    fail(node, 0)
    fail(node, 0)
    assert node.texts(0) == [NOTICE]
    assert node.texts(10) == []


def test_an_ack_of_one_frame_is_sent_by_the_next_frame():
    node, gateway = ends()
    node.session.send(Encoded(PING))
    for frame in node.frames(0):
        gateway.receive(frame, 0)
    due = gateway.session.deadline(0)
    run_short(gateway)
    fail(gateway, due)
    acks = gateway.frames(due)
    assert len(acks) == 1
    assert acks[0][0] & 0xC0 == wire.ACK & 0xC0
    node.receive(acks[0], due)
    assert node.session.acked_counter == 1
    assert gateway.frames(due + 10) == []


def test_acks_of_many_frames_are_sent_by_the_next_frame():
    node, gateway = ends()
    for _ in range(3):
        node.session.send(Encoded(PING))
        for frame in node.frames(0):
            gateway.receive(frame, 0)
    gateway.session.notify(NOTICE)
    run_short(gateway)
    fail(gateway, 1000)
    texts = gateway.texts(1000)
    assert len(texts) == 1
    assert wire.ACKS in kinds(texts[0])
    assert gateway.session.has_due_acks is False


def test_the_floor_of_counters_is_told_by_the_next_frame():
    gateway = End(False, True, floor=300)
    inject(gateway, 7, PING)  # of a node that knows nothing of the floor
    run_short(gateway)
    fail(gateway, 0)
    assert wire.COUNTER_FLOOR in kinds(gateway.texts(0)[0])


def test_no_counter_is_used_for_two_plaintexts():
    node, _ = ends()
    node.session.notify(NOTICE)
    run_short(node)
    fail(node, 0)
    node.session.notify(b"\x44\x06")
    node.frames(0)
    assert [counter for counter, _ in node.plain] == [2]


def test_a_reading_arrives_once_after_any_number_of_shortages():
    for failures in range(1, 6):
        node, gateway = ends()
        node.session.send(Measured(0, 7, 0, b"\x01"))
        run_short(node, failures)
        arrived, now, shortages = [], 0, 0
        while now < 60000 and not arrived:
            try:
                frame = node.session.next_frame(now)
            except MemoryError:
                shortages += 1
                continue
            if frame is not None:
                arrived += [gateway.receive(frame, now)]
            now += 100
        assert shortages == failures
        assert len(arrived) == 1
        assert [record.sequence for record in arrived[0].records] == [7]
