from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer
from tests.core.support import Rng


def chunks(rng, data, longest):
    start = 0
    while start < len(data):
        stop = start + 1 + rng.below(longest)
        yield data[start:stop]
        start = stop


def feed_all(framer, rng, stream, longest):
    frames = []
    for chunk in chunks(rng, stream, longest):
        frames.extend(framer.feed(chunk))
    return frames


def some_frames(rng, count, longest=250):
    return [rng.bytes(1 + rng.below(longest)) for _ in range(count)]


def test_frames_survive_any_chunking():
    rng = Rng(3)
    for make in (CobsFramer, LineFramer):
        for longest in (1, 7, 300, 5000):
            framer = make(250)
            sent = some_frames(rng, 20)
            stream = b"".join([framer.wrap(frame) for frame in sent])
            assert feed_all(framer, rng, stream, longest) == sent
            assert sum(framer.dropped.values()) == 0


def test_the_longest_frame_passes_and_one_more_byte_is_oversize():
    for make in (CobsFramer, LineFramer):
        for longest in (1, 253, 254, 255, 508):
            for fill in (b"\0", b"\7"):
                framer = make(longest)
                frame = b"".join([fill] * longest)
                assert framer.feed(framer.wrap(frame)) == [frame]
                assert framer.feed(framer.wrap(frame + fill)) == []
                assert framer.feed(framer.wrap(frame)) == [frame]
                assert framer.dropped["oversize"] == 1


def test_after_garbage_the_next_frame_is_received():
    rng = Rng(4)
    for make, end in ((CobsFramer, b"\0"), (LineFramer, b"\n")):
        for _ in range(100):
            framer = make(64)
            garbage = rng.bytes(rng.below(400)) + end
            framer.feed(garbage)
            frame = rng.bytes(40)
            assert feed_all(framer, rng, framer.wrap(frame), 9) == [frame]


def test_a_corrupted_frame_costs_no_other():
    rng = Rng(5)
    framer = CobsFramer(64)
    good = rng.bytes(20)
    wrapped = framer.wrap(good)
    cut = wrapped[:9] + b"\0"
    assert framer.feed(cut + wrapped) == [good]
    assert framer.dropped == {"cobs": 1, "oversize": 0}


def test_a_leading_delimiter_keeps_noise_from_spoiling_a_frame():
    framer = CobsFramer(64)
    assert framer.feed(b"\x80\xfe" + framer.wrap(b"frame")) == []
    assert framer.feed(b"\x80\xfe" + framer.wrap(b"frame", True)) == [b"frame"]
    assert framer.wrap(b"frame") == b"\x06frame\0"


def test_empty_frames_and_bare_delimiters_are_nothing():
    framer = CobsFramer(64)
    assert framer.feed(b"\0\0\0") == []
    assert framer.dropped["cobs"] == 0
    assert framer.feed(b"\x01\0") == []
    lines = LineFramer(64)
    assert lines.feed(b"\n\r\n~\n") == []


def test_an_endless_frame_is_counted_once_and_keeps_no_memory():
    framer = CobsFramer(64)
    for _ in range(100):
        assert framer.feed(b"\x55" * 50) == []
    assert framer.dropped["oversize"] == 1
    assert framer.feed(b"\0" + framer.wrap(b"after")) == [b"after"]


def test_a_reset_forgets_half_a_frame():
    for make in (CobsFramer, LineFramer):
        framer = make(64)
        wrapped = framer.wrap(b"a frame of some length")
        framer.feed(wrapped[:10])
        framer.reset()
        assert framer.feed(wrapped) == [b"a frame of some length"]


def test_a_line_frame_has_no_control_character_but_its_newline():
    framer = LineFramer(250)
    for value in range(256):
        wrapped = framer.wrap(bytes([value]) * 30)
        assert wrapped[:1] == b"~"
        assert wrapped[-1:] == b"\n"
        assert all(32 < byte < 127 for byte in wrapped[:-1])


def test_other_lines_are_the_log():
    framer = LineFramer(64)
    framer.feed(b"boot\r\ntemp 21")
    assert framer.take_lines() == [b"boot"]
    framer.feed(b".5\n\n" + framer.wrap(b"frame") + b"~/path\n\xff\xfe\n")
    assert framer.take_lines() == [b"temp 21.5", b"~/path", b"\xff\xfe"]
    assert framer.take_lines() == []
    assert framer.dropped["base64"] == 1


def test_a_frame_may_follow_a_prompt():
    framer = LineFramer(64)
    frame = b"frame with tag.."
    assert framer.feed(b">>> " + framer.wrap(frame) + b"\r" + framer.wrap(frame)) == [frame, frame]
    assert framer.take_lines() == [b">>> "]
    assert framer.feed(b"~/lib: " + framer.wrap(frame)) == [frame]
    assert framer.take_lines() == [b"~/lib: "]


def test_short_text_after_a_tilde_is_text():
    framer = LineFramer(64)
    assert framer.feed(b"about ~1234\n") == []
    assert framer.take_lines() == [b"about ~1234"]


def test_carriage_returns_are_tolerated():
    framer = LineFramer(64)
    assert framer.feed(framer.wrap(b"frame")[:-1] + b"\r\n") == [b"frame"]


def test_base64_that_is_not_the_one_spelling_is_refused():
    framer = LineFramer(64)
    # Blanks inside, no padding, padding bits set, padding in front, too much padding.
    for text in (b"~AA AA", b"~QQ", b"~QR==", b"~==QQ", b"~QQ===", b"~QQ==QQ=="):
        assert framer.feed(text + b"\n") == [], text
    assert framer.dropped["base64"] == 6
    assert framer.feed(b"~QQ==\n") == [b"A"]


def test_log_lines_are_bounded_in_length_and_number():
    framer = LineFramer(16, 20, 3)
    framer.feed(b"x" * 1000 + b"\n")
    assert framer.take_lines() == [b"x" * 17 + b"..."]
    framer.feed(b"1\n2\n3\n4\n5\n")
    assert framer.take_lines() == [b"3", b"4", b"5"]
    assert framer.dropped["lines"] == 2
    silent = LineFramer(16, 20, 0)
    silent.feed(b"1\n")
    assert silent.take_lines() == []
