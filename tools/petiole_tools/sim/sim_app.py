"""What a simulated node runs as its `app.py`: readings from a seeded walk, a few commands, and a mode for fault tests.

`sim.json` beside it: {"seed", "period_s", "mode": "readings" | "verify", "concurrency", "limit"}.

In mode "verify" the channel `counter` counts as fast as confirmations allow. A number is written to `accepted.txt`
once `publish` has returned, so whatever fails afterwards, every number in that file must be in the stream. After a
restart it goes on above the highest number it may have used.
"""

import asyncio
import json
import os
import time

from petiole_node import Node

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Json

_STEP = 0.5
_RESERVED = 64  # numbers that are set aside at once


def _load(path: str, default: "Json") -> "Json":
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return default


options = _load("sim.json", {})
node = Node("petiole.json", firmware="sim-1")
temperature = node.channel("temperature", unit="Cel", period_s=options.get("period_s", 10))
humidity = node.channel("humidity", unit="%RH", period_s=options.get("period_s", 10))
door = node.channel("door", type="b")
counter = node.channel("counter", type="i")
leds: "list[bool]" = []


@node.command("led", "on:b")
def led(on: bool) -> bool:
    leds.append(on)
    node.log("led " + ("on" if on else "off"))
    return on


@node.command("echo", "value:a")
def echo(value: object) -> object:
    return value


@node.command("add", "a:f b:f?")
async def add(a: float, b: float = 1) -> float:
    return a + b


@node.command("slow", "seconds:f")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@node.command("fail", "text:s?")
def fail(text: str = "as asked") -> None:
    raise ValueError(text)


@node.command("ask", "subject:s arguments:a?")
async def ask(subject: str, arguments: object = None) -> object:
    return await node.request(subject, arguments, 5)


class Walk:
    """Values that wander between two bounds, the same ones for the same seed on every runtime."""

    def __init__(self, seed: int, low: float, high: float) -> None:
        self._state = seed % 0xFFFFFFFF + 1
        self._low = low
        self._high = high
        self.value = (low + high) / 2

    def next(self) -> float:
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        value = self.value + (x % 3 - 1) * _STEP
        if self._low <= value <= self._high:
            self.value = value
        return self.value


async def readings() -> None:
    seed = options.get("seed", 1)
    warm = Walk(seed, 15, 30)
    damp = Walk(seed + 1, 30, 70)
    is_open = False
    turn = 0
    while True:
        started = time.time()
        await temperature.publish(warm.next(), wait=False)
        await humidity.publish(damp.next(), confirmed=False)
        turn += 1
        if turn % 10 == 0:
            is_open = not is_open
            await door.publish(is_open, wait=False)
        await asyncio.sleep(max(0.0, options.get("period_s", 10) - (time.time() - started)))


class Numbers:
    """Numbers that are never used twice: a file says up to where they are set aside."""

    def __init__(self) -> None:
        self._next: int = _load("counter.json", 0)
        self._end = self._next

    def next(self) -> int:
        if self._next == self._end:
            self._end += _RESERVED
            with open("counter.new", "w") as file:
                json.dump(self._end, file)
            os.rename("counter.new", "counter.json")
        self._next += 1
        return self._next


async def verify() -> None:
    numbers = Numbers()
    limit = options.get("limit", 0)
    with open("accepted.txt", "a") as accepted:  # noqa: ASYNC230 - a node has no other way

        async def work() -> None:
            done = 0
            while not limit or done < limit:
                number = numbers.next()
                await counter.publish(number)
                accepted.write(str(number) + "\n")
                accepted.flush()
                done += 1

        await asyncio.gather(*[work() for _ in range(options.get("concurrency", 8))])
        node.log("verified " + str(options.get("concurrency", 8) * limit))


node.run(verify if options.get("mode") == "verify" else readings)
