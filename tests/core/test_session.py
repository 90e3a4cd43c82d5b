from petiole import cbor, records, wire
from petiole import frame as frames
from petiole.acks import MAX_DUE_ACKS
from petiole.errors import QueueFull
from petiole.items import Encoded, Measured, Request
from petiole.session import MAX_QUEUE
from tests.core.support import raises
from tests.core.two_ends import End, deliver, ends, inject, keys, kinds, reading

PING = b"\x49"


def is_long(frame):
    return bool(frame[0] & wire.LONG_COUNTER)


# Counters --------------------------------------------------------------------------------------------------


def test_counters_begin_with_one_and_never_repeat():
    node, _ = ends()
    for now in range(10):
        node.session.send(Encoded(PING))
        node.frames(now)
    node.session.recovery.timeouts = 0
    counters = [counter for counter, _ in node.plain]
    assert counters == list(range(1, len(counters) + 1))


def test_a_counter_is_short_until_64_are_not_acknowledged():
    node, _ = ends()
    for counter in range(1, 80):
        node.session.notify(b"\x44\x05")
        frame = node.frames(0)[0]
        assert is_long(frame) == (counter >= wire.COUNTER_LONG_AFTER), counter
        assert len(frame) == 1 + (4 if is_long(frame) else 1) + 2 + 8


def test_what_is_sent_again_goes_under_a_long_counter():
    node, _ = ends()
    node.session.send(Encoded(PING))
    assert not is_long(node.frames(0)[0])
    assert is_long(node.frames(1000)[0])


def test_the_first_frame_after_a_restart_has_a_long_counter():
    gateway = End(False, True, send_counter=257, floor=300)
    gateway.session.send(Encoded(b"\x4a"))
    frame = gateway.frames(0)[0]
    assert is_long(frame)
    assert frames.data_counter(frames.split(frame))[0] == 257


def test_a_used_up_session_says_nothing_more():
    """Two frames under one nonce would give both away; a counter of 2**32 is no counter."""
    for counter in (wire.COUNTER_LIMIT, 0xFFFFFFFF):
        node, _ = ends()
        inject(node, 1, b"\x48" + (counter - 1).to_bytes(4, "big"))
        node.session.send(Encoded(PING))
        node.session.notify(b"\x44\x05")
        assert node.frames(5) == []
    node = End(True, send_counter=wire.COUNTER_LIMIT - 1)
    node.session.send(Encoded(PING))
    node.session.send(Encoded(PING))
    node.session.notify(b"\x44\x05")
    node.frames(0)
    node.session.notify(b"\x44\x05")
    assert node.frames(0) == []
    assert [counter for counter, _ in node.plain] == [wire.COUNTER_LIMIT - 1]


# Replay ----------------------------------------------------------------------------------------------------


def test_a_frame_is_taken_once():
    _, gateway = ends()
    for counter in (1, 2, 5, 3):
        assert not isinstance(inject(gateway, counter, PING), str)
        assert inject(gateway, counter, PING) == "replayed"
    gateway.texts(0)
    assert inject(gateway, 5, PING) == "replayed"
    assert gateway.texts(0) == []


def test_a_frame_that_does_not_open_moves_nothing():
    _, gateway = ends()
    inject(gateway, 1, PING)
    before = (gateway.session.replay.highest, gateway.session.replay.bitmap, gateway.session.opened_at)
    frame = bytearray(frames.seal_data(keys(True), 1000, PING, None, True))
    frame[-1] ^= 1
    assert gateway.receive(bytes(frame), 50) == "tag"
    assert (gateway.session.replay.highest, gateway.session.replay.bitmap, gateway.session.opened_at) == before


def test_a_malformed_frame_is_void_and_used_up():
    _, gateway = ends()
    text = b"\x81\x01\x00\x00"  # a good reading, then kind 0
    assert inject(gateway, 1, text) == "malformed_record"
    assert gateway.frames(5000) == []
    assert inject(gateway, 1, b"\x81\x01\x00") == "replayed"


