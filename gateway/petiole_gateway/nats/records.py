"""The hub's documents in a sealed bucket."""

from __future__ import annotations

from typing import Any

from ..hub.ports import Busy
from .errors import ConfigError, LinkError, WrongKeyError
from .sealed_bucket import SealedBucket

RETRY_S = 1.0
UNREADABLE_S = 60.0  # somebody has to write it anew


class BucketRecords:
    """Implements `hub.ports.Records`."""

    def __init__(self, bucket: SealedBucket) -> None:
        self._bucket = bucket

    @property
    def unreadable(self) -> dict[str, str]:
        return self._bucket.unreadable

    async def items(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(await self._bucket.items())
        except LinkError as error:
            raise Busy(str(error), RETRY_S) from error

    async def get(self, key: str) -> dict[str, Any] | None:
        try:
            return await self._bucket.get(key)
        except LinkError as error:
            raise Busy(str(error), RETRY_S) from error
        except (ConfigError, WrongKeyError) as error:
            # It is there, so it must not be taken for deleted.
            raise Busy(str(error), UNREADABLE_S) from error

    async def put(self, key: str, document: dict[str, Any]) -> None:
        try:
            await self._bucket.put(key, document)
        except LinkError as error:
            raise Busy(str(error), RETRY_S) from error

    async def delete(self, key: str) -> None:
        try:
            await self._bucket.delete(key)
        except LinkError as error:
            raise Busy(str(error), RETRY_S) from error
