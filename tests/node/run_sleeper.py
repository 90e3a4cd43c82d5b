"""One life of a board, step by step: `micropython run_sleeper.py esp32|rp2 FOLDER`; the steps are in steps.json.

Prints a JSON object for each "show". Each step is a list: its name and its arguments. FOLDER: one with a `sleeper.py`
in the place of the firmware's, or empty.
"""

# mypy: ignore-errors
# MicroPython has not these types.

import binascii
import json
import sys
import time

import chip

from petiole_node import port as ports
from petiole_node.progress import Progress

NAME = sys.argv[1]
if sys.argv[2]:
    package = sys.modules["petiole_node.port"]
    own, package.__path__ = package.__path__, sys.argv[2]
    __import__("petiole_node.port.sleeper")
    package.__path__ = own

port = ports.choose(NAME)
sleeper = port.sleeper()


def data(text):
    return None if text is None else binascii.unhexlify(text)


def show():
    session = sleeper.session
    print(
        json.dumps(
            {
                "now": port.now(),
                "session": session and [binascii.hexlify(part).decode() for part in session],
                "woke": sleeper.woke,
                "is_continued": sleeper.is_continued,
                "error_ms": sleeper.error_ms,
                "outbox": None if sleeper.outbox is None else binascii.hexlify(sleeper.outbox.read()).decode(),
                "room": None if sleeper.outbox is None else sleeper.outbox.size,
                "notes": binascii.hexlify(sleeper.notes.read()).decode(),
                "reset": port.reset_reason(),
                "boots": port.boot_count(),
                "deafens": port.flash_deafens_uart,
            }
        )
    )


def press(ms):
    chip.interrupts.append((chip.ticks + ms, sleeper.rouse))


def die(ms):
    """The watchdog, or anything, resets the board then."""
    chip.interrupts.append((chip.ticks + ms, lambda: chip.end("watchdog")))


def back(ms):
    chip.ticks -= ms


def end(kind):
    chip.end(kind)


def wait(ms):
    time.sleep_ms(ms)


def wifi():
    """The radio is there at once; asyncio has ticks of its own."""
    try:
        port.connect_network({"ssid": "home", "password": "secret"}).send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def work(times):
    """Work that advances, fed through Progress, and then stops to, while its loop turns."""
    progress = Progress()
    for _ in range(times):
        progress.expect("readings", port.now(), 5000)
        for _ in range(4):
            wait(1000)
            port.feed_watchdog()
    while True:
        wait(500)
        if progress.late(port.now()) is None:
            port.feed_watchdog()


def deep(ms, counters):
    try:
        sleeper.deep_sleep(ms, data(counters))
    except ValueError as error:
        print(json.dumps({"refused": str(error)}))


STEPS = {
    "show": show,
    "fixed": lambda text: sleeper.keep_fixed(data(text)),
    "counters": lambda text: sleeper.keep_counters(data(text)),
    "outbox": lambda text: sleeper.outbox.write(data(text)),
    "notes": lambda text: sleeper.notes.write(data(text)),
    "sleep": lambda ms: print(json.dumps({"woke": sleeper.sleep(ms), "now": port.now()})),
    "deep": deep,
    "watchdog": port.start_watchdog,
    "uart": lambda: port.serial({"id": 1, "baud": 9600, "tx": None, "rx": None, "fd": None}).write(bytes(100)),
    "wifi": wifi,
    "press": press,
    "die": die,
    "back": back,
    "end": end,
    "wait": wait,
    "work": work,
    "crash": lambda: port.crashed(ValueError("a mistake")),
}

with open("steps.json") as file:
    steps = json.load(file)
for step in steps:
    STEPS[step[0]](*step[1:])
end("soft")
