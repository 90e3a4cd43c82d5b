"""What a hub tells of its devices: changes, refreshed now and then, and over a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from petiole_gateway.hub.availability import ONLINE_MS

from .memory import MemoryLink, Site, until, with_site

MINUTE_S = 60


class Told:
    """Implements `hub.ports.Presences`."""

    def __init__(self) -> None:
        self.documents: list[tuple[dict[str, Any], str]] = []
        self.forgotten: list[str] = []

    def tell(self, device: str, document: dict[str, Any], was: str) -> None:
        assert document["device"] == device
        self.documents.append((document, was))

    def forget(self, device: str) -> None:
        self.forgotten.append(device)

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(was, document["state"]) for document, was in self.documents if was != document["state"]]

    @property
    def last(self) -> dict[str, Any]:
        return self.documents[-1][0]


async def with_told(site: Site) -> Told:
    told = Told()
    site.options["presences"] = told
    await site.restart()
    return told


@with_site
async def test_a_change_is_told_with_all_that_is_known(site: Site) -> None:
    told = await with_told(site)
    node = await site.node("a", MemoryLink("here"))
    assert told.changes == [("offline", "online")]
    await until(lambda: told.last["firmware"] == "1.2.3")
    assert told.last["link"] == "here"
    assert told.last["next_wake_at"] is None
    node.endpoint.sleep(600)
    node.pump()
    node.off()
    await asyncio.sleep(0.1)
    assert told.changes[-1] == ("online", "asleep")
    assert told.last["period_s"] == 600
    assert told.last["last_seen_at"] < told.last["next_wake_at"]
    await site.hub.remove_device("a")
    assert told.forgotten == ["a"]
    count = len(told.documents)
    await asyncio.sleep(3600)
    assert len(told.documents) == count, "nothing is told of what is not there"


@with_site
async def test_a_device_that_is_there_costs_a_document_in_a_quarter_of_an_hour(site: Site) -> None:
    told = await with_told(site)
    node = await site.node("a", MemoryLink())
    await asyncio.sleep(1)
    told.documents.clear()
    for _ in range(60 * 6):
        node.publish(1)
        await asyncio.sleep(10)
    assert told.changes == []
    assert len(told.documents) == 3, "an hour with a reading every ten seconds; the fourth is due now"


@pytest.mark.parametrize("is_orderly", [True, False])
@with_site
async def test_a_restart_takes_a_sleeper_for_asleep_until_it_misses_a_wake(site: Site, is_orderly: bool) -> None:
    told = await with_told(site)
    node = await site.node("a", MemoryLink())
    node.endpoint.sleep(600)
    node.pump()
    node.off()
    await asyncio.sleep(300)
    if not is_orderly:  # what is stored on the way may be old; here it is as old as the sleep
        entry = site.hub.device("a").current
        assert entry is not None
        await site.hub.roster.store_session(entry, entry.reserved_send, entry.reserved_receive)
    promised = told.last["next_wake_at"]
    told.documents.clear()
    await (site.restart() if is_orderly else site.crash())
    assert told.changes == []
    assert told.last["state"] == "asleep"
    assert told.last["next_wake_at"] == promised
    for seconds, state in ((360, "asleep"), (60, "overdue"), (1140, "overdue"), (60, "offline")):
        await asyncio.sleep(seconds)
        assert site.hub.state(site.hub.device("a")) == state
    assert told.changes == [("asleep", "overdue"), ("overdue", "offline")]
    await site.restart()
    assert told.last["state"] == "offline", "what was given up is not hoped for again"


@with_site
async def test_of_a_device_that_was_awake_nothing_is_told_before_it_could_speak(site: Site) -> None:
    told = await with_told(site)
    for name in ("here", "gone"):
        await site.node(name, MemoryLink(name))
    site.nodes[1].off()
    await asyncio.sleep(1)
    told.documents.clear()
    await site.restart()
    await asyncio.sleep(ONLINE_MS / 1000 - 1)
    assert [(document["device"], document["state"]) for document, _ in told.documents] == [("here", "online")]
    await asyncio.sleep(2)
    assert told.last["device"] == "gone"
    assert told.last["state"] == "offline"


@with_site
async def test_a_device_that_has_moved_is_the_other_gateways_to_tell(site: Site) -> None:
    told = await with_told(site)
    node = await site.node("a", MemoryLink())
    node.off()
    told.documents.clear()
    await site.hub.neighbours.hear("held", "a")
    await asyncio.sleep(3600)
    assert told.documents == []
