"""The gateway as a process of its own, with its embedded leaf server: started, killed, asked."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from petiole_gateway.nats.child_process import ended_with_parent, process_start
from petiole_gateway.nats.leaf_pidfile import PID_FILE, stale_server
from petiole_gateway.nats.private_file import write_private
from petiole_tools.client import connected
from petiole_tools.failure import CliError
from petiole_tools.options import Options

from .gateway_entry import FLUSH_S
from .waiting import PATIENCE_S, until

_ROOT = Path(__file__).parents[2]
_LOG_TAIL = 400
HUB_TIMEOUT_S = 3  # the least that can be set


@dataclass
class GatewaySettings:
    """What the gateway's settings file says. `serial`: path → framing."""

    site: str
    state_dir: Path
    udp_port: int
    serial: dict[Path, str] = field(default_factory=dict)
    hub: str | None = None
    hub_credentials: Path | None = None
    flush_s: float = 0  # every flush of the disk takes so much longer
    more: str = ""  # at its end

    def text(self) -> str:
        lines = [
            f'site = "{self.site}"',
            f'state_dir = "{self.state_dir}"',
            "[udp]",
            f'listen = "127.0.0.1:{self.udp_port}"',
            "[log]",
            'format = "json"',
            "[nats]",
        ]
        if self.hub is not None:
            lines += [f'hub = ["{self.hub}"]', f'hub_credentials = "{self.hub_credentials}"']
            # A dead link is noticed within seconds, and the leaf does not go round the proxy that cuts it.
            lines += [f"hub_timeout_s = {HUB_TIMEOUT_S}", "ignore_discovered_servers = true"]
        for path, framing in self.serial.items():
            lines += ["[[serial]]", f'port = "{path}"', f'framing = "{framing}"']
        return "\n".join(lines) + "\n" + self.more


class GatewayProcess:
    """`petiole gateway run`. All its log lines go to a file; the last are kept."""

    def __init__(self, folder: Path, settings: GatewaySettings) -> None:
        self.folder = folder
        self.settings = settings
        self.config = folder / "petiole.toml"
        self.options = Options(config=self.config)
        self.log: collections.deque[str] = collections.deque(maxlen=_LOG_TAIL)
        self.starts_total = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._events: set[str] = set()  # of the running process

    async def start(self) -> None:
        """Start and wait until nodes are served."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.settings.text())
        self._events = set()
        self.starts_total += 1
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.gateway_entry", "gateway", "run", "--config", str(self.config)),
            cwd=_ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=ended_with_parent(),
            env={**os.environ, FLUSH_S: str(self.settings.flush_s)},
        )
        self._process = process
        self._reader = asyncio.create_task(self._read(process))
        await until(lambda: "gateway_started" in self._events or process.returncode is not None, "the gateway runs")
        if process.returncode is not None:
            raise AssertionError(f"the gateway ended with {process.returncode}:\n" + "\n".join(list(self.log)[-20:]))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        with (self.folder / "gateway.log").open("a") as file:
            while line := await process.stderr.readline():
                text = line.decode(errors="replace").rstrip()
                file.write(text + "\n")
                file.flush()
                self.log.append(text)
                with suppress(ValueError, AttributeError):  # a traceback is no JSON object
                    self._events.add(json.loads(text).get("event", ""))

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def leaf_dir(self) -> Path:
        return self.settings.state_dir / "leaf"

    def leaf_pid(self) -> int | None:
        """Of the leaf server that this gateway noted, if that still runs."""
        return stale_server(self.leaf_dir)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code. TimeoutError, with what it waits for in its log."""
        assert self._process is not None
        try:
            code = await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            self.signal(signal.SIGUSR1)
            raise
        if self._reader is not None:
            await self._reader
            self._reader = None
        return code

    async def kill(self) -> None:
        """kill -9."""
        if self.is_running:
            self.signal(signal.SIGKILL)
            self.signal(signal.SIGCONT)
            await self.wait()

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        if self.is_running:
            self.signal(signal.SIGTERM)
        return await self.wait()

    async def kill_leaf(self) -> int:
        """kill -9 the leaf server; its pid. The gateway starts another."""
        await until(lambda: self.leaf_pid() is not None, "a leaf server runs")
        pid = self.leaf_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    async def stop(self, *, at_once: bool = False) -> None:
        """Whatever state it is in, neither it nor its leaf server runs afterwards. `at_once`: nothing is written any
        more."""
        pid = self.leaf_pid()
        if at_once and pid is not None:
            os.kill(pid, signal.SIGKILL)  # before the gateway's end tells it to end in order
        if at_once:
            await self.kill()
        if self.is_running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                await self.wait(15)
            except TimeoutError:
                await self.kill()
        if pid is not None and self.leaf_pid() == pid:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)
        if pid is not None:
            await until(lambda: process_start(pid) is None, "the leaf server ends")

    # Asking ------------------------------------------------------------------------------------------------

    async def ask(self, method: str, body: Any = None) -> Any:
        """Its answer to `gw.<site>.<method>`."""
        async with connected(self.options) as client:
            return await client.gateway(method, body)

    async def status(self) -> dict[str, Any]:
        return dict(await self.ask("status"))

    async def answers(self) -> bool:
        """Whether it answers requests at this moment."""
        try:
            await self.status()
        except CliError:
            return False
        return True

    def resident_bytes(self) -> int:
        """Memory in use."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def said(self, event: str) -> list[dict[str, Any]]:
        """The kept log entries of this name."""
        found = []
        for line in self.log:
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == event:
                    found.append(entry)
        return found


def pretend_another_boot(state_dir: Path) -> None:
    """Make the notes of an earlier run look as after a power cycle: the name of the kernel's boot, which no test can
    change, differs from the noted one."""
    for path in (state_dir / "uplink-boot.json", state_dir / "leaf" / PID_FILE):
        if path.exists():
            write_private(path, json.dumps(json.loads(path.read_bytes()) | {"boot": "an earlier boot"}).encode())
