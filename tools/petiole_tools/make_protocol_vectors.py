"""The test vectors of the protocol itself: keys, joins, frames, records and fragments, from PROTOCOL.md.

Made without the core, by `protocol_sealing` and `protocol_records`. `make_vectors` writes the files.
"""

import hashlib
from typing import Any

from . import protocol_records as r
from . import protocol_sealing as s
from .protocol_sealing import GATEWAY, NODE

Case = dict[str, Any]
SOURCE = "PROTOCOL.md, with AESCCM and HKDF of `cryptography` and with `cbor2`"

KEY = bytes(range(16))
OTHER_KEY = bytes.fromhex("f0e1d2c3b4a5968778695a4b3c2d1e0f")
TIME = 1_800_000_000_000
MANIFEST = {
    "p": [0, 0],
    "ch": [[0, "temperature", "Cel", "f", 60]],
    "fw": "1.2.3",
    "cmd": [[0, "led", [["on", "b", True]]]],
}
MANIFEST_HASH = hashlib.sha256(r.cbor(MANIFEST)).digest()[:3]
RANDOM = bytes.fromhex("c0ffee42")
BOOT = 7
REQUEST = s.join_request(KEY, RANDOM, BOOT, b"\x01" + MANIFEST_HASH, False)
NONCE = TIME.to_bytes(6, "big") + b"\x5a"
SESSION = s.session_context(KEY, REQUEST, NONCE)


def keys() -> dict[str, Any]:
    return {
        "source": SOURCE,
        "device_ids": [_device_id(key) for key in (KEY, OTHER_KEY, bytes(16), b"\xff" * 16, *_colliding())],
        "contexts": [_contexts(KEY, RANDOM), _contexts(OTHER_KEY, bytes(4))],
    }


def _device_id(key: bytes) -> Case:
    return {"device_key": key.hex(), "device_id": s.device_id(key).hex()}


def _colliding() -> tuple[bytes, bytes]:
    """Two keys with one id."""
    seen: dict[bytes, bytes] = {}
    number = 0
    while True:
        key = hashlib.sha256(b"petiole" + number.to_bytes(4, "big")).digest()[:16]
        other = seen.setdefault(s.device_id(key), key)
        if other != key:
            return other, key
        number += 1


def _contexts(key: bytes, random: bytes) -> Case:
    request = s.join_request(key, random, BOOT, b"\x01" + MANIFEST_HASH, False)
    join = s.join_context(key)
    session = s.session_context(key, request, NONCE)
    nonces: list[Case] = [
        _nonce("JOIN_REQUEST", join, NODE, NODE, int.from_bytes(random + bytes((BOOT,)), "big")),
        _nonce("JOIN_ACCEPT", session, GATEWAY, GATEWAY, 0),
    ]
    for counter in (1, 255, 256, 65535, 65536, 0x01000000, 0x7FFFFFFF):
        for sender, receiver in ((NODE, GATEWAY), (GATEWAY, NODE)):
            nonces.append(_nonce("DATA", session, sender, sender, counter))
            nonces.append(_nonce("ACK", session, sender, receiver, counter))
    return {
        "device_key": key.hex(),
        "request": request.hex(),
        "accept_nonce": NONCE.hex(),
        "join": join.describe(),
        "session": session.describe(),
        "nonces": nonces,
    }


def _nonce(frame: str, context: s.Context, sender: bytes, identity: bytes, partial_iv: int) -> Case:
    return {
        "frame": frame,
        "sender": "node" if sender == NODE else "gateway",
        "id": identity.hex(),
        "partial_iv": partial_iv,
        "nonce": s.nonce(context, identity, partial_iv).hex(),
    }


# Joins -----------------------------------------------------------------------------------------------------


def join() -> dict[str, Any]:
    """`own`: the last number that the node has given. `sequence`: what it takes the number in the accept for."""
    return {
        "source": SOURCE,
        "valid": [
            _join("compact", own=44, sequence=40),
            _join("compact, nothing new", own=40, sequence=40),
            _join("full", is_full=True, sequence=70127),
            _join("a gateway that has taken nothing answers in full", own=40000, sequence=0, is_accept_full=True),
            _join("doubtful clock", own=44, sequence=40, is_doubtful=True),
            _join("full, doubtful clock", is_full=True, sequence=0, is_doubtful=True),
            _join("address of two bytes", own=44, sequence=40, address=300),
            _join("lowest address of two bytes", own=44, sequence=40, address=128),
            _join("highest address of one byte", own=44, sequence=40, address=127),
            _join("highest address", own=44, sequence=40, address=32767),
            _join("two bytes across a border", own=65540, sequence=65530),
            _join("two bytes, half the range behind", own=100000, sequence=100000 - 32768),
            _join("a number above the node's own", own=10, sequence=300),
            _join("a number far above the node's own", own=10, sequence=65530),
            _join("a number above the node's own, across a border", own=65530, sequence=65540),
            _join("woke from sleep, other boot, other random", own=1, sequence=1, boot=255, reset=4, random="00000000"),
        ],
        "invalid": _invalid_joins(),
    }


