"""What a sleepy node keeps while its board sleeps, and the sleep itself. Only sleepy nodes load it.

Four parts: `fixed`, written when a session begins; `counters`, written at each sleep; `notes` and `outbox`, which
outlive sessions. Each has a CRC over itself and the layout's version, so garbage, a torn write and what an older
firmware left are all nothing. The CRC of the counters covers that of `fixed` too: they count for this session or for
none.

No nonce is used twice, because counters are given out once: they are erased before anybody has them, and are there
again only when the board sleeps (or `keep_counters` was given some that are ahead of all use). Whoever crashes in
between joins anew.
"""

import binascii
import time

from petiole.errors import LocalError

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Port

_LAYOUT = b"petiole retained 2"  # another layout, another number
FILES = ("counters.bin", "session.bin", "notes.bin", "outbox.bin")
COUNTERS = 0
FIXED = 1
NOTES = 2
OUTBOX = 3

FIXED_ROOM = 128  # a join request, the nonce of its accept and the address are 26
COUNTERS_ROOM = 18  # two counters, a replay window, the offset of the clock; with 10 beside them the 28 of an RP2040
NOTES_ROOM = 512  # how 16 items of mail have ended, most of them in few bytes
LONGEST_MS = (1 << 30) - 1  # 12 days, a small integer on boards; whoever wants more sleeps again

# Why the board is awake.
TIMER = 1
PIN = 2

_WOKE = 3  # bits of the flags
ASLEEP = 4
_SESSION = 8

_STEP_MS = 3600000  # an RP2 sleeps 71 minutes in one go
_EARLY = 8  # sleeps in a row that ended too soon: this board does not sleep now, so wait in the ordinary way
_WAIT_MS = 1000
_WALL = (1 << 48) - 1


def _crc(part: int, tag: bytes, *pieces: bytes) -> bytes:
    crc = binascii.crc32(tag, binascii.crc32(bytes((part,)), binascii.crc32(_LAYOUT)))
    for piece in pieces:
        crc = binascii.crc32(piece, crc)
    return crc.to_bytes(4, "big")


class Retained:
    """Memory for `size` bytes that sleep and a reset leave as it is, and loss of power may not."""

    def __init__(self, sleeper: "Sleeper", part: int, size: int) -> None:
        self._sleeper = sleeper
        self._part = part
        self.size = size

    def read(self) -> bytes:
        """What was written last; b"" if it is not whole."""
        return self._sleeper.load(self._part) or b""

    def write(self, data: bytes) -> None:
        """Raises LocalError if it is too long; OSError where this is flash."""
        self._sleeper.store(self._part, data, self.size)


