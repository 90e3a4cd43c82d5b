"""HMAC-SHA-256 (RFC 2104) and HKDF (RFC 5869) on hashlib.sha256 alone."""

from hashlib import sha256

# Whole blocks as integers: one XOR each instead of a loop.
_INNER = int.from_bytes(b"\x36" * 64, "big")
_OUTER = int.from_bytes(b"\x5c" * 64, "big")


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    if len(key) > 64:
        key = sha256(key).digest()
    block = int.from_bytes(key + bytes(64 - len(key)), "big")
    inner = sha256((block ^ _INNER).to_bytes(64, "big"))
    inner.update(message)
    outer = sha256((block ^ _OUTER).to_bytes(64, "big"))
    outer.update(inner.digest())
    return outer.digest()


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """RFC 5869 §2.2. No salt is b"": HMAC pads its key with zeros."""
    return hmac_sha256(salt, ikm)


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 §2.3; `length` up to 8160, else ValueError."""
    if not 0 <= length <= 255 * 32:
        raise ValueError("length")
    out = b""
    block = b""
    counter = 1
    while len(out) < length:
        block = hmac_sha256(prk, block + info + bytes((counter,)))
        out += block
        counter += 1
    return out[:length]
