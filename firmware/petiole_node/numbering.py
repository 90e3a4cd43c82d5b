"""Numbers of stored readings, and the way of the readings from storage back to RAM (DESIGN.md, "The durable outbox").

What is stored is counted by place, not by number. A reading gets its number when it comes within reach of the wire, and
only after it is stored which number that is:

* `limit`, in flash, is above all numbers that were given; after a power cut numbering goes on above it;
* a segment whose readings get numbers is written down with the first of them;
* retained memory holds the next number, and is written before a number given after it is used.

So no number ever means two readings, and what is thrown away had none: the numbers on the wire have no gap to wait for.
"""

from petiole import batch
from petiole.items import Measured
from petiole_node.segments import Segments, State, opened, sealed

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Iterator

    from petiole_node.segments import Retained

_CHUNK = 128  # numbers that one write to flash makes free to give
_WARY = 8192  # numbers since the last ack that is known of: an accept tells 16 bits of them
_MAGIC = 0xA7
NOTE = 25  # bytes of retained memory beside the readings
_HEADER = NOTE - 4
KEPT = 0  # the id of retained memory; those of segments begin at 1


class Source:
    """Stored readings with numbers: `id` of the segment, `first` number, `count` once all were read."""

    def __init__(self, id: int, first: int) -> None:
        self.id = id
        self.first = first
        self.count: int | None = None