def test_a_resumed_session_takes_nothing_at_or_below_its_bound():
    gateway = End(False, True, floor=300)
    for counter in (300, 299, 200, 60, 45):
        for is_whole in (True, False):
            assert inject(gateway, counter, b"\x81\x01\x00", is_long=is_whole) == "replayed", counter
            assert gateway.texts(0) == [b"\x48\x00\x00\x01\x2c"]
    assert not isinstance(inject(gateway, 301, PING, is_long=False), str)
    assert gateway.texts(0) == [None]


def test_a_node_continues_above_the_bound_and_says_all_again():
    node, gateway = ends()
    gateway = End(False, True, floor=300)
    node.session.oldest_sequence = 1
    node.session.send(reading(1))
    assert deliver(node, gateway, 0) == ["replayed"]
    deliver(gateway, node, 5)
    taken = deliver(node, gateway, 5)
    assert node.plain[-1][0] == 301
    assert [r.sequence for r in taken[0].records if isinstance(r, records.Reading)] == [1]


def test_a_bound_below_the_own_counter_changes_nothing():
    node = End(True, send_counter=50)
    for counter, floor in enumerate((0, 1, 49), 1):
        inject(node, counter, b"\x48" + floor.to_bytes(4, "big"))
        assert node.session.send_counter == 50
    inject(node, 4, b"\x48\x00\x00\x00\x32")
    assert node.session.send_counter == 51


# Acks ------------------------------------------------------------------------------------------------------


def test_one_ack_alone_is_an_ack_frame():
    _, gateway = ends()
    inject(gateway, 1, PING)
    (frame,) = gateway.frames(0)
    assert (frame[0] & wire.TYPE_MASK, len(frame)) == (wire.ACK, 9)
    assert gateway.frames(10_000) == []


def test_several_acks_are_one_record():
    _, gateway = ends()
    for counter in (1, 2, 4, 9):
        inject(gateway, counter, PING)
    # 9, and 8 - i for bit i: 4, 2 and 1.
    assert gateway.texts(0) == [b"\x40\x09" + bytes((1 << 4 | 1 << 6 | 1 << 7,))]


def test_acks_further_apart_than_a_bitmap_are_several_records():
    _, gateway = ends()
    for counter in (1, 10, 30):
        inject(gateway, counter, PING)
    assert gateway.texts(0) == [b"\x40\x1e\x00\x40\x0a\x00\x40\x01\x00"]
    for counter in (40, 48, 49):
        inject(gateway, counter, PING)
    assert gateway.texts(0) == [b"\x40\x31\x01\x40\x28\x00"]


def test_a_bitmap_acknowledges_exactly_what_it_says():
    for bitmap in (0, 1, 0x80, 0xA5):
        node, _ = ends()
        for _ in range(8):
            node.session.send(Request(0, [], 1000, 0))
        assert len(node.frames(0)) == 8
        inject(node, 1, bytes((wire.ACKS, 8, bitmap)))
        left = [counter for counter in range(1, 8) if not bitmap >> 7 - counter & 1]
        assert sorted(node.session.recovery.counters()) == left, bitmap


def test_an_ack_byte_means_a_counter_that_was_sent():
    node = End(True, send_counter=600)
    node.session.send(Encoded(b"\x4a"))
    node.frames(0)
    for counter, wrong in enumerate((601, 599, 592), 1):
        inject(node, counter, bytes((wire.ACKS, wrong & 255, 0)))
        assert node.session.recovery.counters() == [600]
    # 255 frames later the same byte still means 600, and one more frame later it does not.
    node.session.send_counter = 856
    inject(node, 10, bytes((wire.ACKS, 600 & 255, 0)))
    assert node.session.recovery.counters() == []
    node = End(True, send_counter=600)
    node.session.send(Encoded(b"\x4a"))
    node.frames(0)
    node.session.send_counter = 857
    inject(node, 10, bytes((wire.ACKS, 600 & 255, 0)))
    assert node.session.recovery.counters() == [600]


