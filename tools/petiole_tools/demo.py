"""The demonstration: a whole system on this machine, at work, cut off and healed, counted from its streams."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from petiole_tools.client import Client
from petiole_tools.demo_rig import IMPAIRMENT, NODES, SITE, Rig
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import has_colour, note, paint, say_json, size_text
from petiole_tools.sim.runtime import runtime

SEED = 7
# Long enough for a backlog worth the name at five readings a second, short enough to wait for.
CUT_S = 8.0
FIRST_READINGS_S = 30.0
CATCH_UP_S = 60.0
POLL_S = 0.05
_DEFECT = "this must not happen: please report it with the logs"


class Tour:
    """Says what happens, step by step, on standard error; keeps the numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, Any] = {}
        self._is_live = has_colour(sys.stderr)

    @asynccontextmanager
    async def step(self, text: str) -> AsyncIterator[list[str]]:
        """One step; what is appended to the list is told when it is done."""
        if self._is_live:
            print(f"  … {text}", end="", file=sys.stderr, flush=True)
        facts: list[str] = []
        began = time.monotonic()
        try:
            yield facts
        except TimeoutError as error:
            self._end("✗", "red", text, began)
            raise CliError(f"{text}: it took too long", "is this machine very busy? try again") from error
        except BaseException:
            self._end("✗", "red", text, began)
            raise
        self._end("✓", "green", text, began)
        for fact in facts:
            note(f"      {fact}")

    def _end(self, sign: str, colour: str, text: str, began: float) -> None:
        start = "\r\x1b[K" if self._is_live else ""
        took = paint(f"{time.monotonic() - began:.1f} s", "dim", stream=sys.stderr)
        note(f"{start}  {paint(sign, colour, stream=sys.stderr)} {text}  {took}")


async def demo(options: Options, seconds: float | None, *, keep: bool) -> None:
    """Run the tour, then stay up: for `seconds`, or at a terminal until Ctrl-C."""
    folder = Path(tempfile.mkdtemp(prefix="petiole-demo-"))
    failed = True
    try:
        await _show(options, folder, seconds)
        failed = False
    except (asyncio.CancelledError, KeyboardInterrupt):
        failed = False
        raise
    except CliError as error:
        raise CliError(error.problem, f"{error.hint}; all logs are in {folder}", error.more) from error
    finally:
        if keep or failed:
            note(f"everything is left in {folder}")
        else:
            shutil.rmtree(folder)


async def _show(options: Options, folder: Path, seconds: float | None) -> None:
    tour = Tour()
    rig = Rig(folder)
    note(paint("petiole: nodes on serial ports and UDP, a gateway, a leaf, a hub of three", "bold", stream=sys.stderr))
    try:
        await _start(tour, rig)
        await _first_readings(tour, rig)
        await _command(tour, rig)
        await _cut_and_heal(tour, rig)
        _advise(rig)
        if await _stay(rig, seconds):
            async with tour.step("count once more") as facts:
                numbers = await _count(rig)
                tour.numbers |= numbers
                facts.append(_verdict(numbers))
            _judge(numbers)
        if options.as_json:
            say_json(tour.numbers)
    finally:
        async with tour.step("stop everything"):
            await rig.stop()


async def _start(tour: Tour, rig: Rig) -> None:
    async with tour.step("start a hub of three NATS servers") as facts:
        await rig.start_hub()
        facts.append(f"clients connect to {', '.join(rig.cluster.urls)}")
    async with tour.step("start a leaf server, linked to the hub through a line that can be cut"):
        await rig.start_leaf()
    async with tour.step("start the gateway: petiole gateway run --config petiole.toml") as facts:
        await rig.start_gateway()
        facts.append(f"process {rig.gateway_pid}, its log in {rig.log}")
    async with tour.step("let the hub take the site's readings into its stream UP, stored on all three servers"):
        await rig.take_readings()
    kinds = list(NODES.values())
    text = ", ".join(f"{kinds.count(kind)} {name}" for kind, name in _KINDS.items())
    async with tour.step(f"start {len(NODES)} nodes ({text}) and let them join") as facts:
        await rig.start_nodes(SEED)
        facts.append(runtime()[1])
        bad = f"{IMPAIRMENT.loss:.0%} of all frames are lost, {IMPAIRMENT.duplicate:.0%} doubled"
        facts.append(f"their links are bad on purpose: {bad}, each way")
    tour.numbers["nodes"] = len(NODES)


_KINDS = {"uart": "on a UART", "console": "on a USB console", "udp": "on UDP"}


async def _first_readings(tour: Tour, rig: Rig) -> None:
    async with tour.step("readings of every node reach the hub's stream") as facts:
        async with asyncio.timeout(FIRST_READINGS_S):
            while True:
                census = await rig.count_hub()
                if len(census.sequences) == len(NODES):
                    break
                await asyncio.sleep(POLL_S)
        facts.append(f"{census.total} confirmed readings of {len(census.sequences)} devices at the hub")


async def _ask(client: Client, device: str, command: str, arguments: list[Any]) -> tuple[Any, float]:
    """Result and round trip in ms of a command."""
    nobody = CliError(f"no gateway of site {SITE} answers at {client.target.url}", "look into the gateway's log")
    began = time.monotonic()
    result = await client.ask(f"dev.{SITE}.{device}.{command}", arguments, 10.0, nobody)
    return result, (time.monotonic() - began) * 1000


