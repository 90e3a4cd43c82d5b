"""Lives of an outbox that a power cut ends somewhere. A step function runs one; the last one delivers everything."""

from petiole import shedding
from tests.node.outbox_rig import Life

FOLDER = "/flash/"


def _life(world, memory, is_alive, **options):
    return Life(world, FOLDER, memory, is_alive=is_alive, **options)


def _batch(life, number, channel=0, size=20):
    for _ in range(number):
        life.add(channel, size)


def offline(world, memory, is_alive):
    """Store and restart; then a bit more of it."""
    life = _life(world, memory, is_alive)
    for _ in range(5):
        _batch(life, 8)
        life.flush()
    life = _life(world, memory, is_alive)
    _batch(life, 3)
    life.flush()


def exchange(world, memory, is_alive):
    """Store while away, drain with readings coming in, lose the link with readings on the way, store those."""
    life = _life(world, memory, is_alive, window=6)
    for _ in range(3):
        _batch(life, 7)
        life.flush()
    life.join()
    for step in range(12):
        life.add()
        life.send(5, 1 + step % 5)
        life.acked()
        if step % 5 == 4:
            life.flush()
    life.drain()
    for _ in range(4):
        life.add()
    life.send(3, 2)
    life.add()
    life.flush()
    _batch(life, 3)
    life.flush()
    life.send(4, 3)


def asleep(world, memory, is_alive):
    """Save before each sleep; every third wake reaches the gateway, and some of the acks are lost."""
    for wake in range(9):
        life = _life(world, memory, is_alive, window=5, ram=400)
        _batch(life, 3)
        life.save()
        if wake % 3 == 2:
            life.join()
            life.send(8, 4)
            if wake % 2:
                life.acked()
            life.add()
            life.send(8, 3)
            life.save()
            if is_alive() and wake % 2:
                life.acked()


def wakes(world, memory, is_alive):
    """Wakes that end in all ways, one after the other: unheard, with an ack in the last moment, in a reset."""
    life = _life(world, memory, is_alive)
    life.join()
    for how in (0, 3, 1, 8, 0, 3, 9, 0, 7, 11, 1, 3, 15, 2):
        life.wake(how)
        if not how & 8:
            life.save()
        if not is_alive():
            return
        kept = life.kept()
        life = _life(world, memory, is_alive)
        if how & 8 or kept is None:
            life.join()
        else:
            life.resume(kept)


def hoarding(world, memory, is_alive):
    """A reading at each wake, stored behind those that have numbers; once a few of all these are acknowledged."""
    life = _life(world, memory, is_alive)
    life.join()
    for wake in range(14):
        life.add(0, 40)
        life.send(9, 4 if wake == 7 else 0)
        if wake == 7:
            life.acked()
        life.save()
        if not is_alive():
            return
        kept = life.kept()
        life = _life(world, memory, is_alive)
        life.resume(kept)


def awake(world, memory, is_alive):
    """Readings that never see flash, but for their numbers; a link that goes; a save with some on the way."""
    life = _life(world, memory, is_alive)
    life.join()
    for step in range(160):
        life.add()
        life.send(10, 0 if step % 9 == 8 else 10)
        life.acked()
    _batch(life, 4)
    life.send(10, 2)
    life.save()
    life.add()
    life.flush()


def merged(world, memory, is_alive):
    """Small segments become larger ones, and all there is fits: nothing may be missing."""
    life = _life(world, memory, is_alive, policies={0: shedding.THIN}, limit=4 * 640)
    if world.boots == 1:
        for _ in range(6):
            _batch(life, 8)
            life.flush()
            life.segments._is_closed = True


def _full(policies):
    def steps(world, memory, is_alive):
        """More than there is room for, some of it sent between."""
        life = _life(world, memory, is_alive, policies=policies, limit=4 * 640, window=6)
        if world.boots % 2:
            life.join()
            life.add()
            life.send(3, 0)
        for step in range(9):
            for channel in range(4):
                life.add(channel, 25)
                life.add(channel, 25)
            life.flush()
            if step == 6 and world.boots % 2:
                life.send(5, 3)
                life.acked()

    return steps


def deliver(world, memory, is_alive):
    life = _life(world, memory, is_alive)
    life.join()
    life.add()
    life.drain()
    # And once more, from flash: everything is there, and nothing is left behind.
    _batch(life, 3)
    assert life.flush()
    life = _life(world, memory, is_alive)
    life.join()
    life.drain()
    assert life.outbox.is_empty
    # A segment to which more may be added goes when a number was given that is in none.
    life.add()
    life.drain()
    assert life.outbox.is_empty
    assert life.segments.files == []


MIXED = {0: shedding.OLDEST, 1: shedding.NEWEST, 2: shedding.LAST, 3: shedding.THIN}


def _nothing(world):
    return 0


def _dropped(world):
    # The count is written after the deed: each of two power cuts between leaves out what two segments held, at most.
    return world.dropped_total + 4 * (640 // 32)


# name: (steps, last life, how many stored readings may be missing)
SCENARIOS = {
    "offline": (offline, deliver, _nothing),
    "exchange": (exchange, deliver, _nothing),
    "asleep": (asleep, deliver, _nothing),
    "wakes": (wakes, deliver, _nothing),
    "hoarding": (hoarding, deliver, _nothing),
    "awake": (awake, deliver, _nothing),
    "merged": (merged, deliver, _nothing),
    "full-oldest": (_full({}), deliver, _dropped),
    "full-mixed": (_full(MIXED), deliver, _dropped),
    "full-thin": (_full({0: 3, 1: 3, 2: 3, 3: 3}), deliver, _dropped),
    "full-last": (_full({0: 2, 1: 2, 2: 2, 3: 2}), deliver, _dropped),
    "full-newest": (_full({0: 1, 1: 1, 2: 1, 3: 1}), deliver, _dropped),
}
