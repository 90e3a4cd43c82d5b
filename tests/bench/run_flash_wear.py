"""What the durable outbox costs in flash, on MicroPython's LittleFS: `run_flash_wear.py GEOMETRY`, run by flash_wear.

Prints for each cycle: name, readings, erases, programs, programmed bytes, erases of the most worn sector, operations of
the longest call.
"""

# mypy: ignore-errors

import gc
import sys

import vfs

from petiole import shedding
from petiole_node import segments
from petiole_node.durable import DurableOutbox
from tests.node.nor_flash import NorFlash
from tests.node.outbox_rig import Memory

SECTORS = 64
VALUE = b"\x58\x3b" + b"r" * 59  # with channel and distance 64 bytes and a little
RETAINED = 1866  # what an ESP32 has for readings


class Bench:
    def __init__(self, flash, memory=None, policies=None, limit=128 * 1024):
        self.flash = flash
        self.memory = memory
        self.policies = policies
        self.limit = limit
        self.outbox = None
        self.readings = self.boots = self.now = self.worst = 0
        self.boot()

    def boot(self):
        """A wake. What is unused of the numbers was kept over the sleep, and whether all was durable."""
        self.boots += 1
        unused = self.outbox.unused if self.outbox else 0
        was_settled = self.outbox is not None and self.outbox.is_empty
        segments_ = segments.Segments("/flash/", self.limit)
        self.outbox = DurableOutbox(segments_, self.boots, self.memory, self.policies)
        if not self.outbox.has_memory:
            self.outbox.rebase(0)
        elif not self.outbox.is_exact:
            self.outbox.resume(unused)
        if was_settled and self.outbox.is_exact and self.outbox.is_numbered:
            self.outbox.trim(self.outbox.next_sequence - 1)

    def call(self, function, *arguments):
        before = self.flash.operations
        result = function(*arguments)
        self.worst = max(self.worst, self.flash.operations - before)
        return result

    def add(self, count, channel=0):
        for _ in range(count):
            self.now += 60000
            self.readings += 1
            self.outbox.add(channel, self.now, VALUE)

    def flush(self):
        assert self.call(self.outbox.flush, 0)

    def save(self):
        assert self.call(self.outbox.save, 0)

    def drain(self):
        while True:
            self.call(self.outbox.fill, 0)
            if not self.outbox.items:
                return
            self.outbox.trim(self.outbox.items[-1].sequence)


def later(bench):
    for _ in range(4):
        for _ in range(32):
            bench.add(8)
            bench.flush()
        bench.drain()


def sleepy(bench):
    for wake in range(128):
        bench.boot()
        bench.add(8)
        bench.save()
        if wake % 4 == 3:
            bench.drain()


def sent_first(bench):
    for _ in range(128):
        bench.boot()
        bench.add(8)
        bench.drain()
        bench.save()


def every_wake(bench):
    for _ in range(128):
        bench.boot()
        bench.add(8)
        bench.save()
        bench.drain()


def reading_a_wake(bench):
    for _ in range(1024):
        bench.boot()
        bench.add(1)
        bench.drain()
        bench.save()


def alone(bench):
    # A chip that retains nothing: a reading that is not in flash is lost with the sleep.
    for _ in range(512):
        bench.boot()
        bench.add(1)
        bench.call(bench.outbox.fill, 0)
        bench.save()
    bench.drain()


def online(bench):
    for _ in range(1024):
        bench.add(1)
        bench.drain()


def week(bench):
    # Every 10 minutes, and nobody there: 1008 readings, twice as many as there is room for.
    for _ in range(126):
        bench.add(4, 0)
        bench.add(4, 1)
        bench.flush()
    bench.drain()


CYCLES = (
    ("batches of 8 stored, drained later", later, False, {}, 128 * 1024),
    ("8 readings, sleep; every 4th wake online", sleepy, False, {}, 128 * 1024),
    ("8 readings, sleep; every wake online, sent first", sent_first, False, {}, 128 * 1024),
    ("a reading, sleep; every wake online, sent first", reading_a_wake, False, {}, 128 * 1024),
    ("8 readings, sleep; every wake online, stored first", every_wake, False, {}, 128 * 1024),
    ("the same, every 4th, with retained memory", sleepy, True, {}, 128 * 1024),
    ("the same, every wake, with retained memory", every_wake, True, {}, 128 * 1024),
    ("a reading, sleep; nobody there for 512 wakes", alone, False, {}, 128 * 1024),
    ("the same, with retained memory", alone, True, {}, 128 * 1024),
    ("awake and online, one by one", online, False, {}, 128 * 1024),
    ("offline for a week, oldest dropped", week, False, {}, 32 * 1024),
    ("offline for a week, thinned", week, False, {0: shedding.THIN, 1: shedding.THIN}, 32 * 1024),
    ("offline for a week, last values kept", week, False, {0: shedding.LAST, 1: shedding.LAST}, 32 * 1024),
)


for name, cycle, has_memory, policies, limit in CYCLES:
    flash = NorFlash(SECTORS, sys.argv[1])
    flash.mount("/flash")
    flash.reset_counts()
    bench = Bench(flash, Memory(RETAINED) if has_memory else None, policies, limit)
    cycle(bench)
    figures = (bench.readings, flash.erases, flash.programs, flash.programmed_bytes, max(flash.wear), bench.worst)
    print(name, *figures, sep="|")
    vfs.umount("/flash")
    gc.collect()
