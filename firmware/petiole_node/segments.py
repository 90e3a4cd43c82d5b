"""Files of the durable outbox: batches of readings in segments, and what must be known of their numbers.

A segment is a file of batches (petiole.batch) of about one flash block; its name says which batches of files it holds
and so its place: `0000002a`, or `0000002a-0000002f` when it replaces all from the first to the last. What a name of a
larger range covers is a leftover of a power cut and removed. Every change is one atomic operation of LittleFS: a new
file, an append, a file overwritten in place, a rename, a removal.
"""

import os
from binascii import crc32

from petiole import batch, shedding

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Iterator
    from io import BufferedWriter
    from typing import Protocol

    class Retained(Protocol):
        """Memory that sleep and a reset leave as it is, and loss of power does not."""

        size: int

        def read(self) -> bytes: ...
        def write(self, data: bytes) -> None: ...


SEGMENT = 4096  # bytes: one block of flash, which a file of one byte takes as well
MIN_SEGMENTS = 4  # one is written, two are merged
_MERGED_BATCH = 1024  # bytes of readings that are in RAM while two segments become one
_MOMENT_BITS = 4  # of ms: half a year in units of 16 ms is a small integer on boards
_STATE = "state"
_MERGED = "merged"
_MAGIC = 0xB4
_HEADER = 14
_CLOCKS = 4  # boots whose readings may wait for their time; of those before it is known how far they are apart
_CLOCK_MS = 1000  # what a clock is corrected by from one round trip to the next is not worth a write
_OFFSET = (1 << 64) - 1


class State:
    """What is known of numbers. `limit`: none above it was ever given. `bound`: [first id of a segment, number of its
    first reading]; `clocks`: [boot, ms from the clock of that boot to ms since 1970], the newest last."""

    def __init__(self) -> None:
        self.limit = 0
        self.acked = 0
        self.dropped = 0
        self.clocks: list[list[int]] = []
        self.bound: list[list[int]] = []

    def set_clock(self, boot: int, offset: int) -> bool:
        """True: it is another clock, or was set by more than what is measured badly."""
        for clock in self.clocks:
            if clock[0] == boot:
                is_news = abs(clock[1] - offset) > _CLOCK_MS
                clock[1] = offset
                return is_news
        self.clocks = self.clocks[1 - _CLOCKS :]
        self.clocks.append([boot, offset])
        return True

    def encode(self) -> bytes:
        data = bytearray((_MAGIC,))
        for value in (self.limit, self.acked, self.dropped):
            data.extend(value.to_bytes(4, "big"))
        data.append(len(self.clocks))
        for boot, offset in self.clocks:
            data.extend(boot.to_bytes(4, "big"))
            data.extend((offset & _OFFSET).to_bytes(8, "big"))
        for id, first in self.bound:
            data.extend(id.to_bytes(4, "big"))
            data.extend(first.to_bytes(4, "big"))
        return sealed(data)


def sealed(data: bytearray) -> bytes:
    """`data` and its CRC-32."""
    return bytes(data) + (crc32(data) & 0xFFFFFFFF).to_bytes(4, "big")


def opened(data: bytes, magic: int, header: int) -> bytes:
    """What was sealed, or b"" if it is not whole."""
    if len(data) < header + 4 or data[0] != magic:
        return b""
    if crc32(data[:-4]) & 0xFFFFFFFF != int.from_bytes(data[-4:], "big"):
        return b""
    return data[:-4]


