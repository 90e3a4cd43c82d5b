"""A leaf server that is a service of its own: one store, whoever runs its server, and one server at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats_rig import SITE, until
from tests.gateway.memory import NullLogger

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.errors import DataDirBusyError, LeafStartError
from petiole_gateway.nats.leaf_access import LeafAccess
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.leaf_unit import LeafUnit
from petiole_gateway.progress import UnitProgress
from petiole_gateway.supervision import Supervisor


class Manager:
    """A service manager for one service: it is started again whenever it ends."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "gateway.toml"
        self.config.write_text(f'site = "{SITE}"\nstate_dir = "{folder}/state"\n')
        self.data_dir = folder / "state" / "leaf"
        self.starts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._log = folder / "leaf.log"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        command = [sys.executable, "-m", "petiole_tools", "--config", str(self.config), "gateway", "leaf"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
        while True:
            with self._log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
            self.starts += 1
            await self.process.wait()

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            await self.process.wait()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    await manager.stop()


async def client_of(access: LeafAccess) -> Connection:
    return await connect(
        access.url,
        logger=NullLogger(),
        user=access.user,
        password=access.password,
        supervisor=Supervisor(NullLogger()),
        inbox_prefix="_INBOX",
    )


async def stored(access: LeafAccess, text: str = "") -> list[str]:
    """What the stream of this test holds, after `text` was added."""
    connection = await client_of(access)
    try:
        stream = connection.client.jetstream()
        await stream.add_stream(name="kept", subjects=["kept"])
        if text:
            await stream.publish("kept", text.encode())
        count = (await JetStreamApi(connection.client).request("STREAM.INFO.kept"))["state"]["messages"]
        return [(await stream.get_msg("kept", number + 1)).data.decode() for number in range(count)]
    finally:
        await connection.close()


async def test_the_store_stays_when_its_server_becomes_a_service_and_when_it_is_the_gateways_again(
    manager: Manager,
) -> None:
    own = LeafServer(SITE, manager.data_dir)
    await own.start()
    assert await stored(own.access, "of the gateway's own") == ["of the gateway's own"]
    url = own.access.url
    await own.stop()

    manager.start()
    unit = LeafUnit(manager.data_dir)
    await unit.start()
    assert unit.access.url == url, "clients find it where it was"
    assert manager.process is not None
    assert unit.pid == manager.process.pid, "the process has become the server"
    assert await stored(unit.access, "of a service") == ["of the gateway's own", "of a service"]
    with pytest.raises(DataDirBusyError):
        await LeafServer(SITE, manager.data_dir).start()
    await unit.stop()
    assert unit.pid == manager.process.pid, "it outlives the gateway"
    await manager.stop()

    await own.start()
    assert await stored(own.access) == ["of the gateway's own", "of a service"]
    await own.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
async def test_a_server_that_ended_or_hangs_is_started_again_and_counted(manager: Manager, number: int) -> None:
    manager.start()
    told: list[str] = []
    unit = LeafUnit(
        manager.data_dir,
        hang_s=3.0,
        on_restart=lambda: told.append("restart"),
        on_hang=lambda: told.append("hang"),
    )
    await unit.start()
    assert await stored(unit.access, "kept") == ["kept"]
    first = unit.pid
    assert first is not None
    os.kill(first, number)
    await until(lambda: told[-1:] == ["restart"] and unit.pid not in (None, first), "a server that was started again")
    assert told == (["restart"] if number == signal.SIGKILL else ["hang", "restart"])
    assert unit.restarts_total == 1
    await unit.stop()
    again = LeafUnit(manager.data_dir)
    await again.start()
    assert await stored(again.access) == ["kept"]
    await again.stop()


async def test_a_server_that_comes_back_on_another_port_is_a_reason_to_start_the_gateway_anew(manager: Manager) -> None:
    manager.start()
    unit = LeafUnit(manager.data_dir)
    assert not unit.has_moved
    await unit.start()
    progress = UnitProgress(unit)
    port = urlsplit(unit.access.url).port
    await manager.stop()
    assert await progress.stall() == ""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        manager.start()
        await until(lambda: unit.has_moved, "it is on another port")
    assert await progress.stall() == "the leaf server's service has moved to another port"
    await unit.stop()


@pytest.mark.parametrize(
    ("last", "number", "code"),
    [
        ("remember_server", signal.SIGTERM, -signal.SIGTERM),
        ("remember_server", signal.SIGINT, -signal.SIGINT),
        ("end_stale_server", signal.SIGTERM, 143),
        ("end_stale_server", signal.SIGINT, 130),
    ],
)
def test_a_signal_that_comes_before_the_process_is_the_server_is_not_lost(
    tmp_path: Path, last: str, number: signal.Signals, code: int
) -> None:
    """In the writing of its files, and in the last that it does in its event loop."""
    program = f"""
import inspect, os, sys
from petiole_gateway.nats import leaf_server
from petiole_tools.quiet_start import start

before = leaf_server.{last}
def struck(*arguments):
    os.kill(os.getpid(), {int(number)})
    return before(*arguments)
async def struck_in_the_loop(*arguments):
    await before(*arguments)
    os.kill(os.getpid(), {int(number)})
leaf_server.{last} = struck_in_the_loop if inspect.iscoroutinefunction(before) else struck
sys.argv[1:] = ["--site", "{SITE}", "--state-dir", "{tmp_path}/state", "gateway", "leaf"]
sys.exit(start("petiole_tools.cli"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


async def test_a_gateway_whose_leaf_server_does_not_come_says_which_service_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(LeafStartError) as caught:
        await LeafUnit(tmp_path, start_timeout_s=0.5).start()
    assert "petiole-leaf.service was not healthy" in str(caught.value)
    assert "journalctl -u petiole-leaf.service" in caught.value.hint
