"""A gateway process with its leaf server, and a client, for one measurement."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client

import nats
from petiole_gateway.nats.leaf_access import read_access

START_S = 60.0


@dataclass
class System:
    """`client` is connected to the leaf as a local user."""

    folder: Path
    client: Client
    udp_port: int
    pid: int

    async def ask(self, method: str, body: Any = None) -> Any:
        """A method of the gateway."""
        reply = await self.client.request(f"gw.home.{method}", json.dumps(body or {}).encode(), timeout=30)
        return json.loads(reply.data)

    async def add(self, name: str) -> bytes:
        """Register a device; its key."""
        return bytes.fromhex((await self.ask("device.add", {"name": name}))["key"])


@asynccontextmanager
async def running(serial: tuple[str, ...] = ()) -> AsyncIterator[System]:
    """`serial`: patterns of ports to open."""
    with tempfile.TemporaryDirectory(prefix="petiole-bench-") as name:
        folder = Path(name)
        ports = "".join(f'[[serial]]\nport = "{port}"\n' for port in serial)
        (folder / "petiole.toml").write_text(
            f'state_dir = "{folder}/state"\n{ports}[udp]\nlisten = "127.0.0.1:0"\n[log]\nlevel = "warning"\n'
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "petiole_tools", "--config", str(folder / "petiole.toml"), "gateway", "run"
        )
        try:
            client = await _connected(folder / "state" / "leaf", process)
            system = System(folder, client, 0, process.pid)
            async with asyncio.timeout(START_S):
                while not system.udp_port:
                    try:
                        links = (await system.ask("status"))["links"]
                        system.udp_port = next(link["port"] for link in links if link["kind"] == "udp")
                    except nats.errors.NoRespondersError:
                        await asyncio.sleep(0.1)
            yield system
            await client.close()
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _connected(leaf: Path, process: asyncio.subprocess.Process) -> Client:
    async with asyncio.timeout(START_S):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"the gateway ended with {process.returncode}")
            try:
                access = read_access(leaf)
                return await nats.connect(access.url, user=access.user, password=access.password, connect_timeout=1)
            except Exception as error:
                last = error
                await asyncio.sleep(0.1)
                del last