def test_acks_wait_for_company_with_a_request_only():
    node, _ = ends()
    request = b"\x01" + cbor.encode([7, 0, []])
    inject(node, 1, request, now=100)
    assert node.session.deadline(100) == 100 + wire.ACK_DELAY_MS
    assert node.frames(119) == []
    assert len(node.frames(120)) == 1
    inject(node, 2, request, now=200)
    node.session.send(Encoded(b"\x02" + cbor.encode([7, 0, None])))
    assert node.texts(205) == [b"\x40\x02\x00\x02\x83\x07\x00\xf6"]


def test_what_asks_for_no_ack_gets_none():
    _, gateway = ends()
    for counter, text in enumerate((b"\x44\x05", b"\x80\x01", b"\x40\x01\x00", b"\x04\x82\x0a\x60", b"\x4d\x01"), 1):
        inject(gateway, counter, text)
    assert gateway.frames(10_000) == []
    inject(gateway, 9, b"")
    assert len(gateway.frames(0)) == 1


def test_a_confirmed_reading_is_acknowledged_when_it_is_durable():
    _, gateway = ends()
    incoming = inject(gateway, 1, b"\x81\x01\x05")
    assert incoming.is_deferred
    assert gateway.frames(10_000) == []
    gateway.session.acknowledge(incoming, 10_000)
    assert len(gateway.frames(10_000)) == 1


def test_a_peer_that_ignores_the_windows_fills_no_memory():
    _, gateway = ends()
    for counter in range(1, 400):
        inject(gateway, counter, PING)
    assert len(gateway.session._acks.due) == MAX_DUE_ACKS
    assert sum(len(frame) for frame in gateway.frames(0)) <= wire.MAX_FRAME


# Sending again ---------------------------------------------------------------------------------------------


def test_a_lost_reading_is_sent_again_with_its_age():
    node, _ = ends()
    node.session.oldest_sequence = 1
    node.session.send(reading(1, taken=0))
    node.frames(0)
    assert node.frames(999) == []
    (text,) = node.texts(1000)
    assert kinds(text) == [wire.FLOOR, "reading"]
    assert records.parse(text)[1].age_ms == 1000


def test_lost_records_keep_their_order():
    node, _ = ends()
    node.session.oldest_sequence = 1
    for sequence in range(1, 9):
        node.session.send(reading(sequence, value=b"\x58\xc0" + bytes(192)))
    assert len(node.frames(0)) == 8
    for sequence in (9, 10):
        node.session.send(reading(sequence, value=b"\x58\xc0" + bytes(192)))
    assert node.frames(0) == []
    seen = []
    now = 1000
    while len(seen) < 10:
        start = len(node.plain)
        node.frames(now)
        for counter, text in node.plain[start:]:
            found = records.parse(text, seen[-1] if seen else 0)
            seen += [record.sequence for record in found if isinstance(record, records.Reading)]
            inject(node, counter, bytes((wire.ACKS, counter & 255, 0)), now)
        now += 10
        assert now < 2000
    assert seen == list(range(1, 11))


def test_the_windows_hold():
    for is_node, window in ((True, 8), (False, 4)):
        end = End(is_node)
        for _ in range(20):
            end.session.send(Request(0, ["x" * 150], 1000, 0))
        assert len(end.frames(0)) == window


def test_each_new_request_has_a_frame_and_an_id_of_its_own():
    node, _ = ends()
    items = [Request(0, [], 1000, 0) for _ in range(3)]
    for item in items:
        node.session.send(item)
    assert [kinds(text) for text in node.texts(0)] == [[wire.REQUEST]] * 3
    assert [item.id for item in items] == [1, 2, 3]
    # Sent again they share a frame and keep their ids.
    (text,) = node.texts(1000)
    assert [record.value[0] for record in records.parse(text)] == [1, 2, 3]


