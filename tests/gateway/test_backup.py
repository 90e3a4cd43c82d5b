"""A gateway is lost and restored from a backup on a new one: its nodes go on, and nothing comes twice."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway.backup_file import MAGIC, VERSION, BackupError, WrongPasswordError, open_sealed, seal
from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import connect
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.registry_backup import SEQUENCE_MARGIN, OtherDevicesError
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_gateway.settings.config import load
from petiole_tools.backup import PASSWORD, backup, restore
from petiole_tools.failure import CliError
from petiole_tools.options import Options

from .real_time import until
from .whole import SITE, UdpNode, World

SECRET = "a long sentence of nobody"


class Lost(World):
    """A gateway whose disk can be lost, and restored from a file. `hub` adds lines to the settings."""

    def __init__(self, folder: Path, hub: str = "") -> None:
        super().__init__(folder)
        self.folder = folder
        self.file = folder / "site.backup"
        self.path = folder / "gateway.toml"
        self.path.write_text(
            f'site = "{SITE}"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:{self.udp_port}"\n{hub}'
        )
        self.config = load(self.path)
        self.options = Options(config=self.path)

    async def backup(self) -> None:
        await backup(self.options, self.file, None)

    def lose(self) -> None:
        """The disk is gone; the gateway does not run."""
        shutil.rmtree(self.config.state_dir)

    async def restore(self, **options: Any) -> None:
        given = Options(config=self.path, **options)
        await restore(given, self.file, None, None, trust_clock=True)

    def nonce(self, device: str) -> bytes:
        """What the keys of the device's session are made from, beside its key and its request."""
        session = self.gateway.hub.device(device).current
        assert session is not None
        return session.request + session.nonce


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PETIOLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(PASSWORD, SECRET)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Lost]:
    world = Lost(tmp_path)
    await world.start()
    yield world
    await world.end()


async def test_nodes_go_on_at_a_restored_gateway_without_a_key_or_a_number_used_twice(world: Lost) -> None:
    nodes = {name: await world.node(name, seed=seed) for seed, name in enumerate(("a", "b"), 1)}
    for node in nodes.values():
        node.publish(*range(50))
    await until(lambda: all(node.is_empty for node in nodes.values()))
    await world.backup()
    nonces = {name: world.nonce(name) for name in nodes}
    for start in range(50, 350, 50):  # an outbox holds more, a session some at once
        for node in nodes.values():
            node.publish(*range(start, start + 50))
        await until(lambda: all(node.is_empty for node in nodes.values()))
    await world.stop()
    world.lose()

    await world.restore()
    await world.start()
    for node in nodes.values():
        node.publish(*range(350, 400))
    await until(lambda: all(node.is_empty for node in nodes.values()))
    assert {name: world.nonce(name) for name in nodes} != nonces
    stored = await world.stored()
    for name in nodes:
        assert [entry[1:] for entry in stored if entry[0] == name] == [(n + 1, n) for n in range(350, 400)]
        assert await world.command(name, "led", [True]) == (0, {"led": [True]})
        assert world.gateway.hub.device(name).uplinks.durable == 400


async def test_a_node_without_a_memory_of_its_numbers_goes_on_far_above_them(world: Lost) -> None:
    node = await world.node("a")
    node.publish(*range(20))
    await until(lambda: node.is_empty)
    await world.backup()
    await world.stop()
    world.lose()
    await world.restore()
    await world.start()
    node.close()
    world._nodes.clear()
    again = UdpNode(world.gateway.hub.device("a").key, world.udp_port, seed=5, has_memory=False)
    try:
        again.publish(1, 2)
        await until(lambda: again.is_empty)
        first = [sequence for _, sequence, _ in await world.stored()]
        assert first[0] > SEQUENCE_MARGIN
        assert first == [first[0], first[0] + 1]
    finally:
        again.close()


async def test_what_the_hub_has_is_not_stored_again_when_it_is_asked(tmp_path: Path) -> None:
    hub = HubCluster(tmp_path / "hub")
    await hub.start()
    lines = f'[nats]\nhub = ["{hub.leaf_urls[0]}"]\nhub_credentials = "{hub.mint_site(SITE)}"\n'
    world = Lost(tmp_path, lines)
    there = await connect(hub.urls, logger=world.logger, credentials=hub.application_credentials, timeout_s=30)
    try:
        api = JetStreamApi(there.client)
        await ensure_hub_uplink(api, [SITE], replicas=1)

        async def arrived() -> list[tuple[int, int]]:
            found, number = [], 0
            while (message := await api.next_message("UP", f"up.{SITE}.a.>", number + 1)) is not None:
                number = message.stream_sequence
                document = json.loads(message.payload)
                found.append((document["sequence"], document["value"]))
            return found

        await world.start()
        node = await world.node("a")
        node.publish(*range(10))
        await until(lambda: node.is_empty)
        await world.backup()

        node.publish(*range(10, 40))
        await until(lambda: node.is_empty)
        deaf = node.endpoint.receive
        node.endpoint.receive = lambda frame, now: []  # type: ignore[method-assign]  # acks get lost
        node.publish(*range(40, 45))
        await until_arrived(arrived, 45)
        await world.stop()
        world.lose()

        await world.restore(server=hub.urls[0], credentials=hub.application_credentials)
        await world.start()
        assert len(node.endpoint.outbox.items) == 5, "the node does not know that the hub has them"
        node.endpoint.receive = deaf  # type: ignore[method-assign]
        node.publish(*range(45, 60))
        await until(lambda: node.is_empty)
        await until_arrived(arrived, 60)
        assert await arrived() == [(number + 1, number) for number in range(60)]
        # Not by the hub's memory for repetitions, which is of ten minutes.
        assert [sequence for _, sequence, _ in await world.stored()] == list(range(46, 61))
    finally:
        await world.end()
        await there.close()
        await hub.stop()


