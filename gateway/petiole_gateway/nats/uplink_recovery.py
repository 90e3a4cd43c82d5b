"""What has to happen before real data after the machine went down without warning.

A power cut can take messages from the leaf's stream that the hub already has. Their sequence numbers would be given
to new messages, which the hub would silently skip as already seen. So more numbers are burnt than can have been lost:
empty messages on a subject that never leaves the leaf.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from .api import JetStreamApi
from .child_process import boot_id
from .errors import LinkError, NotConnectedError
from .private_file import write_private
from .publisher import PubAck, Publisher
from .subjects import UPLINK_STREAM, gap_subject

MARKER_FILE = "uplink-boot.json"
# Bytes of one burnt number in the stream: record head, checksum and a subject of at most 42 characters.
GAP_SIZE = 96
BURN_TIMEOUT_S = 120.0


class BootMarker:
    """A file that says whether the last run ended well, and under which boot of the kernel it ran."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / MARKER_FILE
        self.current_boot = boot_id()

    def needs_burn(self, *, stream_is_empty: bool) -> bool:
        """True if the page cache may have been lost since the last barrier.

        A crash of processes within one boot loses nothing; without boot ids the two cannot be told apart.
        """
        try:
            marker = json.loads(self.path.read_bytes())
            clean, boot = bool(marker["clean"]), marker["boot"]
        except (OSError, ValueError, KeyError, TypeError):
            return not stream_is_empty
        return not clean and (boot is None or boot != self.current_boot)

    def write(self, *, clean: bool) -> None:
        """Survives a power cut from here on."""
        write_private(self.path, json.dumps({"clean": clean, "boot": self.current_boot}).encode())


async def burn_sequences(api: JetStreamApi, publisher: Publisher, site: str, count: int) -> int:
    """Use up `count` stream sequence numbers; returns the stream's last one. LinkError if interrupted: repeat it."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    room = asyncio.Event()
    remaining = count
    last = 0

    def done(outcome: PubAck | LinkError) -> None:
        nonlocal remaining, last
        room.set()
        if finished.done():
            return
        if not isinstance(outcome, PubAck):
            finished.set_exception(outcome)
            return
        last = max(last, outcome.stream_sequence)
        remaining -= 1
        if remaining == 0:
            finished.set_result(None)

    subject = gap_subject(site)
    try:
        async with asyncio.timeout(BURN_TIMEOUT_S):
            for _ in range(count):
                while publisher.in_flight >= publisher.window and not finished.done():
                    room.clear()
                    await room.wait()
                if finished.done():
                    break
                await publisher.send(subject, b"", None, done)
            await finished
    except TimeoutError as error:
        raise NotConnectedError(f"burning {count} sequence numbers") from error
    finally:
        finished.cancel()
    # One is kept, so that the numbers stay used whatever else is evicted or recovered.
    await api.request(f"STREAM.PURGE.{UPLINK_STREAM}", {"filter": subject, "keep": 1})
    return last
