"""JetStream API requests as plain documents.

nats-py has classes for most of it, but not for flow-control consumers inside sources, purge by filter with a
sequence, or direct gets with a wildcard, so this package speaks the documented JSON itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as ClientError
from nats.errors import NoRespondersError

from ..foreign_json import JsonError, parse_object
from .errors import ApiError, NotConnectedError
from .subjects import domain_api

Document = dict[str, Any]

# One request to a local server takes about a millisecond; a Pi that flushes its SD card may hold it for seconds.
REQUEST_TIMEOUT_S = 5.0
# Of the server: what NATS carries.
MAX_ANSWER = 1024 * 1024


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
        return _answer(subject, reply.data)

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
        return _answer(subject, reply.data)

    async def _direct_get(self, what: str, body: Document | None) -> StoredMessage | None:
        call = f"{self.prefix}.DIRECT.GET.{what}"
        payload = json.dumps(body).encode() if body is not None else b""
        try:
            reply = await self.client.request(call, payload, timeout=self.timeout_s)
        except NoRespondersError as error:
            raise ApiError(call, 503, 0, "no JetStream answers here") from error
        except (ClientError, OSError, TimeoutError) as error:
            raise NotConnectedError(f"{call} ({type(error).__name__})") from error
        message = stored(reply)
        if message is not None:
            return message  # whatever status its sender has written into it
        headers = reply.headers or {}
        status = headers.get("Status")
        if status is None:
            raise NotConnectedError(f"{call} (the answer is no message of a stream)")
        if status == "404":
            return None
        raise ApiError(call, int(status) if status.isdecimal() else 500, 0, headers.get("Description", ""))

    async def _found(self, call: str, body: Document | None) -> Document | None:
        try:
            return await self.request(call, body)
        except ApiError as error:
            if error.code == 404:
                return None
            raise


def stored(message: Msg) -> StoredMessage | None:
    """What a direct get or a republished message carries, or None if it is neither."""
    headers = dict(message.headers or {})
    try:
        return StoredMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, message.data)
    except (KeyError, ValueError):
        return None


def _answer(subject: str, data: bytes) -> Document:
    """What a server says, or whoever has written to our inbox in its place. ApiError, NotConnectedError."""
    try:
        answer = parse_object(data, most=MAX_ANSWER)
    except JsonError as error:
        raise NotConnectedError(f"{subject} (the answer is no JSON of a server: {error})") from error
    problem = answer.get("error")
    if isinstance(problem, dict):
        raise ApiError(subject, problem.get("code", 0), problem.get("err_code", 0), problem.get("description", ""))
    return answer
