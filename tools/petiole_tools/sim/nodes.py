"""Simulated nodes: each is a process of the real firmware on MicroPython, behind a link that can be made bad.

async with SimNode(NodeSpec("leaf-1", key, "uart"), folder) as node:
    ... open node.path as a serial port ...
    await node.restart()
"""

import asyncio
import collections
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import petiole
from petiole_node.port.sleeper import FILES
from petiole_node.port.sleeper_files import SLEEP_CODE, SLEEP_FILE
from petiole_tools import firmware_cache
from petiole_tools.sim.impairment import PERFECT, Impairment, Pump, UdpRelay
from petiole_tools.sim.runtime import NoMicroPython, board_heap, find_micropython, runtime

KINDS = ("uart", "console", "udp")
_FIRMWARE = Path(petiole.__file__).parent.parent
_RESET_PAUSE_S = 0.1
_RESET_PAUSE_MAX_S = 3.0
_LOG_LINES = 2000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class NodeSpec:
    """What a simulated node is. `gateway`: where a udp node finds it. `options`: for `sim_app` (see there).

    `settings` is added to the node's petiole.json; `app` replaces `sim_app.py`. Equal seeds make equal luck.
    """

    name: str
    key: bytes
    kind: str = "uart"
    gateway: tuple[str, int] = ("127.0.0.1", 6363)
    impairment: Impairment = PERFECT
    seed: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    app: Path = Path(__file__).parent / "sim_app.py"
    runtime: str = ""  # "": MicroPython where there is one
    heap: str = ""  # as `-X heapsize=` takes it; "": that of a small board

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: one of {', '.join(KINDS)}, got {self.kind!r}")


