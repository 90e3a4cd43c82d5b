"""Files of the durable outbox: batches of readings in segments.

A segment is a file of batches (petiole.batch) of about one flash block. Its name says its place, `0000002a`, and the
number of its first reading once it has one, `0000002a.00001234`: the others have those that follow. One that was merged
begins with a mark, a batch of no readings: its boot is the last place of those that it replaces (a file with such a
place is a leftover of a power cut and removed), its base how many readings had been dropped by then. Every change is
one atomic operation of LittleFS: a new file (which may be empty after a power cut), an append, a file overwritten in
place, a rename, a removal.
"""

import os

from petiole import batch, shedding
from petiole_node import ledger

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Iterator


SEGMENT = 4096  # bytes: one block of flash, which a file of one byte takes as well
UNNUMBERED = 3  # segments without numbers that a full outbox has at least: one is written, two are merged
MIN_SEGMENTS = UNNUMBERED + 1
_MERGED_BATCH = 1024  # bytes of readings in one piece while two segments become one, which is in RAM as a whole
_MOMENT_BITS = 4  # of ms: half a year in units of 16 ms is a small integer on boards
_STATE = "state"
_ASIDE = "aside"


class Segments:
    """`folder` ends with "/" or is ""; `limit` bytes of flash at most. Everything but `open` may raise OSError.

    `is_littlefs`: a file that is overwritten has its old contents until it is closed, and its old or its new ones after
    a power cut. Elsewhere it is written aside and renamed, which costs LittleFS two pages more.
    """

    def __init__(self, folder: str, limit: int, is_littlefs: bool = True) -> None:
        self.files: list[list[int]] = []  # [first id, last id, number of its first reading or 0], in order
        self.last_size = 0  # bytes of the last one
        self.next_id = 1
        self.dropped = 0  # readings, as the marks tell
        self.limit = max(limit // SEGMENT, MIN_SEGMENTS)
        self._folder = folder + "outbox/"
        self._is_littlefs = is_littlefs
        self._is_closed = True  # the last one takes no more
        self._is_checked = True  # and nothing of it is broken

    def open(self) -> "ledger.State | None":
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
        for file in sorted([_parsed(name) for name in names]):
            if file[0]:
                file[1] = self._replaced(file)
                if self.files and file[0] <= self.files[-1][1]:
                    self._remove(file)
                else:
                    self.files.append(file)
        state = self._read_state()
        self.next_id = self.files[-1][1] + 1 if self.files else 1
        self._measure()
        self._is_closed = not self.files
        self._is_checked = False
        return state

    def _replaced(self, file: "list[int]") -> int:
        """The last place of those that are in it."""
        for part in self._parts(file):
            if not part.count:
                self.dropped = max(self.dropped, part.base)
                return max(file[0], part.boot)
            break
        return file[0]

    def end(self) -> "tuple[int, int]":
        """(last id, size of that file): grows whenever readings are added."""
        return (self.files[-1][1], self.last_size) if self.files else (0, 0)

    def forget_empty(self) -> None:
        """Let go of the last segment if nothing in it can be read: a power cut has left it empty."""
        if self.files and not self.count(self.files[-1]):
            self._remove(self.files.pop())
            self._is_closed = True
            self._measure()

    def batches(self, file: "list[int]") -> "Iterator[batch.Batch]":
        """The readable batches of a segment, one in RAM at a time."""
        for part in self._parts(file):
            if part.count:
                yield part

    def _parts(self, file: "list[int]") -> "Iterator[batch.Batch]":
        """Its mark, too."""
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

    def create(self, data: bytes, number: int = 0) -> int:
        """A new segment, with the number of its first reading if it has one. Returns its id."""
        id = self.next_id
        self.next_id += 1  # an id that failed may have left a file
        file = [id, id, number]
        try:
            self._write(_name(file), data, "wb")
        except OSError:
            self._remove(file)
            raise
        self.files.append(file)
        self.last_size = len(data)
        self._is_closed = False
        self._is_checked = True
        return id

    def number(self, file: "list[int]", number: int) -> None:
        """The readings of a segment have the numbers from this one on, or none (0)."""
        os.rename(self._path(file), self._path([file[0], file[1], number]))
        file[2] = number

    def has_room(self, size: int, has_number: bool = False) -> bool:
        """Whether the last segment takes so many bytes more, of readings that have numbers, or have none."""
        if self._is_closed or self.last_size + size > SEGMENT or bool(self.files[-1][2]) != has_number:
            return False
        if not self._is_checked:
            # What stands behind a broken batch would never be read.
            self._is_checked = True
            self._is_closed = not self._is_whole(self.files[-1])
        return not self._is_closed

    def _is_whole(self, file: "list[int]") -> bool:
        """Whether all of it can be read, and there is something."""
        try:
            size: int = os.stat(self._path(file))[6]
        except OSError:
            return False
        return size > 0 and size == sum(part.end for part in self._parts(file))

    def put(self, data: bytes) -> None:
        """Readings without numbers into the last segment, or a new one."""
        if self.has_room(len(data)):
            self.append(data)
        else:
            self.create(data)

    def append(self, data: bytes) -> None:
        """To the last segment, which has room."""
        try:
            self._write(_name(self.files[-1]), data, "ab")
        except OSError:
            self._is_checked = False  # LittleFS leaves it as it was; another file system may not
            self._measure()
            raise
        self.last_size += len(data)

    def remove(self, file: "list[int]") -> None:
        os.remove(self._path(file))
        self.files.remove(file)
        if not self.files or self.files[-1][1] < file[0]:
            self._is_closed = True
            self._measure()

    def write_state(self, state: ledger.State) -> None:
        self._overwrite(_STATE, [state.encode()])

    # Making room -------------------------------------------------------------------------------------------

    def make_room(self, bound: int, policies: "dict[int, int]", dropped: int) -> int:
        """Have a segment less, throwing away as the policies say; the first `bound` are not touched, nor the last.

        `dropped`: how many were thrown away before. Returns how many readings are gone, -1 if it cannot be done.
        """
        free = self.files[bound:-1]
        if not free:
            return -1
        if not any(policies.values()):  # any order
            return self.drop(free[0])
        lost = -1
        if len(free) > 1:
            at = _pair(free)
            lost = self._merge(free[at], free[at + 1], policies, True, dropped)
            if lost < 0:
                lost = self._merge(free[0], free[1], policies, False, dropped)
        return lost

    def drop(self, file: "list[int]") -> int:
        """Throw a segment away, whatever the policies say. Returns how many readings are gone."""
        number = self.count(file)
        self.remove(file)
        return number

    def _merge(
        self, older: "list[int]", newer: "list[int]", policies: "dict[int, int]", is_gentle: bool, dropped: int
    ) -> int:
        """Make one segment of two. Returns how many readings are gone, -1 if it would be too large."""
        channels = bytearray()
        sizes: list[int] = []
        moments: list[int] = []
        clock = last = -1
        moment = distance = 0
        bases: dict[int, int] = {}
        boot = -1
        room = SEGMENT - (SEGMENT // _MERGED_BATCH + 1) * batch.OVERHEAD
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
        dropped += len(kept) - number
        pieces = [batch.build(newer[1], dropped, 0, b"")]
        self._copy((older, newer), kept, bases, pieces)
        self._overwrite(_name(older), pieces)
        self.dropped = dropped
        older[1] = newer[1]
        self.files.remove(newer)
        self._remove(newer)
        return len(kept) - number

    def _copy(
        self, files: "tuple[list[int], ...]", kept: bytearray, bases: "dict[int, int]", pieces: "list[bytes]"
    ) -> None:
        position = boot = number = 0
        body = bytearray()
        for file in files:
            for part in self.batches(file):
                if number and (part.boot != boot or len(body) > _MERGED_BATCH):
                    pieces.append(batch.build(boot, bases[boot], number, body))
                    body = bytearray()
                    number = 0
                boot = part.boot
                while part.step():
                    if kept[position]:
                        body.extend(batch.encode(part.channel, part.base + part.delta - bases[boot], part.value()))
                        number += 1
                    position += 1
        if number:
            pieces.append(batch.build(boot, bases[boot], number, body))

    # Files -------------------------------------------------------------------------------------------------

    def _path(self, file: "list[int]") -> str:
        return self._folder + _name(file)

    def _write(self, name: str, data: bytes, mode: str) -> None:
        with open(self._folder + name, mode) as stream:
            stream.write(data)

    def _overwrite(self, name: str, pieces: "list[bytes]") -> None:
        with open(self._folder + (name if self._is_littlefs else _ASIDE), "wb") as stream:
            for piece in pieces:
                stream.write(piece)
        if not self._is_littlefs:
            os.rename(self._folder + _ASIDE, self._folder + name)

    def _remove(self, file: "list[int]") -> None:
        """What stays is found again when the outbox is opened."""
        try:
            os.remove(self._path(file))
        except OSError:
            pass

    def _measure(self) -> None:
        try:
            self.last_size = os.stat(self._path(self.files[-1]))[6] if self.files else 0
        except OSError:
            self._is_closed = True

    def _read_state(self) -> "ledger.State | None":
        try:
            with open(self._folder + _STATE, "rb") as stream:
                return ledger.decode(stream.read())
        except OSError:
            return None


def _name(file: "list[int]") -> str:
    name = f"{file[0]:08x}"
    return name + f".{file[2]:08x}" if file[2] else name


def _parsed(name: str) -> "list[int]":
    """[id, the same, number] of a segment; zeros of another file."""
    place, _, number = name.partition(".")
    try:
        id = int(place, 16)
        file = [id, id, int(number or "0", 16)]
    except ValueError:
        return [0, 0, 0]
    return file if _name(file) == name else [0, 0, 0]


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
