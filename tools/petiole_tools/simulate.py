"""Simulated nodes for a running gateway: devices are added there, nodes started here, and both ended together."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petiole import wire
from petiole_tools.arguments import seconds, share
from petiole_tools.client import Client, Standing
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import note, paint, say, say_json
from petiole_tools.sim.impairment import Impairment
from petiole_tools.sim.nodes import NodeSpec, SimNode
from petiole_tools.sim.runtime import runtime

# Each node is a process of a few MB that starts in a fraction of a second; more belong into a fleet.
MAX_NODES = 50
# Files that a gateway's patterns pick up: they differ by framing, and a pattern has one framing.
UART_PORT = "ttySIM"
CONSOLE_PORT = "ttyACMSIM"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for; texts as they were typed."""

    uart: int = 0
    console: int = 0
    udp: int = 0
    loss: str = "0"
    delay: str = "0"
    duplicate: str = "0"
    reorder: str = "0"
    corrupt: str = "0"
    seed: int = 1
    period: str = "2s"
    folder: Path | None = None
    app: Path | None = None
    gateway: str | None = None

    @property
    def kinds(self) -> list[str]:
        """The link of every node."""
        kinds = ["uart"] * self.uart + ["console"] * self.console + ["udp"] * self.udp
        return kinds or ["udp"] * 3

    @property
    def impairment(self) -> Impairment:
        """How bad the links are."""
        return Impairment(
            loss=share("--loss", self.loss),
            duplicate=share("--duplicate", self.duplicate),
            reorder=share("--reorder", self.reorder),
            corrupt=share("--corrupt", self.corrupt),
            delay_ms=seconds("--delay", self.delay) * 1000,
        )


class Crew:
    """Nodes and their devices: whatever was begun is ended by `stop`."""

    def __init__(self, site: Standing, folder: Path, ports: Path, gateway: tuple[str, int]) -> None:
        self.nodes: list[SimNode] = []
        self._site = site
        self._folder = folder
        self._ports = ports
        self._gateway = gateway
        self._added: list[str] = []

    async def add(
        self,
        name: str,
        kind: str,
        *,
        impairment: Impairment,
        seed: int,
        options: dict[str, Any],
        app: Path | None = None,
    ) -> SimNode:
        """A device at the gateway and its node here, which runs `app` instead of the example."""
        added = await (await self._site.client()).gateway("device.add", {"name": name})
        self._added.append(name)
        spec = NodeSpec(
            name=name,
            key=bytes.fromhex(added["key"]),
            kind=kind,
            gateway=self._gateway,
            impairment=impairment,
            seed=seed,
            options=options,
            app=app or NodeSpec.app,
        )
        prefix = {"uart": UART_PORT, "console": CONSOLE_PORT}.get(kind, "")
        number = sum(node.spec.kind == kind for node in self.nodes)
        node = SimNode(spec, self._folder / name, self._ports / f"{prefix}{number}" if prefix else None)
        self.nodes.append(node)
        await node.start()
        return node

    async def stop(self, *, remove_devices: bool = True) -> None:
        """End the nodes and take their devices out of the gateway."""
        await asyncio.gather(*(node.stop() for node in self.nodes), return_exceptions=True)
        self.nodes.clear()
        names, self._added = self._added, []
        for place, name in enumerate(names if remove_devices else []):
            try:
                client = await self._site.client()
            except CliError as error:  # which would be waited for and said of each of the others
                note(f"{', '.join(names[place:])}: still known to the gateway: {error.problem}")
                return
            try:
                await client.gateway("device.remove", {"name": name})
            except CliError as error:
                note(f"{name}: still known to the gateway: {error.problem}")


async def simulate(options: Options, wanted: Wanted) -> None:
    """Run nodes until cancelled."""
    kinds, impairment, period_s = wanted.kinds, wanted.impairment, seconds("--period", wanted.period)
    if len(kinds) > MAX_NODES:
        raise CliError(f"{len(kinds)} nodes are more than {MAX_NODES}", "start fewer: each is a process of its own")
    if wanted.app is not None and not wanted.app.is_file():
        raise CliError(f"--app: there is no file {wanted.app}", "name the app.py of a node")
    what, sentence = runtime()
    async with AsyncExitStack() as stack:
        site = Standing(options)
        stack.push_async_callback(site.close)
        client = await site.client()
        gateway = await gateway_address(client, wanted.gateway) if "udp" in kinds else ("127.0.0.1", wire.UDP_PORT)
        taken = {device["name"] for device in await client.devices()}
        folder = wanted.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="petiole-sim-")))
        _make(folder)
        crew = Crew(site, folder, folder, gateway)
        stack.push_async_callback(crew.stop)
        if not options.as_json:
            note(sentence)
        for number, kind in enumerate(kinds):
            name = free_name(kind, taken)
            node = await crew.add(
                name,
                kind,
                impairment=impairment,
                seed=wanted.seed + number,
                options={"seed": wanted.seed + number, "period_s": period_s},
                app=wanted.app,
            )
            _tell(options, node, what, gateway)
        if not options.as_json:
            _advise(folder, kinds)
        await asyncio.Event().wait()


async def gateway_address(client: Client, given: str | None) -> tuple[str, int]:
    """Where nodes on UDP find the gateway: as given, else on this machine at the port that its status tells."""
    if given is not None:
        host, separator, port = given.rpartition(":")
        if not separator or not host or not port.isdigit():
            raise CliError(f"--gateway: {given!r} is not HOST:PORT", f"for example 192.168.1.20:{wire.UDP_PORT}")
        return host, int(port)
    status = await client.gateway("status")
    for link in status["links"]:
        if link["kind"] == "udp":
            return "127.0.0.1", int(link["port"])
    raise CliError("the gateway listens on no UDP port", "start it without --udp off, or use --uart or --console")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"--dir: {folder}: {error.strerror}", "name a folder that can be made") from error


def free_name(kind: str, taken: set[str]) -> str:
    """`sim-<kind>-<number>`, the first that is not taken; taken from now on."""
    number = 1
    while (name := f"sim-{kind}-{number}") in taken:
        number += 1
    taken.add(name)
    return name


def _tell(options: Options, node: SimNode, what: str, gateway: tuple[str, int]) -> None:
    spec = node.spec
    place = f"{gateway[0]}:{gateway[1]}" if spec.kind == "udp" else str(node.path)
    if options.as_json:
        say_json({"name": spec.name, "kind": spec.kind, "at": place, "runtime": what}, indent=None)
    else:
        say(f"{paint(spec.name.ljust(16), 'cyan')} {spec.kind.ljust(8)} {place}")


def _advise(folder: Path, kinds: list[str]) -> None:
    ports = [f"--serial '{folder}/{UART_PORT}*'"] if "uart" in kinds else []
    ports += [f"--serial '{folder}/{CONSOLE_PORT}*,console'"] if "console" in kinds else []
    if ports:
        note(f"the gateway opens these ports with: petiole gateway run {' '.join(ports)}")
    note("`petiole watch` in another terminal shows their readings; Ctrl-C ends them")
