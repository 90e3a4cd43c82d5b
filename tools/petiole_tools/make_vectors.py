"""Write the test vectors that oracles compute: AES-CCM by `cryptography`, CBOR by `cbor2`; and those of the protocol,
made from PROTOCOL.md with both.

    python -m petiole_tools.make_vectors tests/vectors

The same files come out every time. Published vectors (RFCs, papers) are files beside them that nothing writes.
"""

import json
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from . import make_exchange_vector, make_protocol_vectors, make_record_vectors
from .make_record_vectors import describe

SEED = 20240611

Case = dict[str, Any]


def ccm() -> dict[str, Any]:
    rng = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    valid: list[Case] = []
    lengths = [0, 1, 2, 15, 16, 17, 31, 32, 33, 64, 127, 128, 200, 239, 240, 241, 255, 256]
    aads = [0, 1, 13, 14, 15, 16, 30, 31, 32]
    for index, length in enumerate(lengths):
        for tag_length in (4, 8, 16) if index % 2 else (6, 8, 10, 12, 14):
            valid.append(_ccm_case(rng, length, aads[len(valid) % len(aads)], tag_length))
    # Values on which big-integer arithmetic loses leading zeros.
    valid.append(_ccm_case(rng, 32, 3, 8, plaintext=bytes(32)))
    valid.extend(_leading_zero_cases(rng))
    invalid: list[Case] = []
    for base in valid[::6]:
        sealed = bytes.fromhex(base["sealed"])
        changes = {
            "last bit of the tag": sealed[:-1] + bytes((sealed[-1] ^ 1,)),
            "first bit": bytes((sealed[0] ^ 0x80,)) + sealed[1:],
            "last byte missing": sealed[:-1],
            "one byte more": sealed + b"\0",
            "tag of zeros": sealed[: -base["tag_length"]] + bytes(base["tag_length"]),
            "nothing": b"",
        }
        for name, data in changes.items():
            invalid.append({**base, "name": f"{base['name']}, {name}", "sealed": data.hex(), "plaintext": ""})
        invalid.append({**base, "name": f"{base['name']}, other AAD", "aad": base["aad"] + "00"})
        invalid.append({**base, "name": f"{base['name']}, other nonce", "nonce": "ff" + base["nonce"][2:]})
        invalid.append({**base, "name": f"{base['name']}, other key", "key": "ff" + base["key"][2:]})
    invalid = [case for case in invalid if len(case["aad"]) <= 64]
    return {"source": "AESCCM of the `cryptography` package", "valid": valid, "invalid": invalid}


def _ccm_case(
    rng: random.Random, length: int, aad_length: int, tag_length: int, plaintext: bytes | None = None
) -> Case:
    key, nonce, aad = rng.randbytes(16), rng.randbytes(13), rng.randbytes(aad_length)
    plaintext = rng.randbytes(length) if plaintext is None else plaintext
    sealed = AESCCM(key, tag_length=tag_length).encrypt(nonce, plaintext, aad)
    return {
        "name": f"{length} bytes, AAD {aad_length}, tag {tag_length}",
        "tag_length": tag_length,
        "key": key.hex(),
        "nonce": nonce.hex(),
        "aad": aad.hex(),
        "plaintext": plaintext.hex(),
        "sealed": sealed.hex(),
    }


def _leading_zero_cases(rng: random.Random) -> list[Case]:
    """One case whose ciphertext, and one whose tag, begins with a zero byte."""
    found: dict[str, Case] = {}
    while len(found) < 2:
        case = _ccm_case(rng, 12, 2, 8)
        if case["sealed"].startswith("00"):
            found.setdefault("ciphertext", {**case, "name": "ciphertext begins with zero"})
        elif case["sealed"][24:26] == "00":
            found.setdefault("tag", {**case, "name": "tag begins with zero"})
    return [found["ciphertext"], found["tag"]]


