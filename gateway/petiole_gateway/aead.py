"""AES-CCM at C speed for the gateway, and the AES that lets `petiole.ccm` itself run on CPython."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from petiole.ccm import MAX_AAD, NONCE_LENGTH


class AesCcm:
    """The interface and the limits of `petiole.ccm.Ccm`, from a key instead of an AES object."""

    def __init__(self, key: bytes, tag_length: int = 8, max_length: int = 256) -> None:
        self._ccm = AESCCM(key, tag_length=tag_length)
        self.tag_length = tag_length
        self._max_length = max_length

    def seal(self, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        self._check(nonce, aad)
        if len(plaintext) > self._max_length:
            raise ValueError("plaintext")
        return self._ccm.encrypt(nonce, plaintext, aad)

    def open(self, nonce: bytes, aad: bytes, data: bytes) -> bytes | None:
        self._check(nonce, aad)
        if not 0 <= len(data) - self.tag_length <= self._max_length:
            return None
        try:
            return self._ccm.decrypt(nonce, data, aad)
        except InvalidTag:
            return None

    def _check(self, nonce: bytes, aad: bytes) -> None:
        if len(nonce) != NONCE_LENGTH:
            raise ValueError("nonce")
        if len(aad) > MAX_AAD:
            raise ValueError("aad")


class Aes:
    """The contract of `petiole.ccm` for one key of 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = AES(key)

    def cbc_mac(self, buf: memoryview) -> None:
        buf[:] = Cipher(self._key, CBC(bytes(16))).encryptor().update(bytes(buf))

    def keystream(self, first: bytes, out: memoryview) -> None:
        blocks = b"".join(first[:15] + bytes((i,)) for i in range(len(out) // 16))
        out[:] = Cipher(self._key, ECB()).encryptor().update(blocks)  # noqa: S305 - a building block of CCM
