"""What a stream holds, read whole: by direct gets, many messages to one answer."""

from __future__ import annotations

import json
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as ClientError

from .api import JetStreamApi, StoredMessage
from .errors import ApiError, NotConnectedError

# One answer of the server: 256 items of 200 bytes are 50 kB, the server's own bound is a MB.
BATCH = 256


async def read_stream(
    client: Client, api: JetStreamApi, stream: str, subjects: str, start: int, take: Callable[[StoredMessage], None]
) -> set[int]:
    """`take` every message from `start` on whose subject matches; their sequences. Needs `allow_direct`. LinkError."""
    read: set[int] = set()
    inbox = client.new_inbox()
    call = f"{api.prefix}.DIRECT.GET.{stream}"
    try:
        subscription = await client.subscribe(inbox)
        try:
            is_more = True
            while is_more:
                body = {"seq": start, "batch": BATCH, "next_by_subj": subjects}
                await client.publish(call, json.dumps(body).encode(), reply=inbox)
                is_more = False
                while (status := (reply := await subscription.next_msg(api.timeout_s)).headers or {}).get(
                    "Status"
                ) is None:
                    message = stored(reply)
                    if message is None:
                        raise ApiError(call, 500, 0, "an answer without a sequence")
                    is_more = status.get("Nats-Num-Pending") != "0"
                    start = message.stream_sequence + 1
                    read.add(message.stream_sequence)
                    take(message)
                if status["Status"] not in {"204", "404"}:
                    raise ApiError(call, int(status["Status"]), 0, status.get("Description", ""))
        finally:
            if client.is_connected:
                await subscription.unsubscribe()
    except (ClientError, OSError, TimeoutError) as error:
        raise NotConnectedError(f"{call} ({type(error).__name__})") from error
    return read


def stored(message: Msg) -> StoredMessage | None:
    """What a direct get or a republished message carries, or None if it is neither."""
    headers = dict(message.headers or {})
    try:
        return StoredMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, message.data)
    except (KeyError, ValueError):
        return None
