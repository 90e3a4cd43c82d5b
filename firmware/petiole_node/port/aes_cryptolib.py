"""AES for `petiole.ccm` on MicroPython: `cryptolib` has ECB and CBC on every stock board, but no CTR."""

from cryptolib import aes  # type: ignore[import-not-found]  # a board's module

_ECB = 1
_CBC = 2
_ZERO = bytes(16)
_MARK = b"\xff"

# Mark and counter of each block of a frame. Replacing the marks by what the blocks have in common yields all
# the counter blocks in one call.
_COUNTERS = b"".join([bytes((255, i)) for i in range(17)])


class Aes:
    """One key of 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = bytes(key)
        self._ecb = aes(self._key, _ECB)

    def cbc_mac(self, buf: memoryview) -> None:
        # A CBC object goes on from its last block, so each frame needs a new one.
        aes(self._key, _CBC, _ZERO).encrypt(buf, buf)

    def keystream(self, first: bytes, out: memoryview) -> None:
        count = len(out) // 16
        counters = _COUNTERS[: 2 * count]
        if count > 17:
            counters = b"".join([bytes((255, i)) for i in range(count)])
        self._ecb.encrypt(counters.replace(_MARK, first[:15]), out)
