"""What a whole gateway leaves on its disk: readings as documented, devices, no keys; and when it says so."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from petiole_gateway import app, credentials
from petiole_gateway.app import Gateway
from petiole_gateway.nats.errors import KeyFileError, SecurityError, WrongKeyError

from .memory import NullLogger
from .real_time import until
from .whole import SITE, UdpNode, World

NAME = "greenhouse-north"


class Disk:
    """The disk under a gateway: `is_held` keeps every barrier from passing."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        barrier = gateway.store._barrier
        self._may_pass = threading.Event()
        self._may_pass.set()
        self.asked = 0
        sync = barrier._sync

        def wait_and_sync() -> None:
            self.asked += 1
            self._may_pass.wait(30)
            sync()

        monkeypatch.setattr(barrier, "_sync", wait_and_sync)

    @contextmanager
    def held(self) -> Iterator[None]:
        self._may_pass.clear()
        try:
            yield
        finally:
            self._may_pass.set()


async def first_at(world: World, subject: str) -> dict[str, Any]:
    """The first document of a subject in the leaf's stream."""
    body = json.dumps({"seq": 1, "next_by_subj": subject}).encode()
    message = await world.client.request("$JS.API.DIRECT.GET.UP", body, timeout=5)
    assert (message.headers or {}).get("Nats-Subject") == subject
    return dict(json.loads(message.data))


def names(listed: dict[str, Any]) -> list[str]:
    return [row["name"] for row in listed["devices"]]


# Readings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [{}, {"clock": "unsynchronised"}])
async def test_a_reading_is_stored_as_documented(world: World, clock: dict[str, str]) -> None:
    world.trust_clock(not clock)
    node = await world.node(NAME)
    node.endpoint.publish(0, 21.5, 0)
    node.endpoint.publish(1, True, 0)
    node.endpoint.publish(9, b"\x00\xff", 0)  # a channel that its manifest does not have
    node.pump()
    await until(lambda: node.is_empty)
    expected = [("temperature", 21.5, "Cel"), ("door", True, ""), ("ch9", "AP8=", "")]
    for number, (name, value, unit) in enumerate(expected, 1):
        document = await first_at(world, f"up.{SITE}.{NAME}.{name}")
        at = document.pop("at")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
        assert document == {"device": NAME, "name": name, "value": value, "unit": unit, "sequence": number} | clock


async def test_no_reading_is_acknowledged_before_the_disk_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await world.node(NAME)
    store = world.gateway.store
    disk = Disk(world.gateway, monkeypatch)
    with disk.held():
        node.publish(*range(4))
        await until(lambda: store.metrics.stored_total == 4 and disk.asked)
        answer = await node.ask("nobody.home")  # frames pass meanwhile, so an acknowledgement had its chance
        assert answer[0] == 404
        assert not any(event[0] == "durable" for event in node.events)
    await until(lambda: node.is_empty)


async def test_a_stop_waits_for_the_disk_and_acknowledges_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await world.node(NAME)
    disk = Disk(world.gateway, monkeypatch)
    store = world.gateway.store
    with disk.held():
        node.publish(*range(4))
        await until(lambda: store.metrics.stored_total == 4 and disk.asked)
        stopping = asyncio.create_task(world.stop())
        await until(lambda: not world.gateway._accepts)
        late: list[bytes] = []
        assert world.gateway.udp is not None
        take = world.gateway.udp.datagram_received

        def hear(data: bytes, addr: tuple[Any, ...]) -> None:
            take(data, addr)
            late.append(data)

        monkeypatch.setattr(world.gateway.udp, "datagram_received", hear)
        node.publish(4)  # too late: it is for the next run
        await until(lambda: late)
        assert store.metrics.submitted_total == 4
        assert not stopping.done()
        assert not any(event[0] == "durable" for event in node.events)
    await stopping
    await until(lambda: sum(event[0] == "durable" for event in node.events) == 4)
    await world.start()
    await until(lambda: node.is_empty)
    assert await world.stored() == [(NAME, number + 1, number) for number in range(5)]
    assert node.endpoint.joins_total == 1


# Devices -------------------------------------------------------------------------------------------------------


async def test_devices_are_listed_shown_and_removed_for_good(world: World) -> None:
    assert await world.ask("device.list") == {"devices": [], "total": 0, "next": None}
    node = await world.node(NAME)
    added = await world.ask("device.add", {"name": "barn"})
    assert re.fullmatch(r"[0-9a-f]{32}", added["key"])
    listed = await world.ask("device.list")
    assert names(listed) == ["barn", NAME]
    assert [row["state"] for row in listed["devices"]] == ["offline", "online"]
    assert "key" not in json.dumps(listed), "a key is told once"
    assert "key" not in await world.ask("device.show", {"name": "barn"})
    assert await world.ask("device.remove", {"name": NAME}) == {"name": NAME, "removed": True}
    assert (await world.ask("device.remove", {"name": NAME}))["code"] == 404
    assert (await world.ask("device.remove", {"name": ["barn"]}))["code"] == 400
    assert (await world.ask("device.add", {"name": "x", "key": added["key"]}))["code"] == 409
    await world.stop()
    await world.start()
    assert names(await world.ask("device.list")) == ["barn"]
    assert (await world.ask("device.add", {"name": "x", "key": added["key"]}))["code"] == 409, "it is the same key"
    node.publish(1)
    await until(lambda: any(event[0] == "refused" for event in node.events))
    assert await world.stored() == []


