from petiole import cobs
from tests.core.support import Rng, unhex, vectors

VECTORS = vectors("cobs.json")


def test_published_examples_are_encoded_and_decoded():
    for case in VECTORS["valid"]:
        assert cobs.encode(unhex(case["data"])) == unhex(case["encoded"]), case["name"]
        assert cobs.decode(unhex(case["encoded"])) == unhex(case["data"]), case["name"]


def test_what_is_no_encoding_decodes_to_none():
    for case in VECTORS["invalid"]:
        assert cobs.decode(unhex(case["hex"])) is None, case


def test_every_length_around_a_block_returns_without_zeros_and_within_the_bound():
    for length in list(range(4)) + list(range(250, 260)) + list(range(505, 512)):
        for fill in (b"\0", b"\1", b"\xff"):
            data = b"".join([fill] * length)
            encoded = cobs.encode(data)
            assert encoded.find(b"\0") < 0
            assert len(encoded) <= length + length // 254 + 1
            assert cobs.decode(encoded) == data


def test_random_data_returns():
    rng = Rng(1)
    for _ in range(300):
        data = bytes([byte & rng.below(256) for byte in rng.bytes(rng.below(600))])
        assert cobs.decode(cobs.encode(data)) == data


def test_random_bytes_never_raise():
    rng = Rng(2)
    for _ in range(500):
        cobs.decode(rng.bytes(rng.below(40)))


def test_bytearrays_are_taken_too():
    assert cobs.decode(bytearray(cobs.encode(bytearray(b"a\0b")))) == b"a\0b"