def _decode(data: bytes) -> "State | None":
    data = opened(data, _MAGIC, _HEADER)
    if not data:
        return None
    state = State()
    state.limit, state.acked, state.dropped = [int.from_bytes(data[at : at + 4], "big") for at in (1, 5, 9)]
    start = _HEADER + 12 * data[_HEADER - 1]
    for at in range(_HEADER, min(start, len(data) - 11), 12):
        offset = int.from_bytes(data[at + 4 : at + 12], "big")
        state.clocks.append([int.from_bytes(data[at : at + 4], "big"), offset - (offset >> 63 << 64)])
    for at in range(start, len(data) - 7, 8):
        state.bound.append([int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")])
    return state


class Segments:
    """`folder` ends with "/" or is ""; `limit` bytes of flash at most. Everything but `open` may raise OSError."""

    def __init__(self, folder: str, limit: int) -> None:
        self.files: list[list[int]] = []  # [first id, last id], in order
        self.last_size = 0  # bytes of the last one
        self.next_id = 1
        self.limit = max(limit // SEGMENT, MIN_SEGMENTS)
        self._folder = folder + "outbox/"
        self._is_closed = True  # the last one takes no more
        self._is_checked = True  # and nothing of it is broken

    def open(self) -> "State | None":
        """Find what is there. Returns None if numbers were never given here, or what is known of them is broken."""
        try:
            os.mkdir(self._folder[:-1])
        except OSError:
            pass  # it is there, or the first write tells
        self.files = []
        try:
            names = os.listdir(self._folder[:-1])
        except OSError:
            names = []
        for first, last in sorted(_range(name) for name in names):
            if last and self.files and last <= self.files[-1][1]:
                self._remove(_name(first, last))
            elif last:
                if self.files and self.files[-1][0] == first:
                    self._remove(_name(first, self.files.pop()[1]))
                self.files.append([first, last])
        state = self._read_state()
        ids = [last for _, last in self.files] + ([id for id, _ in state.bound] if state else [])
        self.next_id = max(ids) + 1 if ids else 1
        self._measure()
        self._is_closed = not self.files
        self._is_checked = False
        return state

    def end(self) -> "tuple[int, int]":
        """(last id, size of that file): grows whenever readings are added."""
        return (self.files[-1][1], self.last_size) if self.files else (0, 0)

    def forget_empty(self) -> None:
        """Let go of the last segment if nothing in it can be read: a power cut has left it empty."""
        if self.files and not self.count(self.files[-1]):
            self._remove(_name(*self.files.pop()))
            self._is_closed = True
            self._measure()

    def batches(self, file: "list[int]") -> "Iterator[batch.Batch]":
        """The readable batches of a segment, one in RAM at a time."""
        offset = 0
        while True:
            try:
                with open(self._path(file), "rb") as stream:
                    stream.seek(offset)
                    header = stream.read(batch.HEADER)
                    size = batch.length(header)
                    part = batch.parse(header + stream.read(size - len(header))) if size else None
            except OSError:
                part = None
            if part is None:
                return
            yield part
            offset += size

    def count(self, file: "list[int]") -> int:
        """Readings of a segment."""
        return sum(part.count for part in self.batches(file))

    def create(self, data: bytes, is_closed: bool = False) -> int:
        """A new segment. Returns its id."""
        id = self.next_id
        self.next_id += 1  # a number that failed may have left a file
        file = [id, id]
        try:
            self._write(_name(id, id), data, "wb")
        except OSError:
            self._remove(_name(id, id))
            raise
        self.files.append(file)
        self.last_size = len(data)
        self._is_closed = is_closed
        self._is_checked = True
        return id

    def has_room(self, size: int) -> bool:
        """Whether the last segment takes so many bytes more."""
        if self._is_closed or self.last_size + size > SEGMENT:
            return False
        if not self._is_checked:
            # What stands behind a broken batch would never be read.
            self._is_checked = True
            self._is_closed = self.last_size != sum(part.end for part in self.batches(self.files[-1]))
        return not self._is_closed

    def put(self, data: bytes) -> None:
        """Into the last segment, or a new one."""
        if self.has_room(len(data)):
            self._append(data)
        else:
            self.create(data)

    def _append(self, data: bytes) -> None:
        try:
            self._write(_name(*self.files[-1]), data, "ab")
        except OSError:
            self._is_checked = False  # LittleFS leaves it as it was; another file system may not
            self._measure()
            raise
        self.last_size += len(data)

    def close(self) -> None:
        """The last segment takes no more."""
        self._is_closed = True

    def remove(self, file: "list[int]") -> None:
        os.remove(self._path(file))
        self.files.remove(file)
        if not self.files or self.files[-1][1] < file[0]:
            self._is_closed = True
            self._measure()

    def write_state(self, state: State) -> None:
        self._write(_STATE, state.encode(), "wb")

    # Making room -------------------------------------------------------------------------------------------

    def make_room(self, bound: int, policies: "dict[int, int]") -> int:
        """Have a segment less, throwing away as the policies say; the first `bound` are not touched, nor the last.

        Returns how many readings are gone, -1 if it cannot be done.
        """
        free = self.files[bound:-1]
        if not free:
            return -1
        if not any(policies.values()):  # any order
            return self.drop(free[0])
        lost = -1
        if len(free) > 1:
            at = _pair(free)
            lost = self._merge(free[at], free[at + 1], policies, True)
            if lost < 0:
                lost = self._merge(free[0], free[1], policies, False)
        return lost

    def drop(self, file: "list[int]") -> int:
        """Throw a segment away, whatever the policies say. Returns how many readings are gone."""
        number = self.count(file)
        self.remove(file)
        return number

    def _merge(self, older: "list[int]", newer: "list[int]", policies: "dict[int, int]", is_gentle: bool) -> int:
        """Make one segment of two. Returns how many readings are gone, -1 if it would be too large."""
        channels = bytearray()
        sizes: list[int] = []
        moments: list[int] = []
        clock = last = -1
        moment = distance = 0
        bases: dict[int, int] = {}
        boot = -1
        room = SEGMENT - SEGMENT // _MERGED_BATCH * batch.OVERHEAD
        for file in (older, newer):
            for part in self.batches(file):
                if part.boot != boot:
                    boot = part.boot
                    room -= batch.OVERHEAD
                bases[part.boot] = min(part.base, bases.get(part.boot, part.base))
                at = part.next_at
                while part.step():
                    # How far two clocks are from each other nobody knows: as two readings before.
                    delta = part.base + part.delta >> _MOMENT_BITS
                    distance = distance if part.boot != clock else max(1, delta - last)
                    clock, last = part.boot, delta
                    moment += distance
                    moments.append(moment)
                    channels.append(part.channel)
                    # The distance to a base further back may take a byte or two more.
                    sizes.append(part.next_at - at + 2)
                    at = part.next_at
        kept = shedding.keep(channels, sizes, moments, policies, room, is_gentle)
        if kept is None:
            return -1
        number = sum(kept)
        if not number:
            self.remove(older)
            self.remove(newer)
            return len(kept)
        with open(self._folder + _MERGED, "wb") as stream:
            self._copy((older, newer), kept, bases, stream)
        merged = [older[0], newer[1]]
        os.rename(self._folder + _MERGED, self._path(merged))
        at = self.files.index(older)
        self.files[at : at + 2] = [merged]
        self._remove(_name(*older))
        self._remove(_name(*newer))
        return len(kept) - number

    def _copy(
        self, files: "tuple[list[int], ...]", kept: bytearray, bases: "dict[int, int]", stream: "BufferedWriter"
    ) -> None:
        position = boot = number = 0
        body = bytearray()
        for file in files:
            for part in self.batches(file):
                if number and (part.boot != boot or len(body) > _MERGED_BATCH):
                    stream.write(batch.build(boot, bases[boot], number, body))
                    body = bytearray()
                    number = 0
                boot = part.boot
                while part.step():
                    if kept[position]:
                        body.extend(batch.encode(part.channel, part.base + part.delta - bases[boot], part.value()))
                        number += 1
                    position += 1
        if number:
            stream.write(batch.build(boot, bases[boot], number, body))

    # Files -------------------------------------------------------------------------------------------------

    def _path(self, file: "list[int]") -> str:
        return self._folder + _name(file[0], file[1])

    def _write(self, name: str, data: bytes, mode: str) -> None:
        with open(self._folder + name, mode) as stream:
            stream.write(data)

    def _remove(self, name: str) -> None:
        """What stays is found again when the outbox is opened."""
        try:
            os.remove(self._folder + name)
        except OSError:
            pass

    def _measure(self) -> None:
        try:
            self.last_size = os.stat(self._path(self.files[-1]))[6] if self.files else 0
        except OSError:
            self._is_closed = True

    def _read_state(self) -> "State | None":
        try:
            with open(self._folder + _STATE, "rb") as stream:
                return _decode(stream.read())
        except OSError:
            return None


def _name(first: int, last: int) -> str:
    name = f"{first:08x}"
    return name if first == last else name + f"-{last:08x}"


def _range(name: str) -> "tuple[int, int]":
    """(first id, last id) of a segment; (0, 0) of another file."""
    try:
        if len(name) == 8:
            return int(name, 16), int(name, 16)
        if len(name) == 17 and name[8] == "-":
            return int(name[:8], 16), int(name[9:], 16)
    except ValueError:
        pass
    return 0, 0


def _pair(files: "list[list[int]]") -> int:
    """Which of these and the one after it to merge: the pair whose wider one covers the least, the oldest of several.

    So all get thin evenly: none that is thin already is halved again while two others are thicker.
    """
    best = 0
    least = -1
    for i in range(len(files) - 1):
        width = max(files[i][1] - files[i][0], files[i + 1][1] - files[i + 1][0])
        if least < 0 or width < least:
            least = width
            best = i
    return best
