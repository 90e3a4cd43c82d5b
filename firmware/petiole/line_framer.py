"""Frames on a console that people read as well; see `framer` for what framers have in common."""

from binascii import a2b_base64, b2a_base64

# Shorter than any frame with a tag. Text that ends in something like a frame stays text below this.
_MIN_EMBEDDED = 8


class LineFramer:
    """Frames as lines `~` + base64 on a text console; every other line is the peer's log.

    A frame may follow text that was printed without a newline. Log lines are kept as raw, untrusted bytes: at
    most `max_lines`, each cut at `max_line` bytes and then ending in "...".
    `dropped`: "oversize" (a frame longer than `max_frame`), "base64" (a line beginning with `~` that is no
    frame; it is kept as a log line), "lines" (log lines pushed out by newer ones).
    """

    def __init__(self, max_frame: int, max_line: int = 160, max_lines: int = 32) -> None:
        self._max_frame = max_frame
        self._max_line = max_line
        self._max_lines = max_lines
        # Text may stand before a frame, and "\r" after it.
        self._limit = max_line + (max_frame + 2) // 3 * 4 + 2
        self._lines: list[bytes] = []
        self.dropped = {"oversize": 0, "base64": 0, "lines": 0}
        self._pending = bytearray()
        self._is_cut = False

    def reset(self) -> None:
        self._pending[:] = b""
        self._is_cut = False

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        frames: list[bytes] = []
        start = 0
        while True:
            end = data.find(b"\n", start)
            stop = end if end >= 0 else len(data)
            room = self._limit - len(self._pending)
            if stop - start > room:
                self._is_cut = True
                stop = start + room
            self._pending.extend(data[start:stop])
            if end < 0:
                return frames
            self._take_line(frames)
            self.reset()
            start = end + 1

    def _take_line(self, frames: list[bytes]) -> None:
        line = bytes(self._pending).strip(b"\r")
        mark = line.rfind(b"~")
        if mark >= 0 and self._is_cut:
            # The end is missing, so this cannot be a frame; only at the front it was surely meant as one.
            if not mark:
                self.dropped["oversize"] += 1
                return
        elif mark >= 0:
            frame = _decode_base64(line[mark + 1 :])
            if frame and (not mark or len(frame) >= _MIN_EMBEDDED):
                if len(frame) > self._max_frame:
                    self.dropped["oversize"] += 1
                else:
                    frames.append(frame)
                line = line[:mark]
            elif not mark:
                self.dropped["base64"] += 1
        if not line or not self._max_lines:
            return
        if self._is_cut or len(line) > self._max_line:
            line = line[: self._max_line - 3] + b"..."
        if len(self._lines) == self._max_lines:
            # The newest lines tell why a node stopped.
            self._lines.pop(0)
            self.dropped["lines"] += 1
        self._lines.append(line)

    def take_lines(self) -> list[bytes]:
        """Return the log lines since the last call, oldest first."""
        lines = self._lines
        self._lines = []
        return lines

    def wrap(self, frame: bytes | bytearray) -> bytes:
        """No control character but the closing newline: Ctrl-C would stop the peer's program."""
        return b"~" + b2a_base64(frame)


def _decode_base64(text: bytes) -> bytes | None:
    try:
        data = a2b_base64(text)
    except ValueError:
        return None
    # The decoders of all runtimes skip what they do not know; one spelling per frame is the rule here.
    return data if b2a_base64(data) == text + b"\n" else None