async def _command(tour: Tour, rig: Rig) -> None:
    async with tour.step("a client at the hub runs a command of a node on a serial port") as facts:
        result, took_ms = await _ask(rig.hub, "kitchen", "add", [19, 23])
        if result != 42:
            raise CliError(f"kitchen says that 19 + 23 is {result}", _DEFECT)
        tour.numbers["command_ms"] = round(took_ms, 1)
        facts.append(f"add(19, 23) = {result}, {took_ms:.0f} ms: hub, leaf, gateway, serial port, node, and back")


async def _cut_and_heal(tour: Tour, rig: Rig) -> None:
    async with tour.step(f"cut the line between site and hub for {CUT_S:g} s") as facts:
        rig.proxy.cut()
        before = (await rig.count_hub()).total
        await asyncio.sleep(CUT_S)
        result, took_ms = await _ask(await rig.site.client(), "garden", "add", [1, 1])
        backlog = (await rig.count_site()).beyond(await rig.count_hub())
        passed = rig.at_hub.total - before
        # What was on its way when the line was cut may still be stored; afterwards nothing moves.
        if not backlog or passed > len(NODES):
            raise CliError(f"{backlog} readings wait and {passed} reached the hub: it was not cut off", _DEFECT)
        facts.append(f"the site goes on by itself: garden answers add(1, 1) = {result} in {took_ms:.0f} ms")
        facts.append(f"{_bold(f'{backlog} readings wait')}, safe on the site's disk")
    async with tour.step("heal the line and let the backlog arrive") as facts:
        began = time.monotonic()
        rig.proxy.restore()
        numbers = await _count(rig)
        took_s = time.monotonic() - began
        tour.numbers |= {"waited": backlog, "caught_up_s": round(took_s, 2), **numbers}
        facts.append(f"caught up in {took_s:.1f} s; counted from the hub's stream: {_verdict(numbers)}")
    _judge(numbers)


async def _count(rig: Rig) -> dict[str, int]:
    """What the hub's stream has of all that the leaf's stream has now, as soon as it has the last of each device."""
    promised = (await rig.count_site()).highest
    async with asyncio.timeout(CATCH_UP_S):
        while True:
            census = await rig.count_hub()
            if all(census.highest.get(device, 0) >= highest for device, highest in promised.items()):
                break
            await asyncio.sleep(POLL_S)
    return {
        "readings": census.total,
        "lost": census.missing(promised),
        "duplicates": census.duplicates,
        "out_of_order": census.out_of_order,
    }


def _verdict(numbers: dict[str, int]) -> str:
    bad = numbers["lost"] or numbers["duplicates"] or numbers["out_of_order"]
    text = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items())
    return paint(text, "bold", "red" if bad else "green", stream=sys.stderr)


def _judge(numbers: dict[str, int]) -> None:
    wrong = {name: number for name, number in numbers.items() if number and name != "readings"}
    if wrong:
        text = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in wrong.items())
        raise CliError(f"the hub's stream is not what the nodes sent: {text}", _DEFECT)


def _bold(text: str) -> str:
    return paint(text, "bold", stream=sys.stderr)


def _advise(rig: Rig) -> None:
    here = Path(sys.executable).parent
    at_hub = f"petiole --server {rig.cluster.urls[0]} --creds {rig.cluster.application_credentials}"
    note("")
    note("  now, in another terminal:")
    if shutil.which("petiole") != str(here / "petiole"):
        note(f"    export PATH={here}:$PATH")
    note(f"    export PETIOLE_CONFIG={rig.config}")
    for command, meaning in (
        ("watch", "readings as they come"),
        ("tap", "every frame, decoded: names and values, sizes, what was dropped"),
        ("device list", "who is online"),
        ("device show kitchen", "channels, commands, round trip"),
        ("request kitchen led true", "a command"),
        ("request roof echo '{\"any\": [1, 2]}'", "another, over UDP"),
        ("status", "links, store, drops by reason"),
    ):
        note(f"    {f'petiole {command}'.ljust(44)} {paint(meaning, 'dim', stream=sys.stderr)}")
    note("  the same from the hub:")
    note(f"    {at_hub} --site {SITE} watch --hub --since 5m")
    note(f"    {at_hub} --site {SITE} request cellar info")
    note("  be unkind: the leaf server is started again, and nothing is lost")
    note(f"    kill -9 {rig.leaf.pid}")
    note(f"  all files and logs: {rig.folder}")
    note("")


async def _stay(rig: Rig, seconds: float | None) -> bool:
    """Stay up for so many seconds, or at a terminal until Ctrl-C. True if the time is over, with the hub still there:
    Ctrl-C reaches its servers, too."""
    if not seconds and (seconds is not None or not sys.stdin.isatty()):
        return False
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    note(f"  {'Ctrl-C ends it' if seconds is None else f'it goes on for {seconds:g} s'}")
    counter = asyncio.create_task(_show_count(rig)) if has_colour(sys.stderr) else None
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        return True
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        if counter is not None:
            counter.cancel()
            await asyncio.gather(counter, return_exceptions=True)
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return False


async def _show_count(rig: Rig) -> None:
    while True:
        passed = size_text(rig.proxy.bytes_total)
        line = f"\r\x1b[K  {(await rig.count_hub()).total} readings at the hub, {passed} over the line"
        print(line, end="", file=sys.stderr, flush=True)
        await asyncio.sleep(1)
