from petiole.ccm import Ccm, scratch
from tests.core.support import Aes, Rng, raises, unhex, vectors


def check_both_ways(case):
    ccm = Ccm(Aes(unhex(case["key"])), case["tag_length"])
    nonce = unhex(case["nonce"])
    aad = unhex(case["aad"])
    plaintext = unhex(case["plaintext"])
    sealed = unhex(case["sealed"])
    assert ccm.seal(nonce, aad, plaintext) == sealed, case["name"]
    assert ccm.open(nonce, aad, sealed) == plaintext, case["name"]


def test_rfc_3610_packet_vectors():
    cases = vectors("rfc3610.json")["valid"]
    assert len(cases) == 24
    for case in cases:
        check_both_ways(case)


def test_generated_vectors():
    for case in vectors("ccm_generated.json")["valid"]:
        check_both_ways(case)


def test_rfc_8613_protected_messages():
    for case in vectors("rfc8613.json")["protection"]:
        case["tag_length"] = 8
        check_both_ways(case)


def test_invalid_vectors_do_not_open():
    for case in vectors("ccm_generated.json")["invalid"]:
        ccm = Ccm(Aes(unhex(case["key"])), case["tag_length"])
        opened = ccm.open(unhex(case["nonce"]), unhex(case["aad"]), unhex(case["sealed"]))
        assert opened is None, case["name"]


def test_one_wrong_bit_anywhere_is_refused():
    ccm = Ccm(Aes(bytes(range(16))))
    nonce = bytes(range(13))
    aad = b"header"
    sealed = ccm.seal(nonce, aad, b"seventeen bytes..")
    for index in range(len(sealed) * 8):
        bad = bytearray(sealed)
        bad[index >> 3] ^= 1 << (index & 7)
        assert ccm.open(nonce, aad, bytes(bad)) is None, index
    for index in range(13 * 8):
        bad = bytearray(nonce)
        bad[index >> 3] ^= 1 << (index & 7)
        assert ccm.open(bytes(bad), aad, sealed) is None, index
    for bad_aad in (b"", b"heade", b"header\0", b"Header"):
        assert ccm.open(nonce, bad_aad, sealed) is None
    assert ccm.open(nonce, aad, sealed) == b"seventeen bytes.."


def test_no_length_is_too_short_or_too_long_to_refuse():
    ccm = Ccm(Aes(bytes(16)), 8, 32)
    for length in list(range(12)) + [40, 41, 1000]:
        assert ccm.open(bytes(13), b"", bytes(length)) is None, length


def test_limits_are_the_callers_fault():
    ccm = Ccm(Aes(bytes(16)), 8, 32)
    assert len(ccm.seal(bytes(13), bytes(32), bytes(32))) == 40
    raises(ValueError, ccm.seal, bytes(13), b"", bytes(33))
    raises(ValueError, ccm.seal, bytes(12), b"", b"")
    raises(ValueError, ccm.seal, bytes(13), bytes(33), b"")
    raises(ValueError, ccm.open, bytes(14), b"", bytes(20))
    for tag_length in (0, 2, 3, 5, 17, 18):
        raises(ValueError, Ccm, Aes(bytes(16)), tag_length)
    raises(ValueError, scratch, 0)
    raises(ValueError, scratch, 5000)


def test_nothing_of_one_call_is_left_for_the_next():
    # The working memory is reused: a short frame after a long one must not see its padding.
    ccm = Ccm(Aes(bytes(16)))
    nonce = bytes(13)
    first = ccm.seal(nonce, b"ab", b"short")
    ccm.seal(nonce, b"\xff" * 32, b"\xff" * 256)
    assert ccm.seal(nonce, b"ab", b"short") == first
    ccm.open(nonce, b"\xff" * 32, b"\xff" * 264)
    assert ccm.open(nonce, b"ab", first) == b"short"


def test_instances_may_share_their_working_memory():
    buffers = scratch(64)
    one = Ccm(Aes(bytes(16)), 8, 256, buffers)
    other = Ccm(Aes(b"k" * 16), 4, 64, buffers)
    nonce = bytes(13)
    sealed = one.seal(nonce, b"", b"text")
    assert other.open(nonce, b"", other.seal(nonce, b"", b"other text")) == b"other text"
    assert one.open(nonce, b"", sealed) == b"text"
    raises(ValueError, one.seal, nonce, b"", bytes(65))


def test_memoryviews_are_taken_too():
    rng = Rng(6)
    ccm = Ccm(Aes(rng.bytes(16)))
    nonce = rng.bytes(13)
    frame = rng.bytes(5) + ccm.seal(nonce, b"aad", b"plaintext")
    view = memoryview(frame)
    assert ccm.open(nonce, memoryview(b"aad"), view[5:]) == b"plaintext"
    assert ccm.seal(nonce, b"aad", memoryview(b"plaintext")) == frame[5:]
