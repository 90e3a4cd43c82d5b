"""The hub's documents in a sealed bucket."""

from __future__ import annotations

from typing import Any

from ..hub.ports import Busy
from .errors import LinkError
from .sealed_bucket import SealedBucket

RETRY_S = 1.0


class BucketRecords:
    """Implements `hub.ports.Records`."""

    def __init__(self, bucket: SealedBucket) -> None:
        self._bucket = bucket

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
