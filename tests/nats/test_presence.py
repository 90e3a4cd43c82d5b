"""Which devices are there, as the hub and the leaf have it, over everything that may be restarted or cut."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mailbox_rig import Heard
from nats_rig import SITE, Rig, until

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.listing import read_stream
from petiole_gateway.nats.presence_store import PresenceStore
from petiole_gateway.nats.presence_streams import STREAM, ensure_hub_presence
from petiole_gateway.nats.subjects import presence_subject, site_inbox


class PresenceRig(Rig):
    store_: PresenceStore
    site_connection: Connection

    async def begin(self, *, with_hub: bool = True) -> None:
        await self.start(
            with_hub=with_hub, on_link=lambda up: hasattr(self, "store_") and self.store_.hub_link_changed(up)
        )
        if with_hub:
            await self.make_bucket()
            await self.linked()
        await self.open_presence(with_hub=with_hub)

    async def make_bucket(self) -> None:
        async def made() -> bool:
            await ensure_hub_presence(self.hub_api, replicas=len(self.hub.servers))
            return True

        await until(made, "the hub's bucket")

    async def open_presence(self, *, with_hub: bool = True) -> None:
        access = self.leaf.access
        self.site_connection = await connect(
            access.url, logger=self.logger, user=access.user, password=access.password, inbox_prefix=site_inbox(SITE)
        )
        self.store_ = PresenceStore(self.site_connection, site=SITE, logger=self.logger, with_hub=with_hub)
        self.store_.start()

    def tell(self, device: str, state: str, was: str = "offline", **more: Any) -> None:
        self.store_.tell(device, {"device": device, "state": state, **more}, was)

    async def states(self, api: JetStreamApi) -> dict[str, str]:
        found: dict[str, str] = {}

        def take(message: Any) -> None:
            key = message.subject.removeprefix("$KV.presence.")
            found[key] = json.loads(message.payload)["state"] if message.payload else "deleted"

        await read_stream(api.client, api, STREAM, "$KV.presence.>", 1, take)
        return found

    async def both(self, wanted: dict[str, str]) -> None:
        named = {f"{SITE}.{device}": state for device, state in wanted.items()}

        async def there() -> bool:
            return await self.states(self.api) == named and await self.states(self.hub_api) == named

        await until(there, f"{wanted} on the leaf and at the hub")

    async def end(self) -> None:
        if hasattr(self, "store_"):
            await self.store_.stop()
            await self.site_connection.close()
        await self.stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[PresenceRig]:
    rig = PresenceRig(tmp_path)
    yield rig
    await rig.end()


async def test_states_reach_the_leaf_and_the_hub_and_changes_are_told(rig: PresenceRig) -> None:
    await rig.begin()
    heard = Heard()
    await rig.hub_connection.client.subscribe(f"event.{SITE}.*.availability", cb=heard.take)
    watcher = await (await rig.hub_connection.client.jetstream().key_value("presence")).watch(f"{SITE}.>")

    async def told() -> bool:  # until the hub's listener is known on the leaf
        rig.tell("probe", "online")
        return bool(heard.documents)

    await until(told, "events at the hub")
    rig.tell("a", "online")
    rig.tell("b", "asleep", next_wake_at="2026-01-01T00:00:00.000Z")
    await rig.both({"a": "online", "b": "asleep", "probe": "online"})
    rig.tell("a", "online", was="online", link="udp")
    rig.tell("a", "offline", was="online")
    await until(lambda: heard.documents[-1]["state"] == "offline", "the last event")
    assert [(each["state"], each["was"]) for each in heard.documents if each["device"] == "a"] == [
        ("online", "offline"),
        ("offline", "online"),
    ], "what only refreshes is no event"
    rig.store_.forget("b")
    await rig.both({"a": "offline", "b": "deleted", "probe": "online"})
    seen: list[str] = []
    while "b DEL" not in seen:
        entry = await watcher.updates(5)
        if entry is not None:
            seen.append(f"{entry.key.split('.')[1]} {entry.operation or json.loads(entry.value)['state']}")
    assert "b asleep" in seen
    assert seen.index("b asleep") < seen.index("b DEL")
    await watcher.stop()
    markers = await rig.hub_api.message_on(STREAM, presence_subject(SITE, "b"))
    assert markers is not None
    assert markers.headers["Nats-TTL"], "it goes away by itself"


async def test_a_leaf_that_has_lost_its_memory_is_told_again(rig: PresenceRig) -> None:
    await rig.begin()
    states = {f"d{number}": ("online", "asleep", "overdue", "offline")[number % 4] for number in range(200)}
    for device, state in states.items():
        rig.tell(device, state)
    await rig.both(states)
    before = await rig.states(rig.api)
    assert rig.leaf.pid is not None
    restarts = rig.leaf.restarts_total
    rig.leaf._process.kill()  # type: ignore[union-attr]
    await until(lambda: rig.leaf.restarts_total > restarts, "the leaf's end is noticed")
    rig.tell("late", "online")  # while it is away, as it may be
    await rig.both(states | {"late": "online"})
    assert before.items() <= (await rig.states(rig.api)).items()
    info = await rig.api.stream_info(STREAM)
    assert info is not None
    assert info["config"]["storage"] == "memory"


async def test_a_cut_link_keeps_the_newest_of_each_device_for_the_hub(rig: PresenceRig) -> None:
    await rig.begin()
    rig.tell("a", "online")
    await rig.both({"a": "online"})
    rig.proxy.cut()
    await rig.linked(False)
    for number in range(3000):
        rig.tell(f"d{number % 30}", "online" if number % 2 else "asleep", number=number)
    rig.tell("a", "asleep")
    assert rig.store_.pending <= 31
    await until(lambda: rig.store_._leaf.pending == 0, "the leaf has them all the same")
    assert (await rig.states(rig.hub_api)) == {f"{SITE}.a": "online"}
    rig.proxy.restore()
    await rig.both({"a": "asleep"} | {f"d{number}": "online" if number % 2 else "asleep" for number in range(30)})
    newest = await rig.hub_api.message_on(STREAM, presence_subject(SITE, "d29"))
    assert newest is not None
    assert json.loads(newest.payload)["number"] == 2999
    info = await rig.hub_api.stream_info(STREAM)
    assert info is not None
    assert info["state"]["last_seq"] < 200, "and what was replaced meanwhile was not sent"


async def test_a_bucket_that_is_made_later_is_filled(rig: PresenceRig) -> None:
    await rig.start()
    await rig.linked()
    await rig.open_presence()
    rig.tell("a", "online")
    await until(lambda: rig.store_._leaf.pending == 0, "the leaf has it")
    await rig.make_bucket()
    rig.store_.hub_link_changed(True)
    await rig.both({"a": "online"})


async def test_a_site_without_a_hub_has_its_own_bucket(rig: PresenceRig) -> None:
    await rig.begin(with_hub=False)
    rig.tell("a", "online")
    await until(lambda: rig.store_.pending == 0, "written")
    assert await rig.states(rig.api) == {f"{SITE}.a": "online"}


async def test_a_site_writes_its_own_devices_and_removes_nobody_elses(rig: PresenceRig) -> None:
    await rig.begin()
    await rig.hub_connection.client.jetstream().publish("$KV.presence.site2.x", b'{"state":"online"}')
    client = rig.site_connection.client
    prefix = "$JS.hub.API."
    attacks: list[tuple[str, dict[str, str] | None]] = [
        (f"{prefix}$KV.presence.site2.x", None),
        (f"{prefix}$KV.presence.{SITE}x.x", None),
        (f"{prefix}STREAM.PURGE.{STREAM}", None),
        (f"{prefix}STREAM.MSG.DELETE.{STREAM}", None),
        (f"{prefix}STREAM.INFO.{STREAM}", None),
        (f"{prefix}DIRECT.GET.{STREAM}", None),
        (f"{prefix}DIRECT.GET.{STREAM}.$KV.presence.site2.x", None),
        (f"{prefix}$KV.presence.{SITE}.x", {"Nats-Rollup": "all"}),
        (f"{prefix}$KV.presence.{SITE}.x", {"Nats-Rollup": "sub"}),
    ]
    for subject, headers in attacks:
        await client.publish(subject, b"{}", headers=headers)
    rig.tell("last", "online")
    await until(lambda: rig.store_.pending == 0, "what came after them")
    await asyncio.sleep(0)
    assert await rig.states(rig.hub_api) == {"site2.x": "online", f"{SITE}.last": "online"}
