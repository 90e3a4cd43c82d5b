"""The join, both roles (PROTOCOL.md, sections 5 and 6)."""

from petiole import frame as frames
from petiole import hkdf, oscore, wire
from petiole.errors import LocalError
from petiole.frame import Keys, Split

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import Aead, AeadFactory


def device_id(device_key: bytes) -> bytes:
    """The 3 bytes by which a gateway finds the key."""
    return hkdf.hmac_sha256(device_key, wire.DEVICE_ID_LABEL)[: wire.DEVICE_ID_LENGTH]


def check_key(device_key: bytes) -> None:
    """Raises LocalError unless the key has 16 bytes."""
    if len(device_key) != wire.KEY_LENGTH:
        raise LocalError("device key", "16 bytes, got " + str(len(device_key)))


def session_keys(
    aead: "AeadFactory", device_key: bytes, request: bytes, nonce: bytes, is_node: bool, tag_length: int
) -> "tuple[Keys, Aead]":
    """Keys of the session made by this request and the 7 nonce bytes of its accept, and the AEAD of the accept."""
    own, peer = (wire.NODE_ID, wire.GATEWAY_ID) if is_node else (wire.GATEWAY_ID, wire.NODE_ID)
    sender, recipient, iv = oscore.derive(device_key, wire.SESSION_SALT, own, peer, request + nonce)
    keys = Keys(aead(sender, tag_length), aead(recipient, tag_length), iv, own, peer, tag_length)
    return keys, aead(recipient if is_node else sender, wire.TAG_LENGTH)


class JoinRequest:
    """An opened JOIN_REQUEST."""

    __slots__ = ("boot", "frame", "manifest_hash", "reset_reason", "wants_full_sequence")

    def __init__(self, frame: bytes, boot: int, reset_reason: int, manifest_hash: bytes, full: bool) -> None:
        self.frame = frame
        self.boot = boot
        self.reset_reason = reset_reason
        self.manifest_hash = manifest_hash
        self.wants_full_sequence = full


class JoinAccept:
    """An opened JOIN_ACCEPT. `sequence` is whole: already related to the node's own `next_sequence`.

    `is_exact`: all of its bytes were in the accept. `origin`: what the keys come from, with the device key.
    """

    __slots__ = ("address", "is_doubtful", "is_exact", "keys", "origin", "sequence", "time")

    def __init__(
        self, keys: Keys, address: int, sequence: int, time: int, is_doubtful: bool, is_exact: bool, origin: bytes
    ) -> None:
        self.keys = keys
        self.origin = origin
        self.address = address
        self.sequence = sequence
        self.time = time
        self.is_doubtful = is_doubtful
        self.is_exact = is_exact


