"""Keys and nonces as in OSCORE (RFC 8613) for AES-CCM-16-64-128 and HKDF-SHA-256."""

from petiole.cbor import encode
from petiole.hkdf import hkdf_expand, hkdf_extract

_ALGORITHM = 10  # RFC 9053 §4.2: AES-CCM-16-64-128
_KEY_LENGTH = 16
_NONCE_LENGTH = 13
_MAX_ID = _NONCE_LENGTH - 6
_MAX_PARTIAL_IV = 5


def derive(
    master_secret: bytes,
    master_salt: bytes,
    sender_id: bytes,
    recipient_id: bytes,
    id_context: bytes | None = None,
) -> tuple[bytes, bytes, bytes]:
    """RFC 8613 §3.2.1: return (sender key, recipient key, common IV)."""
    prk = hkdf_extract(master_salt, master_secret)

    def expand(identity: bytes, kind: str, length: int) -> bytes:
        return hkdf_expand(prk, encode((identity, id_context, _ALGORITHM, kind, length)), length)

    return (
        expand(sender_id, "Key", _KEY_LENGTH),
        expand(recipient_id, "Key", _KEY_LENGTH),
        expand(b"", "IV", _NONCE_LENGTH),
    )


def nonce(common_iv: bytes, id_piv: bytes, partial_iv: bytes) -> bytes:
    """RFC 8613 §5.2. `id_piv`: the sender's identifier, up to 7 bytes; `partial_iv`: its counter, 1 to 5."""
    if len(common_iv) != _NONCE_LENGTH or len(id_piv) > _MAX_ID or not 0 < len(partial_iv) <= _MAX_PARTIAL_IV:
        raise ValueError("nonce")
    value = len(id_piv) << 96 | int.from_bytes(id_piv, "big") << 40 | int.from_bytes(partial_iv, "big")
    return (value ^ int.from_bytes(common_iv, "big")).to_bytes(_NONCE_LENGTH, "big")
