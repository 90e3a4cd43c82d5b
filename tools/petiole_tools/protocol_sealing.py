"""Keys and frames of PROTOCOL.md written a second time, on `cryptography` and `cbor2`, for the test vectors.

Nothing here comes from the core: what both ends of it misread alike would show as a difference.
"""

import hashlib
import hmac
from dataclasses import dataclass

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NODE, GATEWAY = b"\x00", b"\x01"


def device_id(device_key: bytes) -> bytes:
    return hmac.new(device_key, b"petiole device id", hashlib.sha256).digest()[:3]


@dataclass(frozen=True)
class Context:
    """A security context of RFC 8613: both sender keys and the common IV."""

    node_key: bytes
    gateway_key: bytes
    common_iv: bytes

    def key(self, sender: bytes) -> bytes:
        return self.node_key if sender == NODE else self.gateway_key

    def describe(self) -> dict[str, str]:
        return {
            "node_key": self.node_key.hex(),
            "gateway_key": self.gateway_key.hex(),
            "common_iv": self.common_iv.hex(),
        }


def derive(device_key: bytes, salt: bytes, id_context: bytes | None) -> Context:
    """RFC 8613, section 3.2.1."""

    def part(identity: bytes, kind: str, length: int) -> bytes:
        info = cbor2.dumps([identity, id_context, 10, kind, length])
        return HKDF(SHA256(), length, salt, info).derive(device_key)

    return Context(part(NODE, "Key", 16), part(GATEWAY, "Key", 16), part(b"", "IV", 13))


def join_context(device_key: bytes) -> Context:
    return derive(device_key, b"petiole 1 join", None)


def session_context(device_key: bytes, request: bytes, accept_nonce: bytes) -> Context:
    return derive(device_key, b"petiole 1 session", request + accept_nonce)


def nonce(context: Context, identity: bytes, partial_iv: int) -> bytes:
    """RFC 8613, section 5.2: length of the id, the id in 7 bytes, the partial IV in 5, XOR the common IV."""
    plain = bytes((len(identity),)) + identity.rjust(7, b"\0") + partial_iv.to_bytes(5, "big")
    return bytes(a ^ b for a, b in zip(plain, context.common_iv, strict=True))


def address_bytes(address: int) -> bytes:
    return bytes((address,)) if address < 128 else (0x8000 | address).to_bytes(2, "big")


def _header(kind: int, address: int | None, low: int) -> tuple[bytes, bytes]:
    """The header byte without bit A, which is authenticated, and what is sent: header and address."""
    clear = kind << 5 | low
    if address is None:
        return bytes((clear,)), bytes((clear,))
    return bytes((clear,)), bytes((clear | 0x10,)) + address_bytes(address)


def data(
    context: Context,
    sender: bytes,
    counter: int,
    plaintext: bytes,
    address: int | None = None,
    is_long: bool = False,
    tag_length: int = 8,
) -> bytes:
    """A DATA frame."""
    clear, sent = _header(1, address, 8 if is_long else 0)
    shown = counter.to_bytes(4, "big") if is_long else bytes((counter % 256,))
    seal = AESCCM(context.key(sender), tag_length=tag_length).encrypt
    return sent + shown + seal(nonce(context, sender, counter), plaintext, clear)


def ack(context: Context, sender: bytes, acknowledged: int, address: int | None = None, tag_length: int = 8) -> bytes:
    """The ACK frame with which `sender` acknowledges a counter of the other end."""
    clear, sent = _header(2, address, acknowledged % 8)
    receiver = GATEWAY if sender == NODE else NODE
    seal = AESCCM(context.key(sender), tag_length=tag_length).encrypt
    return sent + seal(nonce(context, receiver, acknowledged), b"", clear)


def reject(reason: int, rejected: bytes, address: int | None = None) -> bytes:
    return _header(5, address, reason)[1] + rejected[-4:]


def join_request(
    device_key: bytes, random: bytes, boot: int, plaintext: bytes, is_full: bool, version: int = 1
) -> bytes:
    context = join_context(device_key)
    clear = bytes((3 << 5 | is_full << 4 | version,)) + device_id(device_key) + random + bytes((boot,))
    partial_iv = int.from_bytes(random + bytes((boot,)), "big")
    return clear + AESCCM(context.node_key, tag_length=4).encrypt(nonce(context, NODE, partial_iv), plaintext, clear)


def join_accept(
    device_key: bytes,
    request: bytes,
    accept_nonce: bytes,
    plaintext: bytes,
    is_full: bool,
    is_doubtful: bool = False,
    version: int = 1,
) -> bytes:
    context = session_context(device_key, request, accept_nonce)
    header = bytes((4 << 5 | is_full << 4 | is_doubtful << 3 | version,))
    sealed = AESCCM(context.gateway_key, tag_length=8).encrypt(nonce(context, GATEWAY, 0), plaintext, header)
    return header + accept_nonce + sealed
