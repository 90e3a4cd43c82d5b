"""The portable CCM against AESCCM of `cryptography`, and the gateway's wrapper of the latter."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given, settings
from hypothesis import strategies as st

from petiole.ccm import Ccm
from petiole_gateway.aead import Aes, AesCcm

keys = st.binary(min_size=16, max_size=16)
nonces = st.binary(min_size=13, max_size=13)
tags = st.sampled_from([4, 6, 8, 10, 12, 14, 16])


@given(keys, nonces, st.binary(max_size=32), st.binary(max_size=256), tags)
@settings(max_examples=300)
def test_sealing_and_opening_agree_with_the_oracle(
    key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, tag: int
) -> None:
    expected = AESCCM(key, tag_length=tag).encrypt(nonce, plaintext, aad)
    for aead in (Ccm(Aes(key), tag), AesCcm(key, tag)):
        assert aead.seal(nonce, aad, plaintext) == expected
        assert aead.open(nonce, aad, expected) == plaintext


@given(keys, nonces, st.binary(max_size=32), st.binary(max_size=300), st.sampled_from([8, 16]))
def test_bytes_that_nobody_sealed_do_not_open(key: bytes, nonce: bytes, aad: bytes, data: bytes, tag: int) -> None:
    assert Ccm(Aes(key), tag).open(nonce, aad, data) is None
    assert AesCcm(key, tag).open(nonce, aad, data) is None


@given(keys, nonces, st.binary(max_size=32), st.binary(max_size=64), st.data())
def test_one_changed_bit_does_not_open(
    key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, data: st.DataObject
) -> None:
    sealed = bytearray(AesCcm(key).seal(nonce, aad, plaintext))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert Ccm(Aes(key)).open(nonce, aad, bytes(sealed)) is None
    assert AesCcm(key).open(nonce, aad, bytes(sealed)) is None


@pytest.mark.parametrize("make", [lambda: Ccm(Aes(bytes(16)), 8, 32), lambda: AesCcm(bytes(16), 8, 32)])
def test_both_have_the_same_limits(make) -> None:  # type: ignore[no-untyped-def] # two classes, one interface
    aead = make()
    assert len(aead.seal(bytes(13), bytes(32), bytes(32))) == 40
    for nonce, aad, plaintext in ((bytes(12), b"", b""), (bytes(13), bytes(33), b""), (bytes(13), b"", bytes(33))):
        with pytest.raises(ValueError, match=r"nonce|aad|plaintext"):
            aead.seal(nonce, aad, plaintext)
    for length in (0, 7, 41, 2000):
        assert aead.open(bytes(13), b"", bytes(length)) is None
    assert aead.tag_length == 8
    # A frame is too long even when its tag is right.
    assert aead.open(bytes(13), b"", AESCCM(bytes(16), tag_length=8).encrypt(bytes(13), bytes(33), b"")) is None