async def until_arrived(arrived: Callable[[], Any], count: int) -> None:
    async with asyncio.timeout(60):
        while len(await arrived()) < count:  # noqa: ASYNC110 - the hub has no event for it
            await asyncio.sleep(0.1)


async def test_a_restore_that_was_interrupted_is_repeated_and_another_gateway_is_not_overwritten(world: Lost) -> None:
    await world.node("a")
    await world.node("b")
    await world.backup()
    with pytest.raises(CliError, match="exists"):
        await world.backup()
    await world.ask("device.remove", {"name": "b"})
    await world.stop()
    await world.restore()  # a is there already
    await world.start()
    assert set(world.gateway.hub.roster.devices) == {"a", "b"}
    await world.ask("device.add", {"name": "c"})
    await world.stop()
    with pytest.raises(OtherDevicesError, match="1 other devices already, such as c"):
        await world.restore()


async def test_a_running_gateway_another_site_and_a_clock_that_is_behind_are_refused(
    world: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.node("a")
    await world.backup()
    with pytest.raises(Exception, match="is in use by another gateway process"):
        await world.restore()
    await world.stop()
    with pytest.raises(CliError, match="the backup is of site site1"):
        await restore(Options(config=world.path, site="barn"), world.file, None, None, trust_clock=True)
    monkeypatch.setattr("petiole_tools.backup.SystemClock.is_doubtful", lambda self: True)
    with pytest.raises(CliError, match="no time source has set"):
        await restore(world.options, world.file, None, None, trust_clock=False)
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    with pytest.raises(CliError, match="clock is before the backup"):
        await world.restore()


async def test_settings_and_credentials_come_back_where_they_are_wanted(world: Lost, tmp_path: Path) -> None:
    await world.backup()
    await world.stop()
    folder = tmp_path / "new"
    folder.mkdir()
    world.lose()
    await restore(world.options, world.file, None, folder, trust_clock=True)
    assert (folder / "gateway.toml").read_bytes() == world.path.read_bytes()
    # Again, as after an interruption: what is there already is not in the way, but another's is.
    await restore(world.options, world.file, None, folder, trust_clock=True)
    (folder / "gateway.toml").write_text("site = 'barn'\n")
    with pytest.raises(CliError, match="exists, and is another"):
        await restore(world.options, world.file, None, folder, trust_clock=True)


async def test_a_machine_without_settings_becomes_the_gateway_of_the_backup(
    world: Lost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.backup()
    await world.stop()
    monkeypatch.setenv("PETIOLE_STATE_DIR", str(tmp_path / "not-here"))
    await restore(Options(), world.file, None, tmp_path / "new", trust_clock=True)
    restored = load(tmp_path / "new" / "gateway.toml")
    assert restored.site == SITE
    assert (restored.state_dir / "leaf").is_dir()
    assert restored.state_dir.is_relative_to(tmp_path / "new")
    assert not (tmp_path / "not-here").exists()


def test_a_file_says_what_is_wrong_with_it() -> None:
    document = {"key": secrets.token_hex(16)}
    file = seal(document, SECRET, log_n=10)
    assert open_sealed(file, SECRET) == document
    assert document["key"].encode() not in file
    with pytest.raises(WrongPasswordError):
        open_sealed(file, SECRET + ".")
    for length in (*range(len(MAGIC) + 1, 60), len(file) - 1):
        with pytest.raises(BackupError, match=r"ends within its head|is cut off"):
            open_sealed(file[:length], SECRET)
    with pytest.raises(BackupError, match="something behind its end"):
        open_sealed(file + b"x", SECRET)
    with pytest.raises(BackupError, match="not a backup"):
        open_sealed(b"PK" + file, SECRET)
    newer = bytearray(file)
    newer[len(MAGIC)] = VERSION + 1
    with pytest.raises(BackupError, match="another version of petiole") as caught:
        open_sealed(bytes(newer), SECRET)
    assert caught.value.hint == "install a newer petiole"
    with pytest.raises(BackupError, match="shorter than 8"):
        seal(document, "short")


@pytest.mark.parametrize("offset", [15, 16, 32, 44, 60, 70, -1])
def test_no_bit_of_a_file_can_be_changed(offset: int) -> None:
    file = bytearray(seal({"a": 1}, SECRET, log_n=10))
    file[offset] ^= 1
    with pytest.raises(BackupError):
        open_sealed(bytes(file), SECRET)


def test_a_file_cannot_take_all_memory() -> None:
    file = bytearray(seal({"a": 1}, SECRET, log_n=10))
    file[15] = 40
    with pytest.raises(BackupError, match=r"scrypt 2\*\*40"):
        open_sealed(bytes(file), SECRET)
