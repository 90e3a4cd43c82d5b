"""Messages longer than a frame: put together (PROTOCOL.md, section 11)."""

from petiole import wire


def count(total: int) -> int:
    """Fragments of a message of `total` bytes."""
    return (total + wire.FRAGMENT_SIZE - 1) // wire.FRAGMENT_SIZE


def fragment(message: int, index: int, data: bytes) -> bytes:
    """The FRAGMENT record `index` of the message `data`."""
    start = index * wire.FRAGMENT_SIZE
    head = bytes((wire.FRAGMENT, message, index)) + len(data).to_bytes(2, "big")
    return head + data[start : start + wire.FRAGMENT_SIZE]


class _Partial:
    __slots__ = ("data", "have", "message", "since", "total")

    def __init__(self, message: int, total: int, now: int) -> None:
        self.message = message
        self.total = total
        self.since = now
        self.data = bytearray(total)
        self.have = 0  # bit i: fragment i is here; 19 bits at the most


class Reassembly:
    """Puts the fragments of one direction of a session together, in bounded memory."""

    def __init__(self) -> None:
        self._partials: list[_Partial] = []
        self.taken: list[int] = []  # the last few messages whose records are taken, oldest first

    def add(self, value: "tuple[int, int, int, bytes]", now: int) -> "bytes | bytearray | str | None":
        """Take a fragment (message, index, total, data). Return the whole message, b"" if it was taken before,
        None while parts are missing, or the reason for which the fragment is dropped.

        A whole message is kept until `take` or `release`: until then its last fragment counts as missing, so that it
        makes the message whole again when it comes again."""
        message, index, total, data = value
        if not 0 < total <= wire.MAX_MESSAGE or index >= count(total):
            return "malformed_fragment"
        start = index * wire.FRAGMENT_SIZE
        if len(data) != min(wire.FRAGMENT_SIZE, total - start):
            return "malformed_fragment"
        if message in self.taken:
            return b""
        partial = None
        for candidate in self._partials:
            if candidate.message == message:
                partial = candidate
        if partial is None:
            if len(self._partials) == wire.MAX_REASSEMBLIES:
                self._partials.pop(0)
            try:
                partial = _Partial(message, total, now)
                self._partials.append(partial)
            except MemoryError:
                return "memory"
        elif partial.total != total:
            return "malformed_fragment"
        partial.data[start : start + len(data)] = data
        have = partial.have | 1 << index
        if have == (1 << count(total)) - 1:
            return partial.data
        partial.have = have
        return None

    def take(self, message: int) -> None:
        """The records of the message are taken; what is still coming of it is a repetition."""
        if message not in self.taken:
            self.taken.append(message)
            if len(self.taken) > wire.REMEMBERED_MESSAGES:
                self.taken.pop(0)
        self.release(message)

    def release(self, message: int) -> None:
        """Keep nothing of it: if it is not taken, it is collected anew (its readings may meet a busy store)."""
        for partial in self._partials:
            if partial.message == message:
                self._partials.remove(partial)
                return

    def expire(self, now: int) -> int:
        """Drop sets that took too long; return how many."""
        before = len(self._partials)
        self._partials = [p for p in self._partials if now - p.since < wire.REASSEMBLY_MS]
        return before - len(self._partials)

    def deadline(self) -> int | None:
        if not self._partials:
            return None
        return min(p.since for p in self._partials) + wire.REASSEMBLY_MS
