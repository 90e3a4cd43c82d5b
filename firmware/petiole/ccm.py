"""AES-CCM (RFC 3610) with a 2-byte length field and a 13-byte nonce, on top of an injected AES.

The AES object holds one key and works in C on whole blocks:
  cbc_mac(buf)           CBC-encrypt `buf` in place, zero IV
  keystream(first, out)  fill `out` with E(first), E(first + 1), ...; `first` (16 bytes) ends in two zeros and
                         `out` has at most 255 blocks, so only the last byte of the counter changes
Both `buf` and `out` are memoryviews of 16 * n bytes.
"""

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import Aes

NONCE_LENGTH = 13
MAX_AAD = 32
_PADDING = bytes(15)
# One XOR of integers is many times faster than a loop over bytes, and pieces need no large piece of a heap in pieces.
_PIECE = 64


def scratch(max_length: int = 256) -> tuple[memoryview, memoryview]:
    """Working memory of a `Ccm`. Several may share it, as long as no two of them run at the same time."""
    blocks = (max_length + 15) // 16
    if not 0 < blocks < 255:
        raise ValueError("max_length")
    # First block, length and AAD (2 + 32 bytes, padded), plaintext; first key block, one key block each, tag.
    return memoryview(bytearray(64 + 16 * blocks)), memoryview(bytearray(32 + 16 * blocks))


class Ccm:
    """`tag_length`: 4 to 16, even. Plaintexts have at most `max_length` bytes, additional data at most 32.

    A wrong nonce length or too long an input of one's own raises ValueError; a peer's bad data is None.
    """

    def __init__(
        self,
        aes: "Aes",
        tag_length: int = 8,
        max_length: int = 256,
        buffers: tuple[memoryview, memoryview] | None = None,
    ) -> None:
        if tag_length not in (4, 6, 8, 10, 12, 14, 16):
            raise ValueError("tag_length")
        self._aes = aes
        self.tag_length = tag_length
        self._mac, self._stream = buffers or scratch(max_length)
        self._max_length = min(max_length, len(self._stream) - 32)

    def seal(self, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Return ciphertext + tag."""
        length = len(plaintext)
        if length > self._max_length:
            raise ValueError("plaintext")
        first = self._first(nonce, aad)
        self._keystream(first, length)
        self._apply(plaintext, length)
        stream = self._stream
        tag = self._tag(first, aad, plaintext) ^ int.from_bytes(stream[: self.tag_length], "big")
        end = 16 + length + self.tag_length
        stream[16 + length : end] = tag.to_bytes(self.tag_length, "big")
        return bytes(stream[16:end])

    def open(self, nonce: bytes, aad: bytes, data: bytes) -> bytes | None:
        """Return the plaintext, or None when the tag is wrong or the length impossible."""
        length = len(data) - self.tag_length
        if length < 0 or length > self._max_length:
            return None
        first = self._first(nonce, aad)
        self._keystream(first, length)
        view = memoryview(data)
        text = self._apply(view, length)
        tag = self._tag(first, aad, text) ^ int.from_bytes(self._stream[: self.tag_length], "big")
        # A comparison of bytes would stop at the first difference and tell how much of a tag was guessed.
        if tag ^ int.from_bytes(view[length:], "big"):
            return None
        return bytes(text)

    def _first(self, nonce: bytes, aad: bytes) -> bytes:
        """Return block A_0 (RFC 3610 §2.3), of which block B_0 is another copy with flags and length."""
        if len(nonce) != NONCE_LENGTH:
            raise ValueError("nonce")
        if len(aad) > MAX_AAD:
            raise ValueError("aad")
        return b"\x01" + nonce + b"\0\0"

    def _keystream(self, first: bytes, length: int) -> None:
        self._aes.keystream(first, self._stream[: 16 + (length + 15 & ~15)])

    def _apply(self, data: bytes | bytearray | memoryview, length: int) -> memoryview:
        """Put the XOR of the data and the key stream in the place of the latter."""
        stream = self._stream[16 : 16 + length]
        view = memoryview(data)
        for start in range(0, length, _PIECE):
            end = min(start + _PIECE, length)
            mixed = int.from_bytes(view[start:end], "big") ^ int.from_bytes(stream[start:end], "big")
            stream[start:end] = mixed.to_bytes(end - start, "big")
        return stream

    def _tag(self, first: bytes, aad: bytes, plaintext: bytes | bytearray | memoryview) -> int:
        mac = self._mac
        length = len(plaintext)
        mac[:16] = first
        # RFC 3610 §2.2: flags 64 * (AAD present) + 8 * ((tag_length - 2) / 2) + 1.
        mac[0] = (65 if aad else 1) + 4 * (self.tag_length - 2)
        mac[14] = length >> 8
        mac[15] = length & 255
        end = 16
        if aad:
            end = 18 + len(aad)
            mac[16] = 0
            mac[17] = len(aad)
            mac[18:end] = aad
            end = self._pad(end)
        mac[end : end + length] = plaintext
        end = self._pad(end + length)
        self._aes.cbc_mac(mac[:end])
        return int.from_bytes(mac[end - 16 : end - 16 + self.tag_length], "big")

    def _pad(self, end: int) -> int:
        gap = -end & 15
        if gap:
            self._mac[end : end + gap] = _PADDING[:gap]
        return end + gap
