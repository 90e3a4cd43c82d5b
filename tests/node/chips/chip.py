"""What the models of all chips share: state that outlives the program, in a file, and a time that passes when told.

Where `is_live` is set, time passes by itself, sleeps take as long as they say, and whoever plays the world is the
watchdog: the file `fed` is touched when it is fed, and says how long it waits.

The program ends as a board does, in the middle of anything: its process is killed. Why is in the file (`end`), and
whoever plays the world around the board reads it there.
"""

# mypy: ignore-errors
# ruff: noqa: PLW0603
# A module is all the state there is, as on a board.

import json
import os

import utime

FILE = "chip.json"

with open(FILE) as file:
    state = json.load(file)

is_live = state.get("is_live", False)
if is_live and state["due_ms"]:
    # A busy machine starts programs late, and a board's clocks count that.
    late = max(0, utime.time_ns() // 1000000 - state["due_ms"])
    state["wall_ms"] += late - state["boot_ms"]
    state["boot_ms"] = late
ticks = state["boot_ms"]  # since the reset
_real = utime.ticks_ms()
interrupts = []  # (ms of ticks, function)
_fed = None
_patience = 0


def end(kind, ms=0):
    """The board stops here; what its registers and memories hold is kept."""
    look()
    state["end"] = kind
    state["lasted_ms"] = ticks - state["boot_ms"]
    state["end_ms"] = ms
    state["ended_at"] = utime.time_ns() // 1000000
    keep()
    os.system("kill -9 $PPID")


keepers = []


def keep():
    """Write down what outlives the program."""
    for keeper in keepers:
        keeper()
    with open(FILE + ".new", "w") as file:
        file.write(json.dumps(state))
    os.rename(FILE + ".new", FILE)


def changed():
    """What outlives the program is another: somebody may end it at any moment."""
    if is_live:
        keep()


def look():
    """See how late it is, where time passes by itself."""
    global ticks, _real
    if is_live:
        now = utime.ticks_ms()
        passed = utime.ticks_diff(now, _real)
        _real = now
        ticks += passed
        state["wall_ms"] += passed


def advance(ms, is_guarded=True):
    """Time passes; False: an interrupt cut it short. `is_guarded`: the watchdog counts."""
    global ticks, _fed
    if is_live:
        if not is_guarded and _patience:
            os.remove("fed")
        utime.sleep_ms(ms)
        look()
        if not is_guarded and _patience:
            feed()
        return True
    until = ticks + ms
    due = [entry for entry in interrupts if entry[0] <= until]
    if due:
        until = max(ticks, min(entry[0] for entry in due))
    if is_guarded and _patience and until > _fed + _patience:
        end("watchdog")
    passed = until - ticks
    if not is_guarded and _patience:
        _fed += passed
    ticks = until
    state["wall_ms"] += passed
    for entry in due:
        if entry[0] <= until:
            interrupts.remove(entry)
            entry[1]()
    return not due


def guard(timeout_ms):
    global _fed, _patience
    _fed = ticks
    _patience = timeout_ms
    feed()


def feed():
    global _fed
    _fed = ticks
    if is_live:
        with open("fed", "w") as file:
            file.write(str(_patience))


class WDT:
    """It cannot be stopped. A board whose watchdog nobody feeds is reset."""

    def __init__(self, timeout):
        if timeout > state["longest_watchdog_ms"]:
            raise ValueError("timeout exceeds " + str(state["longest_watchdog_ms"]))
        guard(timeout)

    def feed(self):
        feed()


class Pin:
    def __init__(self, number):
        self.number = number


class UART:
    """What was written leaves in its own time; `flush` waits for it. A sleep in between would cut it off."""

    def __init__(self, id, baud, **options):
        self.baud = baud
        self.waiting = 0
        uarts.append(self)

    def write(self, data):
        self.waiting += len(data)
        return len(data)

    def flush(self):
        advance(self.waiting * 10000 // self.baud)
        self.waiting = 0

    def deinit(self):
        self.waiting = 0


uarts = []


def fall_asleep():
    """Count the sleep, and what it cuts off."""
    state["sleeps"] = state.get("sleeps", 0) + 1
    for uart in uarts:
        state["cut_off"] = state.get("cut_off", 0) + uart.waiting


class Timer:
    def __init__(self, id):
        pass
