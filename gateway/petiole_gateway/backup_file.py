"""The file of a backup: one JSON document, compressed, sealed under a password.

    offset  bytes
    0       14     "PETIOLE-BACKUP"
    14      1      version of this format: 1
    15      1      scrypt: N = 2 ** this; r = 8, p = 1
    16      16     scrypt: salt
    32      12     nonce of AES-256-GCM
    44      8      check of the password: the second half of what scrypt gives, the first 8 bytes of its SHA-256
    52      8      length of what follows, big endian
    60      n      AES-256-GCM(zlib(JSON)), the key is the first half; bytes 0 to 59 are its associated data

scrypt gives 64 bytes. The check tells a wrong password from a damaged file; it helps nobody to guess, who would have to
run scrypt for each guess all the same.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
import zlib
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"PETIOLE-BACKUP"
VERSION = 1
_HEAD = struct.Struct(">14sBB16s12s8sQ")
# 64 MB and a third of a second on a PC, some seconds on a Pi: what a password of a person needs.
SCRYPT_LOG_N = 16
# A file that wants more would take the memory of this machine: 512 MB.
MAX_SCRYPT_LOG_N = 19
# 100,000 devices with a manifest of 10 kB each, compressed well; and unpacked.
MAX_SEALED = 256 * 1024 * 1024
MAX_DOCUMENT = 2 * 1024 * 1024 * 1024
MIN_PASSWORD = 8


class BackupError(Exception):
    """A file that is no usable backup. `hint` says what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class WrongPasswordError(BackupError):
    """The password is not the one of the file."""

    def __init__(self) -> None:
        super().__init__("this is not the password of the backup", "try again; without it nothing can be read")


def seal(document: dict[str, Any], password: str, *, log_n: int = SCRYPT_LOG_N) -> bytes:
    """The file. BackupError for a password that is too short."""
    if len(password) < MIN_PASSWORD:
        raise BackupError(f"the password is shorter than {MIN_PASSWORD} characters", "a sentence is easy to remember")
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    key, check = _keys(password, salt, log_n)
    data = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)
    head = _HEAD.pack(MAGIC, VERSION, log_n, salt, nonce, check, len(data) + 16)
    return head + AESGCM(key).encrypt(nonce, data, head)


def open_sealed(file: bytes, password: str) -> dict[str, Any]:
    """The document. BackupError says what is wrong, WrongPasswordError that it is the password."""
    if not file.startswith(MAGIC):
        raise BackupError("this is not a backup of petiole", "`petiole gateway backup FILE` makes one")
    if len(file) > len(MAGIC) and file[len(MAGIC)] != VERSION:
        newer = f"format {file[len(MAGIC)]}, and this program knows {VERSION}"
        raise BackupError(f"the backup was made by another version of petiole ({newer})", "install a newer petiole")
    if len(file) < _HEAD.size:
        raise BackupError(f"the backup ends within its head, after {len(file)} bytes", "copy it again")
    _, _, log_n, salt, nonce, check, length = _HEAD.unpack_from(file)
    sealed = file[_HEAD.size :]
    if len(sealed) != length:
        what = "is cut off" if len(sealed) < length else "has something behind its end"
        raise BackupError(f"the backup {what}: {len(sealed)} bytes instead of {length}", "copy it again")
    if not 1 <= log_n <= MAX_SCRYPT_LOG_N:
        raise BackupError(f"the backup is damaged: scrypt 2**{log_n}", "take another copy")
    key, own_check = _keys(password, salt, log_n)
    if not secrets.compare_digest(check, own_check):
        raise WrongPasswordError
    try:
        data = AESGCM(key).decrypt(nonce, sealed, file[: _HEAD.size])
    except InvalidTag as error:
        raise BackupError("the backup is damaged: not one byte of it can be trusted", "take another copy") from error
    unpacked = zlib.decompressobj()
    text = unpacked.decompress(data, MAX_DOCUMENT)
    document = json.loads(text)
    if unpacked.unconsumed_tail or not isinstance(document, dict):
        raise BackupError("the backup has not the contents of one", "take another copy")
    return document


def _keys(password: str, salt: bytes, log_n: int) -> tuple[bytes, bytes]:
    """(key, check)"""
    n = 1 << log_n
    # OpenSSL refuses more than 32 MB unless it is told otherwise: 128 * N * r bytes, and a little.
    derived = hashlib.scrypt(password.encode(), salt=salt, n=n, r=8, p=1, maxmem=128 * 8 * (n + 8), dklen=64)
    return derived[:32], hashlib.sha256(derived[32:]).digest()[:8]
