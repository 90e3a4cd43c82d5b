"""Whatever arrives, in whatever pieces: no exception, bounded memory, and the next frame is found."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from petiole import cobs
from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer

MAX_FRAME = 40
MAX_LINE = 30
MAX_LINES = 4

frames = st.binary(min_size=1, max_size=MAX_FRAME)
# Plain random bytes hardly ever hit what the framers look for.
noise = st.lists(
    st.one_of(st.binary(max_size=80), st.sampled_from([b"~", b"\0", b"\n", b"\r", b"=", b"AAAA", b"~QUJD\n"]))
).map(b"".join)
Framer = CobsFramer | LineFramer


def make(kind: type[Framer]) -> Framer:
    return CobsFramer(MAX_FRAME) if kind is CobsFramer else LineFramer(MAX_FRAME, MAX_LINE, MAX_LINES)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


def held(framer: Framer) -> int:
    size = len(framer._pending)
    if isinstance(framer, LineFramer):
        size += sum(map(len, framer._lines))
    return size


def bound(framer: Framer) -> int:
    if isinstance(framer, CobsFramer):
        return MAX_FRAME + 1
    return MAX_LINE + (MAX_FRAME + 2) // 3 * 4 + 2 + MAX_LINE * MAX_LINES


@given(st.sampled_from([CobsFramer, LineFramer]), noise, st.lists(st.integers(0), max_size=12))
@settings(max_examples=400)
def test_any_stream_in_any_chunking_is_survived_in_bounded_memory(
    kind: type[Framer], stream: bytes, cuts: list[int]
) -> None:
    framer = make(kind)
    whole = make(kind)
    received = []
    for piece in pieces(stream, cuts):
        received += framer.feed(piece)
        assert held(framer) <= bound(framer)
    assert all(0 < len(frame) <= MAX_FRAME for frame in received)
    # The cuts make no difference.
    assert whole.feed(stream) == received
    assert whole.dropped == framer.dropped
    if isinstance(framer, LineFramer) and isinstance(whole, LineFramer):
        lines = framer.take_lines()
        assert lines == whole.take_lines()
        assert len(lines) <= MAX_LINES
        assert all(len(line) <= MAX_LINE for line in lines)


@given(
    st.sampled_from([(CobsFramer, b"\0"), (LineFramer, b"\n")]),
    noise,
    st.lists(frames, max_size=5),
    st.lists(st.integers(0), max_size=12),
)
def test_every_frame_after_garbage_and_a_delimiter_is_received(
    kind: tuple[type[Framer], bytes], garbage: bytes, sent: list[bytes], cuts: list[int]
) -> None:
    framer = make(kind[0])
    framer.feed(garbage + kind[1])
    received = []
    for piece in pieces(b"".join(framer.wrap(frame) for frame in sent), cuts):
        received += framer.feed(piece)
    assert received == sent


@given(st.binary(min_size=9, max_size=MAX_FRAME), st.binary(max_size=MAX_LINE).filter(lambda text: b"\n" not in text))
def test_a_frame_behind_unfinished_text_is_received(frame: bytes, text: bytes) -> None:
    framer = LineFramer(MAX_FRAME, MAX_LINE, MAX_LINES)
    assert framer.feed(text + framer.wrap(frame)) == [frame]


@given(st.binary(max_size=800))
def test_cobs_returns_everything_without_zeros(data: bytes) -> None:
    encoded = cobs.encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + len(data) // 254 + 1
    assert cobs.decode(encoded) == data


@given(st.binary(max_size=600))
def test_cobs_decodes_anything_to_bytes_or_none(data: bytes) -> None:
    decoded = cobs.decode(data)
    if decoded is not None:
        assert len(decoded) < len(data)