async def test_ten_thousand_devices_are_listed_in_pages(world: World) -> None:
    roster = world.gateway.hub.roster
    wanted = [f"{number:05}-{'x' * 26}" for number in range(10_000)]
    for number, name in enumerate(wanted):
        roster.refresh(name, {"name": name, "key": f"{number:032x}"})
    found: list[str] = []
    after = ""
    while True:
        reply = await world.request(f"gw.{SITE}.device.list", {"after": after})
        assert len(reply.data) < 512 * 1024, "what a server with half of the usual limit carries"
        page = json.loads(reply.data)
        assert page["total"] == len(wanted)
        found += names(page)
        after = page["next"]
        if after is None:
            break
    assert found == wanted
    assert names(await world.ask("device.list", {"after": wanted[17], "limit": 2})) == wanted[18:20]
    assert (await world.ask("device.list", {"after": wanted[-1]}))["devices"] == []
    for bad in ({"after": 5}, {"limit": 0}, {"limit": True}, {"limit": "all"}):
        assert (await world.ask("device.list", bad))["code"] == 400, bad


async def test_a_key_is_told_only_when_the_disk_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(world.gateway, monkeypatch)
    with disk.held():
        adding = asyncio.create_task(world.ask("device.add", {"name": NAME}))
        await until(lambda: disk.asked)
        await world.subscribed()  # whatever was answered before is here now
        assert not adding.done()
    assert (await adding)["name"] == NAME


async def test_a_disk_that_takes_nothing_gives_no_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BARRIER_TIMEOUT_S", 0.1)
    disk = Disk(world.gateway, monkeypatch)
    with disk.held():
        refused = await world.ask("device.add", {"name": NAME})
        assert refused["code"] == 503
        assert "the disk took nothing for 0.1 s" in refused["error"]
        assert names(await world.ask("device.list")) == []
    await until(lambda: not world.gateway.store._barrier._waiters)
    monkeypatch.undo()
    assert (await world.ask("device.add", {"name": NAME}))["name"] == NAME


async def test_durability_crash_waits_for_no_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.stop()
    nats = world.config.nats.model_copy(update={"durability": "crash"})
    world.config = world.config.model_copy(update={"nats": nats})
    await world.start()
    disk = Disk(world.gateway, monkeypatch)
    with disk.held():
        node = await world.node(NAME)
        node.publish(1)
        await until(lambda: node.is_empty)
        await world.stop()
    assert disk.asked == 0


# Keys ----------------------------------------------------------------------------------------------------------


def forms(secret: bytes) -> list[bytes]:
    """As a key may stand in a file."""
    digits = secret.hex().encode()
    return [secret, digits, digits.upper(), base64.b64encode(secret).rstrip(b"="), base64.b64encode(digits)]


async def test_no_key_can_be_read_from_the_leafs_files(world: World) -> None:
    nodes: list[UdpNode] = [await world.node(f"{NAME}-{seed}", seed=seed) for seed in (1, 2, 3)]
    keys = [device.key for device in world.gateway.hub.roster.devices.values()]
    for node in nodes:
        node.publish(*range(5))
    await until(lambda: all(node.is_empty for node in nodes))
    sessions = [device.current for device in world.gateway.hub.roster.devices.values() if device.current]
    await until(lambda: all(session.is_stored for session in sessions))
    keys += [session.nonce for session in sessions]  # with the request, what a session's keys are derived from
    folder = world.config.leaf_dir
    await world.stop()
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    everything = b"".join(files.values())
    assert everything.count(NAME.encode()) > 3, "this search finds what is there to be found"
    assert (world.config.state_dir / credentials.KEY_FILE) not in files
    registry_key = (world.config.state_dir / credentials.KEY_FILE).read_bytes()
    assert len(keys) == 6
    for secret in [*keys, registry_key]:
        for form in forms(secret):
            found = [str(path) for path, data in files.items() if form in data]
            assert not found, f"{form!r} is readable in {found}"


def _swap(path: Path) -> None:
    path.write_bytes(bytes(32))


def _cut(path: Path) -> None:
    path.write_bytes(b"short")


def _open_to_all(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("change", "error", "says", "hint"),
    [
        (_swap, WrongKeyError, "does not open under", "restore the right one"),
        (_cut, KeyFileError, "has 5 bytes instead of 32", "backup"),
        (Path.unlink, KeyFileError, "missing, but bucket devices is sealed under it", "backup"),
        (_open_to_all, KeyFileError, "others may read it", "0600"),
    ],
)
async def test_a_key_file_that_does_not_fit_is_named(
    world: World, change: Callable[[Path], None], error: type[SecurityError], says: str, hint: str
) -> None:
    await world.ask("device.add", {"name": NAME})
    await world.stop()
    path = world.config.state_dir / credentials.KEY_FILE
    right = path.read_bytes()
    change(path)
    with pytest.raises(error, match=says) as raised:
        await Gateway(world.config, NullLogger()).start()
    assert str(path) in str(raised.value)
    assert hint in raised.value.hint
    path.unlink(missing_ok=True)
    path.write_bytes(right)
    path.chmod(0o600)
    await world.start()
    assert names(await world.ask("device.list")) == [NAME], "the attempt has changed nothing"
