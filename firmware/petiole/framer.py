"""Frames in byte streams: cut out of any chunking, with bounded memory, recovering at the next delimiter.

This framer and the one in `line_framer` have
  feed(data) -> list of frames, in order; never raises, whatever the bytes
  wrap(frame) -> the bytes to send
  reset()       forget a half-received frame (the link was opened anew)
  dropped       counters by reason
What a framer returns is not yet trusted: only its tag makes it a frame. Empty frames do not exist.
"""

from petiole import cobs


class CobsFramer:
    """COBS between zero bytes. `dropped`: "oversize" (more than `max_frame` bytes), "cobs" (malformed)."""

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._limit = max_frame + max_frame // 254 + 1
        self.dropped = {"oversize": 0, "cobs": 0}
        self._pending = bytearray()
        self._is_skipping = False

    def reset(self) -> None:
        self._pending[:] = b""
        self._is_skipping = False

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        frames: list[bytes] = []
        start = 0
        while True:
            end = data.find(b"\0", start)
            stop = end if end >= 0 else len(data)
            if not self._is_skipping:
                if len(self._pending) + stop - start > self._limit:
                    self.dropped["oversize"] += 1
                    self._pending[:] = b""
                    self._is_skipping = True
                elif stop > start:
                    # A board reads its console byte by byte: what grows in place makes no garbage.
                    self._pending.extend(data[start:stop])
            if end < 0:
                return frames
            if self._pending:
                frame = cobs.decode(self._pending)
                if not frame:
                    self.dropped["cobs"] += 1
                elif len(frame) > self._max_frame:
                    self.dropped["oversize"] += 1
                else:
                    frames.append(frame)
            self.reset()
            start = end + 1

    def wrap(self, frame: bytes | bytearray, lead: bool = False) -> bytes:
        """`lead` puts a delimiter in front too: after a silence it keeps noise from spoiling this frame."""
        return (b"\0" if lead else b"") + cobs.encode(frame) + b"\0"
