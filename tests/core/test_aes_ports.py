import sys

from tests.core.support import Aes, Rng

BLOCK = 16


class FakeAesio:
    """CircuitPython's `aesio` with its habits: an IV that runs on, equal lengths, whole blocks for CBC."""

    MODE_CBC = 2
    MODE_CTR = 6

    class AES:
        def __init__(self, key, mode, iv):
            self._mode = mode
            self.rekey(key, iv)

        def rekey(self, key, iv):
            self._key = key
            self._iv = iv

        def encrypt_into(self, source, target):
            assert len(source) == len(target)
            if self._mode == FakeAesio.MODE_CBC:
                assert len(source) % BLOCK == 0
            for start in range(0, len(source), BLOCK):
                block = bytes(source[start : start + BLOCK])
                if self._mode == FakeAesio.MODE_CBC:
                    self._iv = encrypt_block(self._key, xor(block, self._iv))
                    target[start : start + BLOCK] = self._iv
                else:
                    target[start : start + BLOCK] = xor(block, encrypt_block(self._key, self._iv))
                    self._iv = (int.from_bytes(self._iv, "big") + 1).to_bytes(BLOCK, "big")


def encrypt_block(key, block):
    # CBC of one block with a zero IV is the bare cipher.
    buffer = bytearray(block)
    Aes(key).cbc_mac(memoryview(buffer))
    return bytes(buffer)


def xor(a, b):
    return bytes([x ^ y for x, y in zip(a, b)])


def circuitpython_aes(key):
    sys.modules["aesio"] = FakeAesio
    try:
        from petiole_node.port.aes_aesio import Aes as AesioAes
    finally:
        del sys.modules["aesio"]
    return AesioAes(key)


def test_the_cipher_is_aes_128():
    # FIPS 197, appendix C.1.
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert encrypt_block(bytes(range(16)), block).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_a_cbc_mac_starts_from_zero_every_time():
    for make in (Aes, circuitpython_aes):
        aes = make(bytes(range(16)))
        results = []
        for _ in range(2):
            buffer = bytearray(range(64))
            aes.cbc_mac(memoryview(buffer))
            results.append(bytes(buffer))
        assert results[0] == results[1]
        block = bytes(BLOCK)
        for start in range(0, 64, BLOCK):
            block = encrypt_block(bytes(range(16)), xor(block, bytes(range(start, start + BLOCK))))
            assert results[0][start : start + BLOCK] == block


def test_a_keystream_counts_in_the_last_byte():
    rng = Rng(7)
    key = rng.bytes(16)
    # 0xFF and 0x00 inside the nonce must stay what they are.
    for middle in (rng.bytes(13), b"\xff" * 13, bytes(13), b"\xff\0" * 6 + b"\xff"):
        first = b"\1" + middle + b"\0\0"
        for make in (Aes, circuitpython_aes):
            aes = make(key)
            for count in (1, 2, 17, 18, 255):
                out = bytearray(b"\xaa" * (BLOCK * count))
                aes.keystream(first, memoryview(out))
                for index in (0, count // 2, count - 1):
                    expected = encrypt_block(key, first[:15] + bytes([index]))
                    assert out[BLOCK * index : BLOCK * index + BLOCK] == expected


def test_a_heap_in_pieces_gives_the_same_mac():
    if sys.implementation.name != "micropython":
        return  # the port under test is that of MicroPython's `cryptolib`
    rng = Rng(9)
    for count in (1, 2, 17):
        aes = Aes(rng.bytes(16))
        data = rng.bytes(BLOCK * count)
        fast = bytearray(data)
        aes.cbc_mac(memoryview(fast))
        slow = bytearray(data)
        aes.mac_in_pieces(memoryview(slow))
        assert slow == fast
        first = b"\1" + rng.bytes(13) + b"\0\0"
        stream = bytearray(BLOCK * count)
        aes.keystream(first, memoryview(stream))
        pieces = bytearray(BLOCK * count)
        aes.stream_in_pieces(first, memoryview(pieces))
        assert pieces == stream