def _join(
    name: str,
    *,
    own: int = 0,
    sequence: int,
    is_full: bool = False,
    is_accept_full: bool = False,
    is_doubtful: bool = False,
    address: int = 1,
    boot: int = BOOT,
    reset: int = 1,
    random: str = "c0ffee42",
) -> Case:
    is_accept_full = is_accept_full or is_full
    request = s.join_request(KEY, bytes.fromhex(random), boot, bytes((reset,)) + MANIFEST_HASH, is_full)
    size = 4 if is_accept_full else 2
    plaintext = s.address_bytes(address) + (sequence % (1 << 8 * size)).to_bytes(size, "big")
    context = s.session_context(KEY, request, NONCE)
    return {
        "name": name,
        "device_key": KEY.hex(),
        "random": random,
        "boot": boot,
        "reset_reason": reset,
        "manifest_hash": MANIFEST_HASH.hex(),
        "wants_full_sequence": is_full,
        "request": request.hex(),
        "time": TIME,
        "accept_nonce": NONCE.hex(),
        "is_doubtful": is_doubtful,
        "address": address,
        "own": own,
        "sequence": sequence,
        "is_exact": is_accept_full,
        "accept_plaintext": plaintext.hex(),
        "accept": s.join_accept(KEY, request, NONCE, plaintext, is_accept_full, is_doubtful).hex(),
        "session": context.describe(),
        "first_frame": s.data(context, NODE, 1, b"").hex(),
    }


def _invalid_joins() -> list[Case]:
    """All are dropped as `tag`: nothing tells a wrong key from a wrong byte."""
    good = bytes.fromhex("010028")
    accept = s.join_accept(KEY, REQUEST, NONCE, good, False)
    other = s.join_request(KEY, b"\0\0\0\0", BOOT, b"\x01" + MANIFEST_HASH, False)
    out = []
    for at, what in ((0, "F"), (1, "device id"), (4, "random"), (8, "boot"), (9, "ciphertext"), (16, "tag")):
        changed = bytearray(REQUEST)
        changed[at] ^= 0x10
        out.append(_invalid_join(f"request with another {what}", "request", bytes(changed)))
    out.append(_invalid_join("request with one byte more", "request", REQUEST + b"\0"))
    long = s.join_request(KEY, RANDOM, BOOT, b"\x01" + MANIFEST_HASH + b"\0", False)
    out.append(_invalid_join("request with a byte too many inside", "request", long))
    foreign = s.join_request(OTHER_KEY, RANDOM, BOOT, b"\x01" + MANIFEST_HASH, False)
    out.append(_invalid_join("request under another key", "request", KEY_ID + foreign[4:]))
    for at, what in ((0, "D"), (3, "time"), (7, "random"), (8, "ciphertext"), (18, "tag")):
        changed = bytearray(accept)
        changed[at] ^= 0x08
        out.append(_invalid_join(f"accept with another {what}", "accept", bytes(changed)))
    out.append(_invalid_join("accept of another request", "accept", s.join_accept(KEY, other, NONCE, good, False)))
    for name, plaintext, is_full in (
        ("accept with a byte too many", b"\x01\x00\x28\x00", False),
        ("full accept with two bytes", b"\x81\x2c\x00\x28", True),
        ("accept whose address has two bytes and is below 128", b"\x80\x7f\x00\x28", False),
    ):
        out.append(_invalid_join(name, "accept", s.join_accept(KEY, REQUEST, NONCE, plaintext, is_full)))
    newer = s.join_accept(KEY, REQUEST, NONCE, good, False, version=2)
    out.append(_invalid_join("accept of a version that was not wanted", "accept", newer))
    return out


KEY_ID = REQUEST[:4]


def _invalid_join(name: str, what: str, frame: bytes) -> Case:
    return {"name": name, "device_key": KEY.hex(), "request": REQUEST.hex(), "what": what, "frame": frame.hex()}


# Frames ----------------------------------------------------------------------------------------------------


def frames() -> dict[str, Any]:
    """`highest`: of the receiver's opened counters; all below it were opened but those in `missing`.

    `unacknowledged`: counters of the receiver that wait for an ack.
    """
    return {
        "source": SOURCE,
        "session": SESSION.describe(),
        "address": 300,
        "valid": _valid_frames(),
        "invalid": _invalid_frames(),
    }


def _sender(sender: bytes) -> Case:
    return {"sender": "node" if sender == NODE else "gateway"}


