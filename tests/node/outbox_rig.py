"""Lives of a node with a durable outbox, and the gateway that sees all of them. Runs on CPython and on MicroPython."""

from petiole import cbor, shedding
from petiole_node import segments
from petiole_node.durable import DurableOutbox
from tests.core.support import Rng

__all__ = ["Gateway", "Life", "Memory", "Rng", "World", "segments", "shedding"]


class Memory:
    """Retained memory. `tick` is asked before each write and says whether there still is power."""

    def __init__(self, size=2048, tick=None):
        self.size = size
        self.data = b""
        self.tick = tick
        self.writes_total = 0

    def read(self):
        return self.data

    def write(self, data):
        assert len(data) <= self.size
        if self.tick is None or self.tick():
            self.data = bytes(data)
            self.writes_total += 1


class Gateway:
    """PROTOCOL.md, section 9. `wire`: what each number has ever meant. `got`: values, in the order of the stream."""

    def __init__(self):
        self.wire = {}
        self.taken = 0
        self.floor = 0
        self.held = {}
        self.got = []
        self.has_session = False
        self.given = 0  # the number in the last accept with four bytes

    def accept(self, wants_full):
        """The number in a JOIN_ACCEPT."""
        if not wants_full:
            self.has_session = True
            return self.taken
        self.given = max(self.taken, self.given) + (127 if self.has_session else 0)
        self.has_session = True
        return self.given

    def receive(self, item, floor):
        if floor is not None:
            self.floor = max(self.floor, floor)
        if item.sequence > self.taken:
            assert item.sequence - max(self.taken, self.floor - 1) <= 127, (item.sequence, self.taken, self.floor)
            self.held[item.sequence] = cbor.decode(item.value)[0]
        while True:
            following = self.taken + 1
            if following in self.held:
                self.got.append(self.held.pop(following))
                self.taken = following
            elif following < self.floor:
                self.taken = min([n for n in self.held if n < self.floor] + [self.floor]) - 1
            else:
                return


class World:
    """What outlives a node: its gateway, and what the application was told.

    `stored`: values of readings for which a write returned True; `volatile`: those of them that only retained memory
    may hold; `accepted`: channels of all readings that `add` has taken.
    """

    def __init__(self):
        self.gateway = Gateway()
        self.value = 0
        self.accepted = {}
        self.stored = []
        self.volatile = set()
        self.boots = 0
        self.dropped_total = 0
        self.time = 1700000000000

    def lose_power(self):
        """What only retained memory had is gone, and was never promised to be there."""
        self.stored = [value for value in self.stored if value not in self.volatile]
        self.volatile = set()


