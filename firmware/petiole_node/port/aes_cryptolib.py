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
        try:
            # A CBC object goes on from its last block, so each frame needs a new one.
            aes(self._key, _CBC, _ZERO).encrypt(buf, buf)
        except MemoryError:
            self.mac_in_pieces(buf)

    def mac_in_pieces(self, buf: memoryview) -> None:
        """The same, slower, without the 300 bytes of a CBC object."""
        mac = 0
        for start in range(0, len(buf), 16):
            block = buf[start : start + 16]
            block[:] = (int.from_bytes(block, "big") ^ mac).to_bytes(16, "big")
            self._ecb.encrypt(block, block)
            mac = int.from_bytes(block, "big")

    def keystream(self, first: bytes, out: memoryview) -> None:
        count = len(out) // 16
        counters = _COUNTERS[: 2 * count]
        if count > 17:
            counters = b"".join([bytes((255, i)) for i in range(count)])
        try:
            self._ecb.encrypt(counters.replace(_MARK, first[:15]), out)
        except MemoryError:
            self.stream_in_pieces(first, out)

    def stream_in_pieces(self, first: bytes, out: memoryview) -> None:
        for i in range(len(out) // 16):
            out[16 * i : 16 * i + 16] = first[:15] + bytes((i,))
        self._ecb.encrypt(out, out)