class Terminal:
    """A pseudo terminal whose path stays the same: a symbolic link. The side with the path is for others to open."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.fd, other = os.openpty()
        tty.setraw(other)
        name = os.ttyname(other)
        os.close(other)
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(name)

    def close(self) -> None:
        """Whoever has it open sees the cable pulled."""
        with contextlib.suppress(FileNotFoundError):
            self.link.unlink()
        os.close(self.fd)


class SimNode:
    """One node in `folder`, which is made and kept. `path`: the serial port at which the gateway finds it, if any.

    A process that ends by itself is started again, as a board starts after a reset, or after a deep sleep when that is
    over. When this process ends, so does the node, whatever ended it.
    """

    def __init__(self, spec: NodeSpec, folder: Path, path: Path | None = None) -> None:
        self.spec = spec
        self.folder = folder
        self.path = path or folder / "ttySIM0"
        self.resets_total = 0  # the node's own
        self.sleeps_total = 0  # deep ones
        self.is_asleep = False
        self.log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)  # not of a console node
        self.is_running = False
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._terminal: Terminal | None = None
        self._node_fd: int | None = None
        self._pump: Pump | None = None
        self._relay: UdpRelay | None = None
        self._logged = asyncio.Event()

    # Life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Install the firmware, make the link, start the process."""
        # Building the firmware takes seconds, in which a connection of this loop to NATS would not answer a ping.
        await asyncio.to_thread(self._install)
        spec = self.spec
        if spec.kind == "udp":
            self._relay = UdpRelay(spec.gateway, spec.impairment, spec.seed)
            await self._relay.start()
        else:
            bad = spec.impairment
            is_cut = bool(bad.loss or bad.duplicate or bad.corrupt)
            # A prompt of the REPL ends in no delimiter, and somebody waits for it.
            delimiter = b"\0" if spec.kind == "uart" else b"\n" if is_cut else b""
            self._pump = Pump(bad, spec.seed, delimiter)
            self.plug()
        await self._spawn()

    async def stop(self) -> None:
        """End the process and the link. The folder stays."""
        await self.kill()
        self.unplug()
        if self._pump is not None:
            self._pump.close()
        if self._relay is not None:
            self._relay.close()

    async def kill(self) -> None:
        """Take the power away: SIGKILL, no restart. What a chip retains over sleep is gone."""
        self.is_running = self.is_asleep = False
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self._end_process()
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)

    async def restart(self) -> None:
        """Power off and on. What the node keeps in files for good stays."""
        await self.kill()
        await self._spawn()

    @property
    def pid(self) -> int | None:
        """None when no process runs: its number may be another's by now."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    # The link ----------------------------------------------------------------------------------------------

    def plug(self) -> None:
        """Connect the serial cable: `path` exists from now on."""
        if self._pump is not None and self._terminal is None:
            self._terminal = Terminal(self.path)
            self._pump.connect_outer(self._terminal.fd)

    def unplug(self) -> None:
        """Pull the serial cable: whoever has `path` open loses it."""
        if self._pump is not None and self._terminal is not None:
            self._pump.connect_outer(None)
            self._terminal.close()
            self._terminal = None

    def cut(self, is_cut: bool) -> None:
        """Let everything on the link be lost, or end that."""
        link = self._pump or self._relay
        if link is not None:
            link.uplink.is_cut = link.downlink.is_cut = is_cut

    def move_gateway(self, address: tuple[str, int]) -> None:
        """The gateway of a udp node has another address, and the network leads there."""
        if self._relay is not None:
            self._relay.gateway = address

    # Log ---------------------------------------------------------------------------------------------------

    async def wait_for_log(self, text: str, timeout_s: float = 20) -> str:
        """The next line, already printed or not, that contains the text. TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                for line in self.log:
                    if text in line:
                        return line
                self._logged.clear()
                await self._logged.wait()

    # Inside ------------------------------------------------------------------------------------------------

    def _install(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for package in ("petiole", "petiole_node", "petiole_boot"):  # of another version, or another runtime
            shutil.rmtree(self.folder / package, ignore_errors=True)
        built = firmware_cache.for_simulation() if self._runtime() == "micropython" else None
        if built is not None:
            shutil.copytree(built, self.folder, dirs_exist_ok=True)
        else:
            ignored = shutil.ignore_patterns("__pycache__", "*.pyi")
            for package in ("petiole", "petiole_node", "petiole_boot"):
                shutil.copytree(_FIRMWARE / package, self.folder / package, ignore=ignored)
            shutil.copy(_FIRMWARE / "petiole_boot" / "main.py", self.folder / "main.py")
        shutil.copy(self.spec.app, self.folder / "app.py")
        (self.folder / "sim.json").write_text(json.dumps({"seed": self.spec.seed, **self.spec.options}))

    def _write_settings(self, link: dict[str, Any]) -> None:
        values = {"name": self.spec.name, "key": self.spec.key.hex(), "links": [link], **self.spec.settings}
        (self.folder / "petiole.json").write_text(json.dumps(values))

    def _runtime(self) -> str:
        return self.spec.runtime or runtime()[0]

    def _command(self) -> list[str]:
        if self._runtime() == "cpython":
            return [sys.executable, "main.py"]
        binary = find_micropython()
        if binary is None:
            raise NoMicroPython(runtime()[1])
        return [binary, "-X", f"heapsize={self.spec.heap or board_heap(binary)}", "main.py"]

    async def _spawn(self) -> None:
        if self.spec.kind == "console":
            await self._spawn_console()
        elif self.spec.kind == "uart":
            await self._spawn_uart()
        else:
            assert self._relay is not None
            host, port = self._relay.address
            self._write_settings({"kind": "udp", "host": host, "port": port})
            self._process = await self._execute(asyncio.subprocess.PIPE, [], _die_with_parent)
        self.is_running = True
        if self._process is not None and self._process.stdout is not None:
            self._reader = asyncio.create_task(self._read_log(self._process.stdout))
        self._watcher = asyncio.create_task(self._watch())

    async def _execute(self, stdio: int, fds: list[int], prepare: Callable[[], None]) -> asyncio.subprocess.Process:
        is_piped = stdio == asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self._command(),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL if is_piped else stdio,
            stdout=stdio,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,
            preexec_fn=prepare,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    async def _spawn_uart(self) -> None:
        assert self._pump is not None
        ours, theirs = socket.socketpair()
        try:
            theirs.setblocking(False)
            self._write_settings({"kind": "uart", "fd": theirs.fileno()})
            self._process = await self._execute(asyncio.subprocess.PIPE, [theirs.fileno()], _die_with_parent)
        finally:
            theirs.close()
        self._connect(ours.detach())

    async def _spawn_console(self) -> None:
        assert self._pump is not None
        ours, theirs = os.openpty()
        try:
            tty.setraw(theirs)
            attributes = termios.tcgetattr(theirs)
            attributes[3] |= termios.ISIG  # Ctrl-C interrupts the node, as on a board
            termios.tcsetattr(theirs, termios.TCSANOW, attributes)
            self._write_settings({"kind": "console"})
            self._process = await self._execute(theirs, [], _own_terminal)
        finally:
            os.close(theirs)
        self._connect(ours)

    def _connect(self, fd: int) -> None:
        assert self._pump is not None
        self._node_fd = fd
        self._pump.connect_node(fd, (lambda: self.pid) if self.spec.kind == "console" else None)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        if self._reader is not None:
            await self._reader  # up to the last line
            self._reader = None
        if self._node_fd is not None:
            assert self._pump is not None
            self._pump.connect_node(None)
            os.close(self._node_fd)
            self._node_fd = None

    async def _watch(self) -> None:
        pause = _RESET_PAUSE_S
        process = self._process
        assert process is not None
        started = asyncio.get_running_loop().time()
        if await process.wait() == SLEEP_CODE:
            self.sleeps_total += 1
            self.is_asleep = True
            await self._end_process()
            pause = int((self.folder / SLEEP_FILE).read_text()) / 1000
        else:
            self.resets_total += 1
            if asyncio.get_running_loop().time() - started < 1:
                pause = min(pause * 2 ** min(self.resets_total, 5), _RESET_PAUSE_MAX_S)
        await asyncio.sleep(pause)
        self.is_asleep = False
        await self._end_process()
        await self._spawn()

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        with (self.folder / "node.log").open("a") as file:
            while line := await stream.readline():
                text = line.decode(errors="replace").rstrip()
                self.log.append(text)
                file.write(text + "\n")
                self._logged.set()


class Simulation:
    """Several nodes below one folder. `ports`: where the serial ports `ttySIM0`, `ttySIM1`, … are made."""

    def __init__(self, folder: Path, ports: Path | None = None) -> None:
        self.folder = folder
        self.ports = ports or folder
        self.nodes: dict[str, SimNode] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def add(self, spec: NodeSpec) -> SimNode:
        """Start one more node."""
        if spec.name in self.nodes:
            raise ValueError(f"name: {spec.name} is taken")
        self.ports.mkdir(parents=True, exist_ok=True)
        node = SimNode(spec, self.folder / spec.name, self.ports / f"ttySIM{len(self.nodes)}")
        self.nodes[spec.name] = node
        await node.start()
        return node

    async def stop(self) -> None:
        """End all nodes."""
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))
        self.nodes = {}


def _die_with_parent() -> None:
    """In the new process: end when the parent ends, however that happens. Only Linux knows how."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_terminal() -> None:
    _die_with_parent()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
