"""Numbers of stored readings, and the way of the readings from storage back to RAM (DESIGN.md, "The durable outbox").

What is stored is counted by place, not by number. A reading gets its number when it comes within reach of the wire, and
only after it is stored which number that is:

* `limit`, in flash, is above all numbers that were given; after a power cut numbering goes on above it;
* a segment whose readings have numbers has the first of them in its name, and takes no readings but those that follow;
* retained memory holds the next number, and is written before a number given after it is used.

So no number ever means two readings, and what is thrown away had none: the numbers on the wire have no gap to wait for.
"""

from petiole import batch
from petiole.items import Measured
from petiole_node import ledger
from petiole_node.backlog import KEPT, Backlog, Source
from petiole_node.segments import UNNUMBERED, Segments

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.ledger import Retained

_CHUNK = 128  # numbers that one write to flash makes free to give
_WARY = 8192  # numbers since the last ack that is known of: an accept tells 16 bits of them


class Numbering(Backlog):
    """`items`: numbered, in RAM and without a gap; `waiting`: newer ones, in RAM only, without numbers."""

    def __init__(self, segments: Segments, boot: int, retained: "Retained | None", window: int, ram: int) -> None:
        super().__init__(segments, boot, window, ram)
        self.waiting: list[Measured] = []
        self.is_exact = False  # the number after the last one that was given was kept
        self._retained = retained
        self._is_noted = False  # retained memory is in use
        self._is_rebased = False  # flash does not know yet where numbers go on
        self.is_clock_doubtful = False  # `offset` is by a gateway's clock that nobody has set
        self._is_timeless = False  # readings were stored by the clock of this boot
        self._is_clock_news = False  # what flash should know of it, and does not
        self.dropped_total = max(self._state.dropped, segments.dropped)  # in the life of the outbox
        first_kept = self._restore()
        self._find_sources(first_kept)
        self._ram_from = self.next_sequence  # numbers from here on are of readings that are in RAM only

    def _restore(self) -> int:
        """Take what retained memory holds, unless it has gone to flash since. Return the number of the first reading
        there, 0 if there is none or it has none."""
        if self._retained is None:
            return 0
        note = ledger.decode_note(self._retained.read())
        if note is not None:
            # That place must stay behind new segments, also when the one it names is gone.
            self._segments.next_id = max(self._segments.next_id, note.place[0] + 1)
            if self._segments.end() > note.place:
                self._segments.forget_empty()
            if self._segments.end() <= note.place:
                self._kept = note.kept
                self._is_noted = True
                self.dropped_total = max(note.dropped, self.dropped_total)
                if self.has_memory and note.following <= self._state.limit + 1:
                    self.next_sequence = note.following
                    self.is_exact = True
                    return note.first if self._kept else 0
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
    def is_numbered(self) -> bool:
        """Whether nothing that is kept waits for a number."""
        is_kept = self._is_kept_numbered() if self._kept else True
        return is_kept and not self.waiting and self._bound() == len(self._segments.files)

    @property
    def is_empty(self) -> bool:
        """Whether the gateway has all readings on its disk."""
        if self.items or self._kept or not self.is_numbered:
            return False
        return all(self._is_durable(source) for source in self._sources)

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
            if unread and self._is_durable(unread[0]):
                self._remove_durable()
            elif unread:
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
                return self._may_number() and self._bind_segment(file, number)
            try:
                segments.remove(file)  # a power cut has left it empty, or it is broken
            except OSError:
                self.failures_total += 1
                return False
        if self._kept and not self._is_kept_numbered():
            return self._bind_kept()
        return self._bind_waiting()

    def _may_number(self) -> bool:
        """Whether one segment more may have numbers: what has any is beyond the policies, and never goes by them."""
        return not self.items or self._bound() < max(1, self._segments.limit - UNNUMBERED)

    def _bind_segment(self, file: "list[int]", number: int) -> bool:
        first = self.next_sequence
        if not self._reserve(first + number, file is not self._segments.files[-1]):
            return False
        try:
            self._segments.number(file, first)
        except OSError:
            self.failures_total += 1
            return False
        self._bound_source(Source(file[0], first), number)
        return True

    def _bind_kept(self) -> bool:
        first = self.next_sequence
        number = batch.count(self._kept)
        if not self._reserve(first + number):
            return False
        self._bound_source(Source(KEPT, first), number)
        return True

    def _bound_source(self, source: Source, number: int) -> None:
        self._sources.append(source)
        self.next_sequence = self._ram_from = source.first + number
        self._note()

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

    def _next_in_reach(self) -> int:
        """The number that a reading which is stored now has at once, for `fill` would give it one; else 0."""
        if not self.has_memory or self._bound() < len(self._segments.files):
            return 0
        if not all(self._is_durable(source) or source.count is not None for source in self._sources):
            return 0
        return self.next_sequence if self._has_room() and self._may_number() else 0

    def _unsaved(self) -> "list[Measured]":
        return [item for item in self.items if (item.sequence or 0) >= self._ram_from]

    def _first_unstored(self) -> int:
        """Number of the first reading that is not in flash; 0 if it has none."""
        if self._kept:
            return self._sources[-1].first if self._is_kept_numbered() else 0
        unsaved = self._unsaved()
        return (unsaved[0].sequence or 0) if unsaved else 0

    def _reserve(self, following: int, has_spare: bool = True) -> bool:
        """Have it in flash that numbers below `following` are given, and some after them: what is unused of those is a
        gap after a power cut. False: it could not be written."""
        state = self._state
        limit = state.limit
        is_known = not self._is_rebased and state.dropped == self.dropped_total  # a mark goes with its segment
        if following - 1 <= limit and is_known:
            return True
        if following - 1 > limit:
            # Numbers that are left unused without acks must not add up to more than an accept can tell.
            spare = (_CHUNK if following - self._acked < _WARY else 1) if has_spare else 0
            state.limit = following - 1 + spare
        if self._write_state():
            return True
        state.limit = limit
        return False

    def _write_state(self) -> bool:
        state = self._state
        state.acked = self._acked
        state.dropped = self.dropped_total
        segments = self._segments
        try:
            if self._is_rebased:
                for file in segments.files:
                    if file[2]:
                        segments.number(file, 0)  # before the limit, under which it would count
            segments.write_state(state)
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
        first = self._first_unstored() if self._kept else 0
        note = ledger.Note(self.next_sequence, first, self.dropped_total, self._segments.end(), self._kept)
        self._retained.write(note.encode())
