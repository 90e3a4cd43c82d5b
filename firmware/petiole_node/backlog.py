"""The way of stored readings that have numbers from storage back to RAM, and what becomes of them there.

They lie in segments, then in retained memory, behind each other. A segment that was sent goes when the gateway has all
of it; the last one stays while more may be added to it.
"""

from petiole import batch
from petiole.items import Measured
from petiole_node import ledger

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Iterator

    from petiole_node.segments import Segments

KEPT = 0  # the id of retained memory; those of segments begin at 1


class Source:
    """Stored readings with numbers: `id` of the segment, `first` number, `count` once all were read."""

    def __init__(self, id: int, first: int) -> None:
        self.id = id
        self.first = first
        self.count: int | None = None


class Backlog:
    """`items`: in RAM, with numbers and without a gap; at most `window`, and about `ram` bytes."""

    def __init__(self, segments: "Segments", boot: int, window: int, ram: int) -> None:
        self.items: list[Measured] = []
        self.failures_total = 0  # writes that failed
        self._segments = segments
        self._window = window
        self._ram = ram
        self._boot = boot
        self._kept = b""  # the readings in retained memory
        self._sources: list[Source] = []  # oldest first: segments, then retained memory
        self._reader: "Iterator[Measured] | None" = None
        self._is_gap = False
        state = segments.open()
        self.has_memory = state is not None
        self._state = state or ledger.State()
        self._acked = self._state.acked
        self.next_sequence = self._state.limit + 1

    def _find_sources(self, first_kept: int) -> None:
        """`first_kept`: number of the first reading in retained memory, 0 if it has none."""
        for file in self._segments.files:
            if not (file[2] and self.has_memory):
                break
            self._sources.append(Source(file[0], file[2]))
        if first_kept:
            self._sources.append(Source(KEPT, first_kept))

    def _bound(self) -> int:
        """How many segments have numbers: they are the first ones."""
        return sum([1 for source in self._sources if source.id != KEPT])

    def _tail(self, first: int, size: int) -> "Source | None":
        """The segment to which readings with the numbers from `first` on may be added: they follow its own."""
        segments = self._segments
        bound = self._bound()
        if not bound or bound < len(segments.files) or not segments.has_room(size, True):
            return None
        source = self._sources[bound - 1]
        count = segments.count(segments.files[-1]) if source.count is None else source.count
        return source if source.first + count == first else None

    def _is_kept_numbered(self) -> bool:
        return bool(self._sources) and self._sources[-1].id == KEPT

    def _has_room(self) -> bool:
        return len(self.items) < self._window and sum([len(item.value) for item in self.items]) < self._ram

    def _last(self) -> int:
        return (self.items[-1].sequence or 0) if self.items else 0

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
            following = sequence + part.count
            is_news = following - 1 > max(self._acked, self._last())
            shift = self._shift(part, offset) if is_news else 0
            while is_news and part.step():
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

    def _is_durable(self, source: Source) -> bool:
        """Whether the gateway has all of it; one that was not read is counted if the beginning is durable."""
        if source.count is None and source.first <= self._acked:
            number = sum([part.count for part in self._batches(source.id)])
            if source.first + number - 1 <= self._acked:
                source.count = number
        return source.count is not None and source.first + source.count - 1 <= self._acked

    def _remove_durable(self) -> None:
        """Let go of sources that were all read and are durable, but for the one to which more may be added."""
        while self._sources and self._sources[0].count is not None and self._is_durable(self._sources[0]):
            source = self._sources[0]
            if self._tail(self.next_sequence, batch.OVERHEAD) is source:
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