def cbor() -> dict[str, Any]:
    rng = random.Random(SEED)  # noqa: S311 - repeatable on purpose
    values: list[Any] = []
    for bits in range(0, 65, 4):
        for delta in (-1, 0, 1):
            number = (1 << bits) + delta
            if number < 1 << 64:
                values += [number, -1 - number]
    for _ in range(30):
        values.append(struct.unpack(">d", rng.randbytes(8))[0])
        values.append(struct.unpack(">f", rng.randbytes(4))[0])
        values.append(struct.unpack(">e", rng.randbytes(2))[0])
    # The edges of halves: largest, smallest normal, subnormal, one bit too many, and the singles beside them.
    for exponent in (-25, -24, -23, -15, -14, -13, 14, 15, 16, 127, 128, -126, -127, -149, -150):
        for mantissa in (1.0, 1.5, 2 - 2**-10, 1 + 2**-10, 1 + 2**-11, 1 + 2**-23, 1 + 2**-24):
            values += [mantissa * 2.0**exponent, -mantissa * 2.0**exponent]
    for length in (0, 1, 23, 24, 25, 255, 256, 300):
        values += [rng.randbytes(length), "ü" * (length // 2) + "a" * (length % 2), [None] * min(length, 200)]
    values += [_tree(rng, 4) for _ in range(60)]
    values = [value for value in values if value == value]  # noqa: PLR0124 - NaN has no single bit pattern
    valid = [{"hex": _deterministic(value).hex(), "value": describe(value)} for value in values]
    return {"source": "cbor2, canonical, map keys sorted as in RFC 8949 §4.2.1", "valid": valid}


def _tree(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 5)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.randrange(-(1 << rng.randrange(1, 64)), 1 << rng.randrange(1, 64))
    if kind == 2:
        return rng.choice((0.5, -2.25, 21.7, 1e10, 3.14159, 65504.0, 65505.0))
    if kind == 3:
        return rng.randbytes(rng.randrange(6))
    if kind == 4:
        return rng.choice(("", "a", "kPa", "°C", "水", "𐅑"))
    if kind == 5:
        return {_key(rng): _tree(rng, depth - 1) for _ in range(rng.randrange(6))}
    return [_tree(rng, depth - 1) for _ in range(rng.randrange(5))]


def _key(rng: random.Random) -> int | str:
    return rng.choice((rng.randrange(-300, 300), f"k{rng.randrange(999)}"))


def _deterministic(value: Any) -> bytes:
    """cbor2's canonical form sorts keys by length first (RFC 7049), so containers are put together here."""
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(_deterministic(item) for item in value)
    if isinstance(value, dict):
        entries = sorted((_deterministic(key), _deterministic(item)) for key, item in value.items())
        return _head(5, len(value)) + b"".join(key + item for key, item in entries)
    return cbor2.dumps(value, canonical=True)


def _head(major: int, length: int) -> bytes:
    head = bytearray(cbor2.dumps(length))
    head[0] |= major << 5
    return bytes(head)


def render(document: dict[str, Any]) -> str:
    """JSON with one case to a line, so that a change is one line of a diff."""
    parts = []
    for name, content in document.items():
        if isinstance(content, list):
            lines = ",\n".join("    " + json.dumps(case, ensure_ascii=False) for case in content)
            parts.append(f"  {json.dumps(name)}: [\n{lines}\n  ]")
        else:
            parts.append(f"  {json.dumps(name)}: {json.dumps(content, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "ccm_generated.json": ccm,
    "cbor_generated.json": cbor,
    "keys.json": make_protocol_vectors.keys,
    "join.json": make_protocol_vectors.join,
    "frames.json": make_protocol_vectors.frames,
    "records.json": make_record_vectors.records,
    "fragments.json": make_record_vectors.fragments,
    "exchange.json": make_exchange_vector.exchange,
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m petiole_tools.make_vectors FOLDER", file=sys.stderr)
        return 2
    for name, make in FILES.items():
        Path(arguments[0], name).write_text(render(make()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