class Joiner:
    """The node's side: makes requests and opens the accept of the last one."""

    def __init__(self, aead: "AeadFactory", device_key: bytes, tag_length: int = wire.TAG_LENGTH) -> None:
        check_key(device_key)
        self._aead = aead
        self._key = device_key
        self._tag_length = tag_length
        self._id = device_id(device_key)
        sender, _, self._iv = oscore.derive(device_key, wire.JOIN_SALT, wire.NODE_ID, wire.GATEWAY_ID)
        self._seal = aead(sender, wire.JOIN_TAG_LENGTH).seal
        self.request = b""  # the one that waits for its accept

    def start(self, random: bytes, boot: int, reset_reason: int, manifest_hash: bytes, full: bool) -> bytes:
        """A new JOIN_REQUEST. `random`: 4 fresh bytes of a cryptographic source."""
        header = wire.JOIN_REQUEST | wire.VERSION | (wire.FULL_SEQUENCE if full else 0)
        clear = bytes((header,)) + self._id + random + bytes((boot & 255,))
        nonce = oscore.nonce(self._iv, wire.NODE_ID, clear[4:])
        body = bytes((reset_reason,)) + manifest_hash[: wire.MANIFEST_HASH_LENGTH]
        self.request = clear + self._seal(nonce, clear, body)
        return self.request

    def keys(self, request: bytes, nonce: bytes) -> "tuple[Keys, Aead]":
        """Of the session that this request and the nonce of its accept made, and the AEAD of the accept."""
        return session_keys(self._aead, self._key, request, nonce, True, self._tag_length)

    def accept(self, part: Split, next_sequence: int) -> JoinAccept | None:
        """Open a JOIN_ACCEPT of the last request; None if it is not one."""
        if not self.request or part.header & 7 != wire.VERSION:
            return None
        nonce = part.body[: wire.ACCEPT_NONCE_LENGTH]
        keys, aead = self.keys(self.request, nonce)
        sealed = part.body[wire.ACCEPT_NONCE_LENGTH :]
        text = aead.open(oscore.nonce(keys.common_iv, wire.GATEWAY_ID, b"\x00"), bytes((part.header,)), sealed)
        size = 4 if part.header & wire.FULL_SEQUENCE else 2
        if text is None or len(text) != size + (2 if text[0] & 0x80 else 1):
            return None
        address = text[0] if len(text) == size + 1 else (text[0] & 0x7F) << 8 | text[1]
        if len(text) > size + 1 and address < 128:
            return None
        sequence = int.from_bytes(text[-size:], "big")
        if size == 2:
            own = next_sequence - 1
            sequence = own + ((sequence - own + 0x8000) & 0xFFFF) - 0x8000
            if sequence < 0:
                sequence += 0x10000
        origin = self.request + nonce
        self.request = b""
        is_doubtful = part.header & wire.DOUBTFUL_CLOCK != 0
        return JoinAccept(keys, address, sequence, int.from_bytes(nonce[:6], "big"), is_doubtful, size == 4, origin)


def open_request(aead: "AeadFactory", device_key: bytes, frame: bytes) -> JoinRequest | None:
    """The gateway's side: open a JOIN_REQUEST (a frame that `split` has passed) with a device's key."""
    sender, _, iv = oscore.derive(device_key, wire.JOIN_SALT, wire.NODE_ID, wire.GATEWAY_ID)
    clear = frame[: 4 + wire.JOIN_RANDOM_LENGTH + 1]
    text = aead(sender, wire.JOIN_TAG_LENGTH).open(
        oscore.nonce(iv, wire.NODE_ID, clear[4:]), clear, frame[len(clear) :]
    )
    if text is None or len(text) != 1 + wire.MANIFEST_HASH_LENGTH:
        return None
    return JoinRequest(frame, clear[-1], text[0] & 15, text[1:], frame[0] & wire.FULL_SEQUENCE != 0)


def accept(
    aead: "AeadFactory",
    device_key: bytes,
    request: JoinRequest,
    address: int,
    sequence: int,
    nonce: bytes,
    is_doubtful: bool = False,
    tag_length: int = wire.TAG_LENGTH,
) -> "tuple[bytes, Keys]":
    """The JOIN_ACCEPT of an opened request, and the gateway's keys of the session it makes.

    `nonce`: the gateway's time (6 bytes, greater than in any accept before) and one random byte.
    """
    keys, accept_aead = session_keys(aead, device_key, request.frame, nonce, False, tag_length)
    header = wire.JOIN_ACCEPT | wire.VERSION
    size = 2
    if request.wants_full_sequence or not sequence:
        # A gateway that is new to the node has taken nothing: two bytes of that could be read as 65536.
        header |= wire.FULL_SEQUENCE
        size = 4
    if is_doubtful:
        header |= wire.DOUBTFUL_CLOCK
    text = frames.encode_address(address) + (sequence & (1 << 8 * size) - 1).to_bytes(size, "big")
    sealed = accept_aead.seal(oscore.nonce(keys.common_iv, wire.GATEWAY_ID, b"\x00"), bytes((header,)), text)
    return bytes((header,)) + nonce + sealed, keys