def test_replies_pass_readings():
    node, _ = ends()
    node.session.oldest_sequence = 1
    for sequence in range(1, 12):
        node.session.send(reading(sequence, value=b"\x58\xc0" + bytes(192)))
    node.session.send(Encoded(b"\x02\x83\x01\x00\xf6"))
    assert kinds(node.texts(0)[0])[0] == wire.REPLY


def test_replies_pass_readings_that_were_lost():
    node, _ = ends()
    node.session.oldest_sequence = 1
    for sequence in range(1, 4):
        node.session.send(reading(sequence, value=b"\x58\xc0" + bytes(192)))
    assert len(node.frames(0)) == 3
    # One frame is in flight after a timeout, and it must not be all readings.
    node.session.send(Encoded(b"\x02\x83\x02\x00\xf6"))
    (text,) = node.texts(1000)
    assert kinds(text)[0] == wire.REPLY


def test_while_the_gateway_is_busy_only_confirmed_readings_wait():
    node, _ = ends()
    node.session.oldest_sequence = 1
    inject(node, 1, b"\x45\x05", now=1000)
    node.session.send(reading(1))
    node.session.send(Measured(1, None, 0, b"\x02"))
    node.session.send(Encoded(PING + b"\x43"))
    assert [kinds(text) for text in node.texts(1000)] == [["reading", wire.PING, wire.TIME_REQUEST]]
    inject(node, 2, b"\x40\x01\x00", now=1010)
    assert node.session.deadline(1010) == 6000
    assert node.frames(5999) == []
    assert [kinds(text)[-1] for text in node.texts(6000)] == ["reading"]


def test_a_busy_time_is_from_a_second_to_five_minutes():
    for said, meant in ((0, 1), (1, 1), (300, 300), (0xFFFFFFF, 300)):
        node, _ = ends()
        inject(node, 1, b"\x45" + records.varint(said))
        assert node.session.paused_until == 1000 * meant


def test_no_more_than_127_numbers_are_on_the_wire():
    node, _ = ends()
    node.session.oldest_sequence = 1
    for sequence in range(1, 141):
        node.session.send(reading(sequence))
    sent = []
    for text in node.texts(0):
        found = records.parse(text, max(sent or [0]))
        sent += [record.sequence for record in found if isinstance(record, records.Reading)]
    assert sent == list(range(1, 128))


def test_the_queue_is_bounded_and_what_is_done_makes_room():
    node, _ = ends()
    items = [Encoded(PING) for _ in range(MAX_QUEUE)]
    for item in items:
        node.session.send(item)
    raises(QueueFull, node.session.send, Encoded(PING))
    items[3].is_done = True
    node.session.send(Encoded(PING))
    raises(QueueFull, node.session.send, Encoded(PING))


def test_a_number_in_a_late_frame_means_what_it_meant_when_it_was_sent():
    node, gateway = End(True), End(False, True)
    node.session.send(reading(1))
    node.session.oldest_sequence = 1
    (late,) = node.frames(0)
    node.session.send(reading(2))
    (second,) = node.frames(0)
    assert [found.sequence for found in gateway.receive(second, 0, 0).records] == [2]
    # Number 1 came again in another frame, and many more after it.
    assert [found.sequence for found in gateway.receive(late, 0, 200).records if hasattr(found, "sequence")] == [1]


def test_what_was_skipped_is_forgotten_with_the_window():
    gateway = End(False, True)
    counter = 0
    for step in (2, 3, 40, 1, 29, 30, 31, 1000, 2):
        counter += step
        frame = frames.seal_data(keys(True), counter, b"", None, True)
        assert gateway.receive(frame, 0).counter == counter
        assert len(gateway.session._references._skipped) < wire.REPLAY_WINDOW