class Life:
    """From a boot to the next. `is_alive()`: whether there is power."""

    def __init__(self, world, folder, retained=None, policies=None, limit=1 << 20, is_alive=None, **options):
        world.boots += 1
        self.world = world
        self.is_alive = is_alive or (lambda: True)
        self.segments = segments.Segments(folder, limit)
        self.outbox = DurableOutbox(self.segments, world.boots, retained, policies, **options)
        self.unstored = []
        self.session_floor = False
        self.is_joined = False
        self.now = 0
        self.started_at = world.time

    def offset(self):
        """ms from the clock of this life to 1970, once a gateway has told."""
        return self.started_at if self.is_joined else None

    def pass_time(self, ms):
        self.now += ms
        self.world.time += ms

    def add(self, channel=0, size=4):
        """A reading with the next value."""
        self.pass_time(1000)
        self.world.value += 1
        value = self.world.value
        item = self.outbox.add(channel, self.now, cbor.encode([value, channel, b"." * size]))
        self.world.accepted[value] = channel
        self.unstored.append((value, item))

    def publish(self, channel=0, size=4):
        """As an application does: `add`, and `flush` when there is no room. Refused ones are forgotten."""
        if len(self.outbox.waiting) >= 30:
            self.flush()
        self.add(channel, size)

    def flush(self):
        is_stored = self._stored(self.outbox.flush(self.offset()))
        if is_stored and self.is_alive():
            self.world.volatile = set()
        return is_stored

    def save(self):
        fresh = [value for value, _ in self.unstored]
        is_stored = self._stored(self.outbox.save(self.offset()))
        if is_stored and self.is_alive():
            if not self.outbox._kept:
                self.world.volatile = set()
            else:
                self.world.volatile.update(fresh)
        return is_stored

    def _stored(self, is_stored):
        refused = [value for value, item in self.unstored if item in self.outbox.refused]
        if is_stored and self.is_alive():
            self.world.stored += [value for value, item in self.unstored if value not in refused]
            self.unstored = []
        else:
            self.unstored = [entry for entry in self.unstored if entry[0] not in refused]
        return is_stored

    def join(self):
        """As NodeEndpoint does it: PROTOCOL.md, sections 6 and 9."""
        if not self.is_alive():
            return
        outbox = self.outbox
        is_exact = not outbox.has_memory
        sequence = self.world.gateway.accept(is_exact)
        if is_exact or sequence >= outbox.next_sequence:
            outbox.rebase(sequence)
        outbox.trim(sequence)
        self.session_floor = sequence != outbox.oldest_sequence - 1 or (is_exact and sequence > 0)
        self.is_joined = True

    def wake(self, how):
        """A reading, and bits: its frame arrives, the ack is heard, the store has time to look at that."""
        self.add()
        self.send(9, 9 if how & 1 else 0)
        if how & 2:
            self.acked()
            if how & 4:
                self.send(0)

    def kept(self):
        """What petiole.resume keeps beside counters: unused numbers, and whether all is acknowledged; None if no
        session is kept."""
        unused = self.outbox.unused
        if not self.is_joined or unused < 0:
            return None
        return min(unused, 255), self.outbox.is_empty and not self.session_floor

    def resume(self, kept):
        """As petiole.resume does it: go on in the session of before a sleep."""
        if kept is None:
            return
        unused, was_settled = kept
        outbox = self.outbox
        if not outbox.is_exact:
            outbox.resume(unused)
        if was_settled and outbox.is_exact and outbox.is_numbered:
            outbox.trim(outbox.next_sequence - 1)
        self.session_floor = not was_settled or outbox.oldest_sequence != outbox.acked_sequence + 1
        self.is_joined = True

    def send(self, limit=1000, arriving=1000):
        """Fill, and send the first `limit` items, of which `arriving` arrive. Returns how many were sent."""
        outbox = self.outbox
        outbox.fill(self.offset())
        self.session_floor = outbox.take_gap() or self.session_floor
        sent = 0
        numbers = [item.sequence for item in outbox.items]
        assert not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
        for item in outbox.items[:limit]:
            if not self.is_alive():
                break
            # What a number means is fixed from the moment it may be seen on the wire.
            value = cbor.decode(item.value)[0]
            assert self.world.gateway.wire.get(item.sequence, value) == value, (item.sequence, value)
            self.world.gateway.wire[item.sequence] = value
            floor = item.sequence if not sent and self.session_floor else None
            if sent < arriving:
                self.world.gateway.receive(item, floor)
            sent += 1
        return sent

    def acked(self):
        """Hear the ack of all that the gateway has taken."""
        if self.is_alive() and self.outbox.trim(self.world.gateway.taken):
            self.session_floor = False

    def drain(self):
        """Send until nothing is left."""
        for _ in range(1000):
            if not self.send():
                break
            self.acked()
        if not self.is_alive():
            return
        outbox = self.outbox
        outbox.fill(self.offset())
        assert not outbox.items, "the gateway waits for a gap"
        self.world.dropped_total = outbox.dropped_total


def check(world, lost=0):
    """Everything that was stored has come, but for so many; in order, once. Returns what is missing."""
    got = [value[0] for value in world.gateway.got]
    for i in range(1, len(got)):
        assert got[i - 1] < got[i], "twice or out of order: " + str(got[i]) + " after " + str(got[i - 1])
    missing = [value for value in world.stored if value not in got]
    assert len(missing) <= lost, "lost: " + str(missing[:20]) + " of " + str(len(world.stored))
    return missing