def _data(name: str, sender: bytes, counter: int, highest: int, plaintext: bytes = b"", **options: Any) -> Case:
    missing = options.pop("missing", [])
    return {
        "name": name,
        "type": "DATA",
        **_sender(sender),
        "counter": counter,
        "highest": highest,
        "missing": missing,
        "address": options.get("address"),
        "is_long": options.get("is_long", False),
        "tag_length": options.get("tag_length", 8),
        "plaintext": plaintext.hex(),
        "frame": s.data(SESSION, sender, counter, plaintext, **options).hex(),
    }


def _ack(name: str, sender: bytes, counter: int, unacknowledged: list[int], **options: Any) -> Case:
    return {
        "name": name,
        "type": "ACK",
        **_sender(sender),
        "counter": counter,
        "unacknowledged": unacknowledged,
        "address": options.get("address"),
        "tag_length": options.get("tag_length", 8),
        "frame": s.ack(SESSION, sender, counter, **options).hex(),
    }


def _valid_frames() -> list[Case]:
    text = r.reading(0, r.NOW, 21.5, low=41)
    out = [
        _data("empty", NODE, 1, 0),
        _data("empty, downlink", GATEWAY, 1, 0),
        _data("a reading", NODE, 3, 2, text),
        _data("two-byte address", NODE, 3, 2, text, address=300),
        _data("one-byte address", NODE, 3, 2, text, address=127),
        _data("address 0", NODE, 3, 2, text, address=0),
        _data("lowest two-byte address", NODE, 3, 2, text, address=128),
        _data("highest address", NODE, 3, 2, text, address=32767),
        _data("long counter", NODE, 3, 2, text, is_long=True),
        _data("long counter and address", NODE, 70000, 3, text, is_long=True, address=300),
        _data("last counter", NODE, (1 << 31) - 1, 3, text, is_long=True),
        _data("counter byte 0", NODE, 256, 255, text),
        _data("counter byte across a border", NODE, 260, 250, text),
        _data("128 above the expected one", NODE, 1000 + 1 + 128, 1000, text),
        _data("129 above, where no other is possible", NODE, 132, 2, text),
        _data("late by 29", NODE, 1000 - 29, 1000, text, missing=[971]),
        _data("late across a border", NODE, 250, 260, text, missing=[250]),
        _data("4-byte tag", NODE, 3, 2, text, tag_length=4),
        _data("as long as can be", NODE, 3, 2, r.fragment(0, 0, 4096, bytes(224)) + bytes(11)),
        _ack("of the only one", GATEWAY, 3, [3]),
        _ack("uplink", NODE, 3, [3]),
        _ack("two-byte address", NODE, 3, [3], address=300),
        _ack("the newest of those with its lowest bits", GATEWAY, 17, [1, 9, 17]),
        _ack("an older one with the same lowest bits", GATEWAY, 9, [1, 9, 17]),
        _ack("a large counter", GATEWAY, 70001, [70000, 70001]),
        _ack("4-byte tag", GATEWAY, 3, [3], tag_length=4),
    ]
    sent = s.data(SESSION, NODE, 3, text)
    for reason, address in ((0, None), (1, None), (2, None), (3, None), (15, None), (0, 5), (0, 300)):
        out.append(
            {
                "name": f"reason {reason}" + (f", address {address}" if address is not None else ""),
                "type": "REJECT",
                **_sender(GATEWAY),
                "reason": reason,
                "address": address,
                "rejected": sent.hex(),
                "frame": s.reject(reason, sent, address).hex(),
            }
        )
    return out


