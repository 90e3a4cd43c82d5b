"""JetStream API requests as plain documents.

nats-py has classes for most of it, but not for flow-control consumers inside sources, purge by filter with a
sequence, or direct gets with a wildcard, so this package speaks the documented JSON itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as ClientError
from nats.errors import NoRespondersError

from .errors import ApiError, NotConnectedError
from .subjects import domain_api

Document = dict[str, Any]

# One request to a local server takes about a millisecond; a Pi that flushes its SD card may hold it for seconds.
REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message read back from a stream."""

    subject: str
    stream_sequence: int
    headers: dict[str, str]
    payload: bytes


class JetStreamApi:
    """API of the server that `client` is connected to, or of another domain."""

    def __init__(self, client: Client, *, domain: str | None = None, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.client = client
        self.prefix = domain_api(domain)
        self.timeout_s = timeout_s

    async def request(self, call: str, body: Document | None = None) -> Document:
        """Answer to `<prefix>.<call>`. ApiError if refused, NotConnectedError if there was no answer."""
        subject = f"{self.prefix}.{call}"
        payload = json.dumps(body).encode() if body is not None else b""
        try:
            reply = await self.client.request(subject, payload, timeout=self.timeout_s)
        except NoRespondersError as error:
            raise ApiError(subject, 503, 0, "no JetStream answers here") from error
        except (ClientError, OSError, TimeoutError) as error:
            raise NotConnectedError(f"{subject} ({type(error).__name__})") from error
        answer: Document = json.loads(reply.data)
        _raise_refusal(subject, answer)
        return answer

    async def stream_info(self, stream: str, **body: object) -> Document | None:
        """STREAM.INFO, or None if there is no such stream."""
        return await self._found(f"STREAM.INFO.{stream}", dict(body))

    async def consumer_info(self, stream: str, consumer: str) -> Document | None:
        """CONSUMER.INFO, or None if the stream or the consumer does not exist."""
        return await self._found(f"CONSUMER.INFO.{stream}.{consumer}", None)

    async def last_message(self, stream: str, subject: str) -> StoredMessage | None:
        """Newest message whose subject matches `subject` (wildcards allowed), or None. Needs `allow_direct`."""
        return await self._direct_get(stream, {"last_by_subj": subject})

    async def message_on(self, stream: str, subject: str) -> StoredMessage | None:
        """The newest message of exactly this subject. Asked in a way that can be permitted by subject."""
        return await self._direct_get(f"{stream}.{subject}", None)

    async def next_message(self, stream: str, subject: str, sequence: int) -> StoredMessage | None:
        """First message at or after `sequence` whose subject matches, or None. Needs `allow_direct`."""
        return await self._direct_get(stream, {"next_by_subj": subject, "seq": sequence})

    async def store(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> int:
        """Publish one message and wait for its PubAck; its stream sequence."""
        return int((await self.publish(subject, payload, headers))["seq"])

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> Document:
        """Publish one message; its PubAck. ApiError if refused, NotConnectedError if it may or may not be stored."""
        try:
            reply = await self.client.request(subject, payload, timeout=self.timeout_s, headers=headers)
        except NoRespondersError as error:
            raise ApiError(subject, 503, 0, "no stream takes this subject") from error
        except (ClientError, OSError, TimeoutError) as error:
            raise NotConnectedError(f"{subject} ({type(error).__name__})") from error
        answer: Document = json.loads(reply.data)
        _raise_refusal(subject, answer)
        return answer

    async def _direct_get(self, what: str, body: Document | None) -> StoredMessage | None:
        call = f"{self.prefix}.DIRECT.GET.{what}"
        payload = json.dumps(body).encode() if body is not None else b""
        try:
            reply = await self.client.request(call, payload, timeout=self.timeout_s)
        except NoRespondersError as error:
            raise ApiError(call, 503, 0, "no JetStream answers here") from error
        except (ClientError, OSError, TimeoutError) as error:
            raise NotConnectedError(f"{call} ({type(error).__name__})") from error
        headers = dict(reply.headers or {})
        status = headers.get("Status")
        if status == "404":
            return None
        if status is not None:
            raise ApiError(call, int(status), 0, headers.get("Description", ""))
        return StoredMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, reply.data)

    async def _found(self, call: str, body: Document | None) -> Document | None:
        try:
            return await self.request(call, body)
        except ApiError as error:
            if error.code == 404:
                return None
            raise


def _raise_refusal(subject: str, answer: Document) -> None:
    problem = answer.get("error")
    if problem is not None:
        raise ApiError(subject, problem.get("code", 0), problem.get("err_code", 0), problem.get("description", ""))