class Sleeper:
    """`session`: (fixed, counters) of the session that slept, or None: join anew. `woke`: TIMER, PIN or 0.

    `is_continued`: `port.now()` goes on where it was before the sleep, and may be wrong by `error_ms`; else it began
    anew. `notes`: memory for what else is to be remembered (flash on an RP2, written when it changes); `outbox`: memory
    for readings, or None. As it is here: files in the place of retained memory.
    """

    keeps_clock = True  # the board's own clock goes on while it sleeps
    start_ms = 2000  # at most, from the wake to here: boot and imports
    drift = 19  # its own sleep may be wrong by one part in so many: 5 % of the true time

    def __init__(self, port: "Port") -> None:
        self._port = port
        self._is_roused = False
        self.notes = Retained(self, NOTES, NOTES_ROOM)
        self.outbox: Retained | None = None
        self.session: tuple[bytes, bytes] | None = None
        self.woke = 0
        self.is_continued = False
        self.error_ms = 0
        self._take()
        port.woke = self.woke != 0

    # Keeping -----------------------------------------------------------------------------------------------

    def keep_fixed(self, data: bytes) -> None:
        """Keep what a session is made of; the counters of the one before are nothing from now on.

        Writes flash on an RP2. Raises LocalError, OSError.
        """
        self.store(FIXED, data, FIXED_ROOM)

    def keep_counters(self, counters: bytes) -> None:
        """Let the session survive a reset: with counters ahead of all that will be used until the next call."""
        self._keep(0, counters, 0)

    def load(self, part: int) -> "bytes | None":
        head = self._read(part, 0, 6)
        length = int.from_bytes(head[4:], "big")
        data = self._read(part, 6, length)
        if len(data) < length or _crc(part, b"", head[4:], data) != head[:4]:
            return None
        return data

    def store(self, part: int, data: bytes, room: int) -> None:
        if len(data) > room:
            raise LocalError(FILES[part], "at most " + str(room) + " bytes, got " + str(len(data)))
        head = len(data).to_bytes(2, "big")
        head = _crc(part, b"", head, data) + head
        if self._read(part, 0, 6) != head or self._read(part, 6, len(data)) != data:
            self._write(part, head, data)

    def _keep(self, flags: int, counters: "bytes | None", ms: int) -> None:
        data = counters or b""
        tag = b""
        if len(data) > COUNTERS_ROOM:
            raise LocalError("counters", "at most " + str(COUNTERS_ROOM) + " bytes")
        if counters is not None:
            flags |= _SESSION
            tag = self._read(FIXED, 0, 4)
        data = bytes((flags,)) + (self._port.now() & (1 << 40) - 1).to_bytes(5, "big") + data
        data += bytes(6 + COUNTERS_ROOM - len(data))
        if self.keeps_clock:
            data += ms.to_bytes(4, "big") + (self._wall() & _WALL).to_bytes(6, "big")
        self._write(COUNTERS, _crc(COUNTERS, tag, data), data)

    def _take(self) -> None:
        fixed = self.load(FIXED)
        size = 10 + COUNTERS_ROOM + (10 if self.keeps_clock else 0)
        record = self._read(COUNTERS, 0, size)
        if len(record) < size:
            return
        self.forget()
        if self._read(COUNTERS, 0, size) == record:
            return  # erased already; or it cannot be, and would be given out again
        flags = record[4]
        tag = b""
        if flags & _SESSION:
            if fixed is None:
                return
            tag = self._read(FIXED, 0, 4)
        if _crc(COUNTERS, tag, record[4:]) != record[:4]:
            return
        if fixed is not None and flags & _SESSION:
            self.session = (fixed, record[10 : 10 + COUNTERS_ROOM])
        if flags & ASLEEP:
            self.woke = self._why(flags & _WOKE)
            elapsed = self._elapsed(record[10 + COUNTERS_ROOM :]) if self.woke else None
            if elapsed is not None:
                self.is_continued = True
                self._port.continue_clock(int.from_bytes(record[5:10], "big") + elapsed)

    def forget(self) -> None:
        """Erase the counters: who wakes without them joins."""
        size = 6 + COUNTERS_ROOM + (10 if self.keeps_clock else 0)
        self._write(COUNTERS, bytes(4), bytes(size))

    def _elapsed(self, record: bytes) -> "int | None":
        """ms from the sleep until now, by the board's clock if what it says can be; only its difference counts."""
        planned = int.from_bytes(record[:4], "big")
        elapsed = (self._wall() - int.from_bytes(record[4:], "big")) & _WALL
        self.error_ms = elapsed // self.drift
        if elapsed <= 2 * planned + self.start_ms and (self.woke != TIMER or 2 * elapsed >= planned):
            return elapsed
        self.error_ms = planned // self.drift + self.start_ms
        return planned if self.woke == TIMER else None

    # Sleeping ----------------------------------------------------------------------------------------------

    def sleep(self, ms: int) -> int:
        """Sleep with all that is in RAM; return why it ended, TIMER or PIN. Radios are off afterwards."""
        self._port.hush()
        return self._rest(ms)

    def deep_sleep(self, ms: int, counters: "bytes | None" = None) -> None:
        """Keep the counters and sleep; the board then starts anew. `counters`: None without a session.

        Does not return; whoever catches what it raises has counters that are in nobody else's hands.
        """
        ms = max(1, min(ms, LONGEST_MS))
        self._port.hush()
        try:
            self._keep(ASLEEP, counters, ms)
            self._enter(ms, counters)
        except (Exception, KeyboardInterrupt):
            self.forget()
            raise

    def rouse(self) -> None:
        """End the sleep, or the next one. To be called in an interrupt, such as one of a pin."""
        self._is_roused = True

    def _rest(self, ms: int) -> int:
        port = self._port
        now = port.now()
        end = now + ms
        longest = min(_STEP_MS, port.watchdog_ms // 2 or _STEP_MS)
        early = 0
        while now < end:
            port.feed_watchdog()  # sleep is work, and it ends
            if self._is_roused:
                self._is_roused = False
                return PIN
            step = min(end - now, longest)
            if early < _EARLY:
                is_pin = self._doze(step)
            else:
                step = min(step, _WAIT_MS)
                is_pin = False
                time.sleep(step / 1000)
            before, now = now, port.now()
            if 2 * (now - before) < step:
                early += 1
            elif early < _EARLY:
                early = 0
            if is_pin:
                return PIN
        port.feed_watchdog()
        return TIMER

    # What differs from one board to the next ---------------------------------------------------------------

    def _read(self, part: int, start: int, length: int) -> bytes:
        """As much of a part as there is."""
        try:
            with open(self._port.path(FILES[part]), "rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError:
            return b""

    def _write(self, part: int, head: bytes, data: bytes) -> None:
        """In place: on LittleFS a file has its old or its new contents after a power cut."""
        with open(self._port.path(FILES[part]), "wb") as file:
            file.write(head)
            file.write(data)

    def _wall(self) -> int:
        """ms of the board's clock: of any epoch, right or wrong."""
        raise NotImplementedError()

    def _why(self, kept: int) -> int:
        """Why a deep sleep has ended; 0: it was not the sleep that ended. `kept`: what the sleep itself left."""
        raise NotImplementedError()

    def _doze(self, ms: int) -> bool:
        """Sleep once. True: a pin has ended it."""
        raise NotImplementedError()

    def _enter(self, ms: int, counters: "bytes | None") -> None:
        """Deep sleep, all that has to be kept is."""
        raise NotImplementedError()
