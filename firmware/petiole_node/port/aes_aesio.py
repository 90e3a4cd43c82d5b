"""AES for `petiole.ccm` on CircuitPython: `aesio` has CTR, and ECB for one block per call only."""

import aesio  # type: ignore[import-not-found]  # a board's module

_ZERO = bytes(16)


class Aes:
    """One key of 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = bytes(key)
        self._cbc = aesio.AES(self._key, aesio.MODE_CBC, _ZERO)
        self._ctr = aesio.AES(self._key, aesio.MODE_CTR, _ZERO)

    def cbc_mac(self, buf: memoryview) -> None:
        self._cbc.rekey(self._key, _ZERO)
        self._cbc.encrypt_into(buf, buf)

    def keystream(self, first: bytes, out: memoryview) -> None:
        self._ctr.rekey(self._key, first)
        self._ctr.encrypt_into(bytes(len(out)), out)