def _invalid_frames() -> list[Case]:
    """What a receiver in the session has to drop. It waits for no accept, and for no ack but those in
    `unacknowledged`."""
    good = s.data(SESSION, NODE, 3, b"")
    down = s.data(SESSION, GATEWAY, 3, b"")
    long = s.data(SESSION, NODE, 3, b"", is_long=True)
    ack = s.ack(SESSION, GATEWAY, 3)
    accept = s.join_accept(KEY, REQUEST, NONCE, bytes.fromhex("010028"), False)
    reject = s.reject(0, good)
    both: list[tuple[str, str, bytes]] = [
        ("nothing", "empty", b""),
        ("251 bytes", "oversize", good + bytes(251 - len(good))),
        ("251 bytes of an unknown type", "oversize", bytes(251)),
        ("type 0", "unknown_type", b"\x01" + bytes(12)),
        ("type 0, one byte", "unknown_type", b"\x00"),
        ("type 6", "unknown_type", b"\xc0" + bytes(12)),
        ("type 7", "unknown_type", b"\xff" * 12),
        *((f"DATA, reserved bit {bit}", "reserved_bits", bytes((good[0] | bit,)) + good[1:]) for bit in (1, 2, 4)),
        ("ACK, reserved bit", "reserved_bits", bytes((ack[0] | 8,)) + ack[1:]),
        ("JOIN_REQUEST, reserved bit", "reserved_bits", bytes((REQUEST[0] | 8,)) + REQUEST[1:]),
        ("reserved bit, and too short", "reserved_bits", bytes((good[0] | 4,))),
        ("DATA, the header alone", "short", good[:1]),
        ("DATA, the address is missing", "short", bytes((good[0] | 0x10,))),
        ("DATA, half an address", "short", bytes((good[0] | 0x10, 0x81))),
        ("DATA, less than a tag of 4 bytes", "short", good[:5]),
        ("DATA with an address, less than a tag", "short", bytes((good[0] | 0x10, 5)) + good[1:5]),
        ("DATA with a long counter, less than a tag", "short", long[:8]),
        ("ACK, less than a tag of 4 bytes", "short", ack[:4]),
        ("JOIN_REQUEST, one byte less", "short", REQUEST[:-1]),
        ("JOIN_ACCEPT, one byte less than the shortest", "short", accept[:18]),
        ("REJECT without its echo", "short", reject[:4]),
        ("address 127 in two bytes", "address_form", bytes((good[0] | 0x10, 0x80, 127)) + good[1:]),
        ("address 127 in two bytes, and too short", "address_form", bytes((good[0] | 0x10, 0x80, 127))),
        ("address 0 in two bytes, REJECT", "address_form", bytes((reject[0] | 0x10, 0x80, 0)) + reject[1:]),
    ]
    out = [_drop(name, reason, "any", frame) for name, reason, frame in both]
    out += [
        _drop("another tag", "tag", "node", _flipped(down, -1)),
        _drop("another ciphertext", "tag", "node", _flipped(s.data(SESSION, GATEWAY, 3, r.PING), 2)),
        _drop("another counter", "tag", "node", _flipped(down, 1)),
        _drop("bit L set, counter to match", "tag", "node", b"\x28\0\0\0\x03" + down[2:]),
        _drop("cut by one byte", "tag", "node", down[:-1]),
        _drop("tag of 4 bytes where 8 are due", "tag", "node", s.data(SESSION, GATEWAY, 3, b"", tag_length=4)),
        _drop("a frame of its own kind, mirrored", "tag", "node", good),
        _drop("129 above the expected one", "tag", "gateway", s.data(SESSION, NODE, 1130, b""), highest=1000),
        _drop("128 below the expected counter", "tag", "gateway", s.data(SESSION, NODE, 873, b""), highest=1000),
        _drop("another session's address", "unknown_session", "node", s.data(SESSION, GATEWAY, 3, b"", address=299)),
        _drop("an address of one byte", "unknown_session", "node", s.data(SESSION, GATEWAY, 3, b"", address=44)),
        _drop("opened before", "replayed", "node", s.data(SESSION, GATEWAY, 2, b"")),
        _drop("opened before, long counter", "replayed", "node", s.data(SESSION, GATEWAY, 2, b"", is_long=True)),
        _drop("opened before, inside the window", "replayed", "gateway", s.data(SESSION, NODE, 990, b""), highest=1000),
        _drop("below the window", "replayed", "gateway", s.data(SESSION, NODE, 970, b""), highest=1000, missing=[970]),
        _drop("counter 0", "replayed", "node", s.data(SESSION, GATEWAY, 0, b"", is_long=True)),
        _drop("an accept nobody waits for", "unexpected", "node", accept),
        _drop("a join request at a node", "unexpected", "node", REQUEST),
        _drop("an ack of nothing in flight", "unexpected", "node", s.ack(SESSION, GATEWAY, 4), unacknowledged=[3]),
        _drop("an ack under the wrong key", "unexpected", "node", s.ack(SESSION, NODE, 3), unacknowledged=[3]),
        _drop("an ack with other bits", "unexpected", "node", _flipped(ack, 0), unacknowledged=[2, 3]),
        _drop("an ack with a byte more", "unexpected", "node", ack + b"\0", unacknowledged=[3]),
        _drop("a REJECT of a frame that was never sent", "echo", "node", s.reject(0, bytes(8))),
        _drop("a record that does not fit", "malformed_record", "node", s.data(SESSION, GATEWAY, 3, b"\x40\x01")),
    ]
    return out


def _flipped(frame: bytes, at: int) -> bytes:
    changed = bytearray(frame)
    changed[at] ^= 1
    return bytes(changed)


def _drop(name: str, reason: str, receiver: str, frame: bytes, **state: Any) -> Case:
    return {
        "name": name,
        "reason": reason,
        "receiver": receiver,
        "highest": state.get("highest", 2),
        "missing": state.get("missing", []),
        "unacknowledged": state.get("unacknowledged", []),
        "frame": frame.hex(),
    }