class Numbering:
    """`items`: numbered, in RAM and without a gap; `waiting`: newer ones, in RAM only, without numbers."""

    def __init__(self, segments: Segments, boot: int, retained: "Retained | None", window: int, ram: int) -> None:
        self.items: list[Measured] = []
        self.waiting: list[Measured] = []
        self.next_sequence = 1
        self.is_exact = False  # the number after the last one that was given was kept
        self.dropped_total = 0  # readings thrown away in the life of the outbox
        self.failures_total = 0  # writes that failed
        self._segments = segments
        self._retained = retained
        self._window = window
        self._ram = ram
        self._boot = boot
        self._kept = b""  # the readings in retained memory
        self._is_noted = False  # retained memory is in use
        self._sources: list[Source] = []  # oldest first: segments, then retained memory
        self._reader: "Iterator[Measured] | None" = None
        self._is_rebased = False  # flash does not know yet where numbers go on
        self._is_gap = False
        self.is_clock_doubtful = False  # `offset` is by a gateway's clock that nobody has set
        self._is_timeless = False  # readings were stored by the clock of this boot
        self._is_clock_news = False  # what flash should know of it, and does not
        state = segments.open()
        self.has_memory = state is not None
        self._state = state or State()
        self._acked = self._state.acked
        self.next_sequence = self._state.limit + 1
        self.dropped_total = self._state.dropped
        first_kept = self._restore()
        for id, first in self._state.bound:
            if any(file[0] == id for file in segments.files):
                self._sources.append(Source(id, first))
        self._close_bound()
        if first_kept:
            self._sources.append(Source(KEPT, first_kept))
        self._ram_from = self.next_sequence  # numbers from here on are of readings that are in RAM only

    def _restore(self) -> int:
        """Take what retained memory holds, unless it has gone to flash since. Return the number of the first reading
        there, 0 if there is none or it has none."""
        if self._retained is None:
            return 0
        data = self._retained.read()
        data = opened(data[: int.from_bytes(data[1:3], "big")], _MAGIC, _HEADER)
        if data:
            following, first, dropped, id = [int.from_bytes(data[at : at + 4], "big") for at in (3, 7, 11, 15)]
            place = (id, int.from_bytes(data[19:_HEADER], "big"))
            # That place must stay behind new segments, also when the one it names is gone.
            self._segments.next_id = max(self._segments.next_id, id + 1)
            if self._segments.end() > place:
                self._segments.forget_empty()
            if self._segments.end() <= place:
                self._kept = data[_HEADER:]
                self._is_noted = True
                self.dropped_total = max(dropped, self.dropped_total)
                if self.has_memory and following <= self._state.limit + 1:
                    self.next_sequence = following
                    self.is_exact = True
                    return first if self._kept else 0
                return 0
        # When the segments have been sent and removed, it would look valid again.
        self._retained.write(b"")
        return 0

    @property
    def oldest_sequence(self) -> int:
        """Of the oldest reading that has a number; of the next one if none has."""
        if self.items:
            return self.items[0].sequence or 0
        if self._sources:
            return max(self._sources[0].first, self._acked + 1)
        return self.next_sequence

    @property
    def acked_sequence(self) -> int:
        """Everything up to it is durable; more may be."""
        return self._acked

    def take_gap(self) -> bool:
        """Whether FLOOR is due before the oldest of `items`, once: a gap ends there, or more readings were dropped."""
        is_gap, self._is_gap = self._is_gap, False
        return is_gap

    def trim(self, sequence: int) -> "list[Measured]":
        """Take out of `items` what is durable: every reading up to `sequence`. `fill` removes it from flash."""
        self._acked = max(self._acked, sequence)
        trimmed = []
        while self.items and (self.items[0].sequence or 0) <= sequence:
            trimmed.append(self.items.pop(0))
        return trimmed

    @property
    def unused(self) -> int:
        """Numbers that may be given without a write; -1 if flash does not know where they go on."""
        return -1 if self._is_rebased else max(0, self._state.limit + 1 - self.next_sequence)

    def resume(self, unused: int) -> None:
        """This life goes on where a sleep began, in which nothing was stored: so many numbers were not given then."""
        if self.has_memory and not self.is_exact:
            self.next_sequence = self._ram_from = max(1, self._state.limit + 1 - unused)
            self.is_exact = True

    def rebase(self, sequence: int) -> None:
        """The gateway has taken numbers up to `sequence`: number everything anew if they are not ours."""
        if sequence >= self.next_sequence:
            unsaved = self._unsaved()
            for item in unsaved:
                item.sequence = None
                item.is_reliable = False
            self.waiting = unsaved + self.waiting
            self.items = []
            self._sources = []
            self._reader = None
            self._state.limit = self._acked = sequence
            self.next_sequence = self._ram_from = sequence + 1
            self._is_rebased = True
            self._note()
        self._is_rebased = self._is_rebased or not self.has_memory
        self.has_memory = True

    def fill(self, offset: int | None = None) -> None:
        """Have the next readings in `items`, numbered, and remove from flash what is durable.

        `offset`: ms from this clock to ms since 1970, None while the time is not known.
        """
        self._learn(offset)
        self._remove_durable()
        while self._has_room():
            if self._reader is not None:
                if not self._read():
                    self._remove_durable()
                continue
            unread = [source for source in self._sources if source.count is None]
            if unread:
                if self.items and unread[0].first > self._last() + 1:
                    return  # a gap is crossed when everything before it is durable
                if offset is None and any(part.boot != self._boot for part in self._batches(unread[0].id)):
                    return  # how long ago that was is known when the clock is
                self._reader = self._readings(unread[0], offset)
            elif not self._bind():
                return

    def _learn(self, offset: int | None) -> None:
        if offset is None:
            # What an earlier wake has stored may be of this boot, too.
            self._is_timeless = self._is_timeless or bool(self._kept or self._segments.files)
        if offset is not None and self._is_timeless and self._state.set_clock(self._boot, offset):
            self._is_clock_news = True

    def _has_room(self) -> bool:
        return len(self.items) < self._window and sum([len(item.value) for item in self.items]) < self._ram

    def _last(self) -> int:
        return (self.items[-1].sequence or 0) if self.items else 0

    # From storage to RAM -----------------------------------------------------------------------------------

    def _read(self) -> bool:
        """One reading from the reader to `items`. False: it has no more."""
        for item in self._reader or ():
            if not self.items and (item.sequence or 0) > self._acked + 1:
                self._is_gap = True
            self.items.append(item)
            return True
        self._reader = None
        return False

    def _readings(self, source: Source, offset: int | None) -> "Iterator[Measured]":
        """Those of a source that are neither durable nor in `items`."""
        sequence = source.first
        for part in self._batches(source.id):
            shift = self._shift(part, offset)
            following = sequence + part.count
            while part.step():
                if sequence > max(self._acked, self._last()):
                    yield Measured(part.channel, sequence, part.base + part.delta + shift, part.value())
                sequence += 1
            sequence = following
        source.count = sequence - source.first

    def _batches(self, id: int) -> "Iterator[batch.Batch]":
        for file in self._segments.files:
            if file[0] == id:
                yield from self._segments.batches(file)
                return
        data = self._kept if id == KEPT else b""
        part = batch.parse(data)
        while part is not None:
            yield part
            part = batch.parse(data, part.end)

    def _shift(self, part: batch.Batch, offset: int | None) -> int:
        """What makes moments of our clock of those of a batch."""
        if part.boot == self._boot:
            return 0
        if offset is not None:
            if not part.boot:
                return -offset
            for boot, known in self._state.clocks:
                if part.boot == boot:
                    return known - offset
        # Nobody knows how long ago: as if the last of them had been taken when this clock began.
        last = batch.Batch(part.data, part.start, part.end)
        while last.step():
            pass
        return -part.base - last.delta

    def _remove_durable(self) -> None:
        """Let go of sources that were all read and are durable."""
        while self._sources:
            source = self._sources[0]
            if source.count is None or source.first + source.count - 1 > self._acked:
                return
            if source.id == KEPT:
                self._kept = b""
            for file in self._segments.files:
                if file[0] == source.id:
                    try:
                        self._segments.remove(file)
                    except OSError:
                        self.failures_total += 1
                        return
                    break
            self._sources.pop(0)

    # Giving numbers ----------------------------------------------------------------------------------------

    def _bind(self) -> bool:
        """Give numbers to what comes next. False: there is nothing, or it could not be written down."""
        if not self.has_memory:
            return False  # the gateway tells where to begin
        bound = self._bound()
        segments = self._segments
        while bound < len(segments.files):
            file = segments.files[bound]
            number = segments.count(file)
            if number:
                return self._bind_source(Source(file[0], self.next_sequence), number)
            try:
                segments.remove(file)  # a power cut has left it empty, or it is broken
            except OSError:
                self.failures_total += 1
                return False
        if self._kept and not self._is_kept_numbered():
            return self._bind_source(Source(KEPT, self.next_sequence), batch.count(self._kept))
        return self._bind_waiting()

    def _bind_source(self, source: Source, number: int) -> bool:
        if not self._reserve(source.first + number, source):
            return False
        self._sources.append(source)
        self.next_sequence = self._ram_from = source.first + number
        self._close_bound()
        self._note()
        return True

    def _bind_waiting(self) -> bool:
        room = self._window - len(self.items)
        ready = self.waiting[:room]
        first = self.next_sequence
        if not ready or (self.items and self._last() + 1 != first):
            return False
        if not self._reserve(first + len(ready)):
            return False
        self.next_sequence = first + len(ready)
        self._note()
        if not self.items and first > self._acked + 1:
            self._is_gap = True
        for item in ready:
            item.sequence = first
            item.is_reliable = True
            first += 1
        self.items.extend(ready)
        self.waiting = self.waiting[room:]
        return True

    def _bound(self) -> int:
        """How many segments have numbers: they are the first ones."""
        return sum([1 for source in self._sources if source.id != KEPT])

    def _close_bound(self) -> None:
        """What is added to a segment with numbers would get those that follow, which others may have."""
        if self._segments.files and self._bound() == len(self._segments.files):
            self._segments.close()

    def _is_kept_numbered(self) -> bool:
        return bool(self._sources) and self._sources[-1].id == KEPT

    def _unsaved(self) -> "list[Measured]":
        return [item for item in self.items if (item.sequence or 0) >= self._ram_from]

    def _first_unstored(self) -> int:
        """Number of the first reading that is not in flash; 0 if it has none."""
        if self._kept:
            return self._sources[-1].first if self._is_kept_numbered() else 0
        unsaved = self._unsaved()
        return (unsaved[0].sequence or 0) if unsaved else 0

    def _reserve(self, following: int, source: "Source | None" = None) -> bool:
        """Have it in flash that numbers below `following` are given, and those of a segment. False: it could not be."""
        state = self._state
        limit = state.limit
        is_segment = source is not None and source.id != KEPT
        if following - 1 <= limit and not is_segment:
            return True
        if following - 1 > limit:
            # Numbers that are left unused without acks must not add up to more than an accept can tell.
            chunk = _CHUNK if following - self._acked < _WARY else 1
            state.limit = following - 1 + (0 if is_segment else chunk)
        if self._write_state(source if is_segment else None):
            return True
        state.limit = limit
        return False

    def _write_state(self, source: "Source | None" = None) -> bool:
        state = self._state
        state.acked = self._acked
        state.dropped = self.dropped_total
        state.bound = [[bound.id, bound.first] for bound in self._sources if bound.id != KEPT]
        if source is not None:
            state.bound.append([source.id, source.first])
        try:
            self._segments.write_state(state)
        except OSError:
            self.failures_total += 1
            state.dropped = -1  # nobody knows what flash says
            return False
        self._is_clock_news = self._is_rebased = False
        return True

    def _note(self) -> None:
        """Bring retained memory up to date, if it is in use."""
        if self._retained is None or not self._is_noted:
            return
        id, size = self._segments.end()
        data = bytearray((_MAGIC,))
        data.extend((NOTE + len(self._kept)).to_bytes(2, "big"))
        first = self._first_unstored() if self._kept else 0
        for value in (self.next_sequence, first, self.dropped_total, id):
            data.extend(value.to_bytes(4, "big"))
        data.extend(size.to_bytes(2, "big"))
        data.extend(self._kept)
        self._retained.write(sealed(data))
