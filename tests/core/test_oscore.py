from petiole import oscore
from tests.core.support import raises, unhex, vectors

VECTORS = vectors("rfc8613.json")


def test_rfc_8613_appendix_c_keys_and_nonces():
    assert len(VECTORS["derivation"]) == 6
    for case in VECTORS["derivation"]:
        context = case["id_context"]
        sender_key, recipient_key, common_iv = oscore.derive(
            unhex(case["master_secret"]),
            unhex(case["master_salt"]),
            unhex(case["sender_id"]),
            unhex(case["recipient_id"]),
            None if context is None else unhex(context),
        )
        assert sender_key.hex() == case["sender_key"], case["name"]
        assert recipient_key.hex() == case["recipient_key"], case["name"]
        assert common_iv.hex() == case["common_iv"], case["name"]
        for identity, expected in (("sender_id", "sender_nonce"), ("recipient_id", "recipient_nonce")):
            assert oscore.nonce(common_iv, unhex(case[identity]), b"\0").hex() == case[expected], case["name"]


def test_rfc_8613_appendix_c_nonces_of_messages():
    for case in VECTORS["protection"]:
        nonce = oscore.nonce(unhex(case["common_iv"]), unhex(case["id_piv"]), unhex(case["partial_iv"]))
        assert nonce.hex() == case["nonce"], case["name"]


def test_no_two_of_identifier_and_counter_share_a_nonce():
    seen = {}
    for identity in (b"", b"\0", b"\0\0", b"\1", b"\1\0", b"\0\1", b"\xff" * 7, bytes(7)):
        for counter in (0, 1, 255, 256, 1 << 32, (1 << 40) - 1):
            nonce = oscore.nonce(bytes(13), identity, counter.to_bytes(5, "big"))
            assert len(nonce) == 13
            assert nonce not in seen
            seen[nonce] = True


def test_the_two_ends_hold_each_others_keys():
    one = oscore.derive(b"secret", b"", b"a", b"b")
    other = oscore.derive(b"secret", b"", b"b", b"a")
    assert one[0] == other[1]
    assert one[1] == other[0]
    assert one[2] == other[2]
    assert one[0] != one[1]


def test_what_fits_no_nonce_is_refused():
    raises(ValueError, oscore.nonce, bytes(12), b"", b"\0")
    raises(ValueError, oscore.nonce, bytes(13), bytes(8), b"\0")
    raises(ValueError, oscore.nonce, bytes(13), b"", b"")
    raises(ValueError, oscore.nonce, bytes(13), b"", bytes(6))
