"""What a stream holds, read whole: by direct gets, many messages to one answer."""

from __future__ import annotations

import json
from collections.abc import Callable

from nats.aio.client import Client
from nats.errors import Error as ClientError

from .api import JetStreamApi, StoredMessage, stored
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
                # A header `Status` proves nothing, a sender may have given its message one. What ends a batch is none.
                while (message := stored(reply := await subscription.next_msg(api.timeout_s))) is not None:
                    is_more = message.headers.get("Nats-Num-Pending") != "0"
                    start = message.stream_sequence + 1
                    read.add(message.stream_sequence)
                    take(message)
                status = reply.headers or {}
                if "Status" not in status:
                    raise ApiError(call, 500, 0, "an answer without a sequence")
                if status["Status"] not in {"204", "404"}:
                    code = int(status["Status"]) if status["Status"].isdecimal() else 500
                    raise ApiError(call, code, 0, status.get("Description", ""))
        finally:
            if not client.is_closed:  # of a lost connection, too: the client would subscribe it again with the next
                await subscription.unsubscribe()
    except (ClientError, OSError, TimeoutError) as error:
        raise NotConnectedError(f"{call} ({type(error).__name__})") from error
    return read
