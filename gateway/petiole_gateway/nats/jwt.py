"""Mint operator, account and user JWTs (NATS JWT version 2) with `nkeys` alone, and credentials files.

Format: <https://docs.nats.io/running-a-nats-service/configuration/securing_nats/jwt>; a token is
`base64url(header).base64url(claims).base64url(ed25519 signature)` with header `{"typ":"JWT","alg":"ed25519-nkey"}`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]  # it ships no annotations

from .errors import KeyFileError
from .private_file import read_private, write_private

_PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_UNLIMITED = -1


class NatsKey:
    """An ed25519 key pair in NATS' notation; `kind` is operator, account or user."""

    def __init__(self, kind: str, seed: bytes) -> None:
        self.kind = kind
        self._pair = nkeys.from_seed(bytearray(seed))
        self.public: str = self._pair.public_key.decode()
        self.seed = bytes(seed)

    @classmethod
    def generate(cls, kind: str) -> NatsKey:
        """A new random key."""
        return cls(kind, bytes(nkeys.encode_seed(os.urandom(32), _PREFIXES[kind])))

    @classmethod
    def load(cls, kind: str, path: Path) -> NatsKey:
        """Read a seed file. KeyFileError if it is missing, readable by others, or not a seed of this kind."""
        seed = read_private(path).strip()
        try:
            key = cls(kind, seed)
        except (nkeys.ErrInvalidSeed, ValueError) as error:
            raise KeyFileError(path, "not a NATS seed") from error
        letter = {"operator": "O", "account": "A", "user": "U"}[kind]
        if not key.public.startswith(letter):
            raise KeyFileError(path, f"not a seed of an {kind}")
        return key

    def save(self, path: Path) -> None:
        """Write the seed with mode 0600."""
        write_private(path, self.seed + b"\n")

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature of `data`, 64 bytes."""
        signature: bytes = self._pair.sign(data)
        return signature


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may publish and subscribe; an empty list allows everything."""

    publish: Sequence[str] = ()
    subscribe: Sequence[str] = ()
    connection_types: Sequence[str] = ()


def encode_claims(claims: dict[str, Any], signer: NatsKey) -> str:
    """Sign `claims`; `iss`, `iat` and `jti` are filled in."""
    filled = {**claims, "iss": signer.public, "iat": int(time.time())}
    digest = hashlib.sha256(json.dumps(filled, sort_keys=True).encode()).digest()
    filled["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    header = _base64url(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    body = _base64url(json.dumps(filled, separators=(",", ":")).encode())
    return (header + b"." + body + b"." + _base64url(signer.sign(header + b"." + body))).decode()


def operator_jwt(operator: NatsKey, name: str, *, system_account: NatsKey) -> str:
    """Self-signed operator token."""
    return encode_claims(
        {
            "sub": operator.public,
            "name": name,
            "nats": {"type": "operator", "version": 2, "system_account": system_account.public},
        },
        operator,
    )


def account_jwt(
    account: NatsKey,
    name: str,
    operator: NatsKey,
    *,
    jetstream: bool = False,
    signing_keys: Sequence[NatsKey] = (),
) -> str:
    """Account token without limits of its own; with `jetstream` the account may store."""
    limits: dict[str, Any] = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _UNLIMITED
    )
    limits["wildcards"] = True
    if jetstream:
        limits.update(dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED))
    claims: dict[str, Any] = {
        "type": "account",
        "version": 2,
        "limits": limits,
        "default_permissions": {"pub": {}, "sub": {}},
    }
    if signing_keys:
        claims["signing_keys"] = [key.public for key in signing_keys]
    return encode_claims({"sub": account.public, "name": name, "nats": claims}, operator)


def user_jwt(
    user: NatsKey,
    name: str,
    signer: NatsKey,
    *,
    account: NatsKey,
    permissions: Permissions = Permissions(),
) -> str:
    """User token of `account`, signed by the account or by one of its signing keys."""
    claims: dict[str, Any] = {
        "type": "user",
        "version": 2,
        "subs": _UNLIMITED,
        "data": _UNLIMITED,
        "payload": _UNLIMITED,
        "pub": {"allow": list(permissions.publish)} if permissions.publish else {},
        "sub": {"allow": list(permissions.subscribe)} if permissions.subscribe else {},
    }
    if permissions.connection_types:
        claims["allowed_connection_types"] = list(permissions.connection_types)
    if signer is not account:
        claims["issuer_account"] = account.public
    return encode_claims({"sub": user.public, "name": name, "nats": claims}, signer)


def credentials_text(token: str, user: NatsKey) -> str:
    """Contents of a `.creds` file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
