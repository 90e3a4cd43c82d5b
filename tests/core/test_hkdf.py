from petiole.hkdf import hkdf_expand, hkdf_extract, hmac_sha256
from tests.core.support import raises, unhex, vectors


def test_rfc_4231_macs():
    cases = vectors("rfc4231.json")["valid"]
    assert len(cases) == 7
    for case in cases:
        mac = hmac_sha256(unhex(case["key"]), unhex(case["message"])).hex()
        assert mac[: len(case["mac"])] == case["mac"], case["name"]


def test_rfc_5869_keys():
    cases = vectors("rfc5869.json")["valid"]
    assert len(cases) == 3
    for case in cases:
        prk = hkdf_extract(unhex(case["salt"]), unhex(case["ikm"]))
        assert prk.hex() == case["prk"], case["name"]
        assert hkdf_expand(prk, unhex(case["info"]), case["length"]).hex() == case["okm"], case["name"]


def test_keys_of_one_block_more_or_less_than_the_hash_block():
    # RFC 2104: up to 64 bytes the key is padded, beyond it is hashed.
    assert hmac_sha256(b"k" * 64, b"") != hmac_sha256(b"k" * 65, b"")
    assert hmac_sha256(b"k", b"") == hmac_sha256(b"k" + bytes(63), b"")


def test_lengths_are_bounded():
    prk = bytes(32)
    assert hkdf_expand(prk, b"", 0) == b""
    for length in (1, 31, 32, 33, 64, 8160):
        assert len(hkdf_expand(prk, b"", length)) == length
    raises(ValueError, hkdf_expand, prk, b"", 8161)
    raises(ValueError, hkdf_expand, prk, b"", -1)
