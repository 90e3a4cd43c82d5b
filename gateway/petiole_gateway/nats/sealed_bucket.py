"""KV buckets on the leaf with JSON documents as values, plain or encrypted at rest.

A sealed value is `0x01 | nonce (12) | AES-256-GCM(document)`, with `<bucket>/<key>` as associated data, so a value
opens only under its own name. The key is a file beside the gateway, never in NATS: whoever copies the leaf's
store or reads it over the network gets nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats.aio.client import Client
from nats.errors import Error as ClientError
from nats.js.api import KeyValueConfig
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from ..foreign_json import JsonError, parse_object
from .api import Document, JetStreamApi, StoredMessage
from .errors import ConfigError, KeyExistsError, KeyFileError, LinkError, NotConnectedError, WrongKeyError
from .listing import read_stream
from .private_file import create_private, read_private
from .subjects import checked_token, is_token

KEY_SIZE = 32
_NONCE_SIZE = 12
_FORMAT = b"\x01"
# Sealed when the bucket is made and opened first ever after. The dot keeps it apart from all keys of callers.
_CHECK_KEY = "key.check"
# Headers of what stands for a deleted document: put there by a client, or by the server itself.
_DELETED = {"KV-Operation", "Nats-Marker-Reason"}
# A manifest of a device with a hundred channels is some 10 kB.
MAX_VALUE = 128 * 1024
DEFAULT_MAX_BYTES = 64 * 1024 * 1024


class PlainBucket:
    """JSON documents by name; keys are tokens. `open` first.

    Every method raises NotConnectedError if the leaf does not answer. `barrier`, when given, is awaited after every
    write, so that a write that returned is on disk.
    """

    def __init__(
        self,
        client: Client,
        bucket: str,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        barrier: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.bucket = checked_token("bucket", bucket)
        self.unreadable: dict[str, str] = {}  # by key: why; as of the last `items`
        self._client = client
        self._max_bytes = max_bytes
        self._barrier = barrier
        self._store: KeyValue | None = None

    async def open(self) -> None:
        """Create the bucket if it is missing."""
        jetstream = self._client.jetstream()
        try:
            try:
                self._store = await jetstream.key_value(self.bucket)
            except BucketNotFoundError:
                config = KeyValueConfig(
                    bucket=self.bucket, history=1, max_value_size=MAX_VALUE, max_bytes=self._max_bytes, direct=True
                )
                self._store = await jetstream.create_key_value(config)
        except (ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error

    async def get(self, key: str) -> Document | None:
        """The document, or None."""
        raw = await self._read(_checked_key(key))
        return None if raw is None else self._decode(key, raw)

    async def put(self, key: str, value: Document) -> int:
        """Replace the document; its revision."""
        return await self._write(_checked_key(key), self._encode(key, value))

    async def create(self, key: str, value: Document) -> int:
        """Like `put`, but KeyExistsError if there is one, also when two callers race."""
        data = self._encode(_checked_key(key), value)
        try:
            revision = int(await self._opened.create(key, data))
        except KeyWrongLastSequenceError as error:
            raise KeyExistsError(self.bucket, key) from error
        except (ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error
        await self._written()
        return revision

    async def delete(self, key: str) -> None:
        """Remove the document; no error if there is none."""
        try:
            await self._opened.delete(_checked_key(key))
        except (ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error
        await self._written()

    async def items(self) -> dict[str, Document]:
        """All documents that can be read; `unreadable` has the reasons of the others."""
        # Not by a watcher: the library takes a bucket for empty when a busy server answers what is pending before it
        # pushes it.
        found: dict[str, Document] = {}
        self.unreadable.clear()
        prefix = f"$KV.{self.bucket}."

        def take(message: StoredMessage) -> None:
            key = message.subject[len(prefix) :]
            self.unreadable.pop(key, None)
            if _DELETED & message.headers.keys():
                found.pop(key, None)
            elif is_token(key):
                try:
                    found[key] = self._decode(key, message.payload)
                except (ConfigError, WrongKeyError) as error:
                    # The key fits, which `open` has proved: this one document is damaged.
                    found.pop(key, None)
                    self.unreadable[key] = str(error)

        try:
            await read_stream(self._client, JetStreamApi(self._client), f"KV_{self.bucket}", f"{prefix}>", 1, take)
        except LinkError as error:
            raise NotConnectedError(f"bucket {self.bucket} ({error})") from error
        return found

    def _encode(self, key: str, value: Document) -> bytes:
        data = json.dumps(value, separators=(",", ":")).encode()
        if len(data) > MAX_VALUE - 64:
            raise ConfigError("value", len(data), f"{self.bucket}/{key} is longer than {MAX_VALUE - 64} bytes")
        return data

    def _decode(self, key: str, data: bytes) -> Document:
        try:
            return parse_object(data, most=MAX_VALUE)
        except JsonError as error:
            raise ConfigError("value", len(data), f"{self.bucket}/{key} cannot be read: {error}") from error

    async def _read(self, key: str) -> bytes | None:
        try:
            return (await self._opened.get(key)).value
        except KeyNotFoundError:
            return None
        except (ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error

    async def _write(self, key: str, data: bytes) -> int:
        try:
            revision = int(await self._opened.put(key, data))
        except (ClientError, OSError, TimeoutError) as error:
            raise self._lost(error) from error
        await self._written()
        return revision

    async def _written(self) -> None:
        if self._barrier is not None:
            await self._barrier()

    @property
    def _opened(self) -> KeyValue:
        if self._store is None:
            raise NotConnectedError(f"bucket {self.bucket} is not open")
        return self._store

    def _lost(self, error: Exception) -> NotConnectedError:
        detail = error.description if isinstance(error, APIError) else type(error).__name__
        return NotConnectedError(f"bucket {self.bucket} ({detail})")


class SealedBucket(PlainBucket):
    """The same with every value sealed under the key in `key_file`, which is created together with the bucket.

    `open` raises KeyFileError if the file is missing although the bucket has been sealed before, and WrongKeyError if
    it is another bucket's key. Key names are not encrypted.
    """

    def __init__(
        self,
        client: Client,
        bucket: str,
        key_file: Path,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        barrier: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(client, bucket, max_bytes=max_bytes, barrier=barrier)
        self.key_file = key_file
        self._cipher: AESGCM | None = None

    async def open(self) -> None:
        """Create what is missing, then prove that the key fits."""
        await super().open()
        check = await self._read(_CHECK_KEY)
        if not self.key_file.exists():
            if check is not None:
                raise KeyFileError(self.key_file, f"missing, but bucket {self.bucket} is sealed under it")
            create_private(self.key_file, os.urandom(KEY_SIZE))
        key = read_private(self.key_file)
        if len(key) != KEY_SIZE:
            raise KeyFileError(self.key_file, f"has {len(key)} bytes instead of {KEY_SIZE}")
        self._cipher = AESGCM(key)
        if check is None:
            await self._write(_CHECK_KEY, self._encode(_CHECK_KEY, {"bucket": self.bucket}))
        else:
            self._decode(_CHECK_KEY, check)

    def _encode(self, key: str, value: Document) -> bytes:
        return self._seal(key, super()._encode(key, value))

    def _seal(self, key: str, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE_SIZE)
        return _FORMAT + nonce + self._aead.encrypt(nonce, data, self._name(key))

    def _decode(self, key: str, data: bytes) -> Document:
        nonce, sealed = data[1 : 1 + _NONCE_SIZE], data[1 + _NONCE_SIZE :]
        if data[:1] != _FORMAT:
            raise WrongKeyError(self.bucket, key, self.key_file)
        try:
            return super()._decode(key, self._aead.decrypt(nonce, sealed, self._name(key)))
        except (InvalidTag, ValueError) as error:
            raise WrongKeyError(self.bucket, key, self.key_file) from error

    def _name(self, key: str) -> bytes:
        return f"{self.bucket}/{key}".encode()

    @property
    def _aead(self) -> AESGCM:
        if self._cipher is None:
            raise NotConnectedError(f"bucket {self.bucket} is not open")
        return self._cipher


def _checked_key(key: str) -> str:
    return checked_token("key", key)
