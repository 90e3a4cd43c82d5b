"""The durable outbox: confirmed readings that survive sleep, reset and power loss (DESIGN.md, "The durable outbox").

RAM first; retained memory of the chip next, if it has any; then flash, one segment for many readings. In this order
they lie behind each other, so segments hold the oldest.

Flash is written in `flush`, `fill` and (without retained memory, or when it is full) `save` only: on an RP2040 that
stops interrupts, so whoever calls them chooses the moment. What cannot be written raises nothing and stays where it is.
"""

from petiole import batch, shedding
from petiole.errors import QueueFull
from petiole.items import Measured
from petiole_node.backlog import KEPT, Source
from petiole_node.ledger import NOTE
from petiole_node.numbering import Numbering

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.ledger import Retained
    from petiole_node.segments import Segments

RAM = 2048  # bytes of readings; together with 2 KB of retained memory they fit a segment
_ITEM = 8  # bytes beside a value, at most
_READINGS = 64  # in RAM; 150 bytes each beside their value
_NO_SPACE = 28  # ENOSPC


class DurableOutbox(Numbering):
    """In the place of petiole.outbox.Outbox. `items`: numbered and in RAM, without a gap: what may be sent.

    `boot` numbers this run of the clock. `policies`: of channels (petiole.shedding). `window`: readings in `items`.
    """

    def __init__(
        self,
        segments: "Segments",
        boot: int,
        retained: "Retained | None" = None,
        policies: "dict[int, int] | None" = None,
        window: int = 32,
        ram: int = RAM,
    ) -> None:
        super().__init__(segments, boot, retained, window, min(ram, RAM))
        self._policies = policies or {}
        self.refused: list[Measured] = []  # thrown away from RAM in the last `save` or `flush`

    def add(self, channel: int, taken: int, value: bytes) -> Measured:
        """Keep a reading in RAM, without a number. Raises QueueFull: `save` or `flush` makes room."""
        unsaved = self._unsaved() + self.waiting
        size = sum([len(item.value) + _ITEM for item in unsaved]) + len(value) + _ITEM
        if len(unsaved) >= _READINGS or (unsaved and size > self._ram):  # one has room, however large
            raise QueueFull("outbox", "at most " + str(self._ram) + " bytes in RAM")
        item = Measured(channel, None, taken, value)
        self.waiting.append(item)
        return item

    @property
    def is_stored(self) -> bool:
        """Whether a reset would lose no reading."""
        return not self.waiting and not self._unsaved()

    def save(self, offset: int | None = None) -> bool:
        """Store all readings where sleep and a reset leave them: in retained memory, or in flash if they do not fit.

        `offset`: ms from this clock to ms since 1970, None while the time is not known. False: it could not be done.
        """
        if not self._part_kept() or (self._is_rebased and not self._write_state()):
            return False
        data = self._packed(offset)
        if self._retained is None or NOTE + len(data) > self._retained.size:
            return self.flush(offset) and self._tell_acked()
        self.refused = []
        first = self._first_unstored()
        following = first + batch.count(data) if first else self.next_sequence
        if not self._reserve(following):
            return False
        self._stored(data, first, following)
        self._is_noted = True
        self._note()
        return True

    def flush(self, offset: int | None = None) -> bool:
        """Store all readings in flash, where power loss leaves them. False: it could not be done; if there was no room
        in RAM, some were thrown away."""
        self.refused = []
        is_done = self._part_kept()
        if is_done:
            data = self._packed(offset)
            if not data:
                return True
            first = self._first_unstored() or self._next_in_reach()
            try:
                is_done = self._put_numbered(data, first) if first else self._put_waiting(data, offset)
            except OSError:
                self.failures_total += 1
                is_done = False
        if not is_done:
            self._shed()
        elif not self._is_dropped_known() or self._is_clock_news:
            self._write_state()
        return is_done

    def _tell_acked(self) -> bool:
        """What was added to readings of which some are durable is found again without sending those, too."""
        sources = self._sources
        is_split = len(sources) and sources[0].first <= self._acked and not self._is_durable(sources[0])
        return not is_split or self._state.acked == self._acked or self._write_state()

    def _part_kept(self) -> bool:
        """Readings in RAM lie behind those in retained memory only if their numbers follow, for a number is told by its
        place. They do not when those between are durable already, or were lost by a reset. False: flash takes nothing.
        """
        if not self._is_kept_numbered():
            return True
        first = self._sources[-1].first
        following = first + batch.count(self._kept)
        if following - 1 <= self._acked:
            self._sources.pop()
        elif following == self._ram_from:
            return True
        else:
            try:
                if not self._add_numbered(self._kept, first):
                    return False
            except OSError:
                self.failures_total += 1
                return False
            self._sources.pop()
        self._kept = b""
        self._reader = None
        self._note()
        return True

    def _put_numbered(self, data: bytes, first: int) -> bool:
        """All of `data` in flash, with numbers: those that had none get theirs now. Raises OSError."""
        if not self._add_numbered(data, first):
            return False
        self._stored(b"", 0, first + batch.count(data))
        self._note()
        return True

    def _add_numbered(self, data: bytes, first: int) -> bool:
        """To the segment whose numbers end before `first`, or in one of its own. False: there is no room."""
        source = self._tail(first, len(data))
        if source is None and not self._make_room():
            return False
        if not self._reserve(first + batch.count(data), False):
            return False
        if source is None:
            at = self._bound()
            self._sources.insert(at, Source(self._segments.create(data, first), first))
        else:
            self._segments.append(data)
            source.count = None  # there is more to read
        return True

    def _put_waiting(self, data: bytes, offset: int | None) -> bool:
        segments = self._segments
        # Full is full also while the last segment has room: what others made would be theirs who never give any back.
        if len(segments.files) >= segments.limit and self._refuse():
            data = self._packed(offset)
        if data and not segments.has_room(len(data)) and not self._make_room():
            return False
        if data:
            self._put(data)
        self._stored(b"", 0, self.next_sequence)
        self._note()
        return True

    def _put(self, data: bytes) -> None:
        segments = self._segments
        try:
            segments.put(data)
        except OSError as error:
            # The file system may be full of other things: a segment less is room for this one.
            free = segments.files[self._bound() :]
            if not free or error.errno != _NO_SPACE:
                raise
            self._drop(segments.drop(free[0]))
            segments.put(data)

    def _stored(self, kept: bytes, first: int, following: int) -> None:
        """Everything from RAM is stored, `kept` of it in retained memory, with numbers from `first` on (0: none)."""
        self._kept = kept
        self._reader = None
        if self._is_kept_numbered():
            self._sources.pop()
        if first:
            self._sources.append(Source(KEPT, first))
        self.waiting = []
        self.next_sequence = self._ram_from = following

    def _packed(self, offset: int | None) -> bytes:
        """What is in retained memory and in RAM, in order."""
        unsaved = self._unsaved() + self.waiting
        # Times by a clock that nobody has set would be wrong when somebody does; this clock goes on.
        known = None if self.is_clock_doubtful else offset
        self._is_timeless = self._is_timeless or (known is None and bool(unsaved))
        self._learn(offset)
        return batch.extend(self._kept, unsaved, self._boot, known)

    # What is thrown away -----------------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Have room for one segment more, throwing away as the policies say. False: they do not say how."""
        segments = self._segments
        while len(segments.files) >= segments.limit:
            try:
                lost = segments.make_room(self._bound(), self._policies, self.dropped_total)
            except OSError as error:
                if error.errno != _NO_SPACE:
                    raise
                # There is no room to merge two segments in: one has to go.
                lost = segments.drop(segments.files[self._bound()])
            if lost < 0:
                return False
            self._drop(lost)
        return True

    def _drop(self, number: int) -> None:
        if number:
            self.dropped_total += number
            self._is_gap = True  # FLOOR tells how many
            if not self._is_dropped_known():
                self._write_state()

    def _is_dropped_known(self) -> bool:
        return self.dropped_total in (self._state.dropped, self._segments.dropped)

    def _refuse(self) -> int:
        """The outbox is full: of channels that keep the old, what came in goes. Returns how many readings."""
        stays = [item for item in self.waiting if self._policies.get(item.channel) != shedding.NEWEST]
        self.refused = [item for item in self.waiting if self._policies.get(item.channel) == shedding.NEWEST]
        self.waiting = stays
        self._drop(len(self.refused))
        return len(self.refused)

    def _shed(self) -> None:
        """Nothing can be stored: make room in RAM if it is more than half full."""
        sizes = [len(item.value) + _ITEM for item in self.waiting]
        if len(sizes) < _READINGS // 2 and sum(sizes) < self._ram // 2:
            return
        channels = bytes([item.channel for item in self.waiting])
        moments = [item.taken for item in self.waiting]
        kept = shedding.keep(channels, sizes, moments, self._policies, sum(sizes) // 2, False)
        if kept is None:  # all is of channels that keep the old
            half = len(sizes) // 2
            kept = bytearray(b"\x01" * half + b"\x00" * (len(sizes) - half))
        self.refused = self.refused + [item for i, item in enumerate(self.waiting) if not kept[i]]
        self.waiting = [item for i, item in enumerate(self.waiting) if kept[i]]
        self.dropped_total += len(kept) - sum(kept)
        self._is_gap = True
