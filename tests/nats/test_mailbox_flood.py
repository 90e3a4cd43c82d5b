"""One program that sends without end: it fills its part of one box, is told so, and keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mailbox_rig import MailRig
from nats_rig import SITE, until

from petiole_gateway.hub import mailbox_states as states
from petiole_gateway.hub.mailbox import MAX_PER_DEVICE
from petiole_gateway.nats.mailbox_client import MailboxClient, Receipt
from petiole_gateway.nats.mailbox_errors import MailboxFullError
from petiole_gateway.nats.mailbox_streams import BOX_SIZE

FLOOD = 10_000
AT_ONCE = 100
HOUR_S = 3600.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[MailRig]:
    rig = MailRig(tmp_path)
    await rig.start_mail()
    yield rig
    await rig.stop()


class Flood:
    """Sends as fast as the server takes it; what was kept and what was refused."""

    def __init__(self, client: MailboxClient, device: str, with_keys: bool) -> None:
        self.kept: list[Receipt] = []
        self.refused: list[MailboxFullError] = []
        self._client = client
        self._device = device
        self._with_keys = with_keys
        self._numbers = iter(range(FLOOD))

    async def run(self) -> None:
        await asyncio.gather(*(self._send() for _ in range(AT_ONCE)))

    async def _send(self) -> None:
        for number in self._numbers:
            key = f"k{number}" if self._with_keys else None
            try:
                self.kept.append(
                    await self._client.send(
                        SITE, self._device, "x", number, expires_in_s=HOUR_S, key=key, id=f"f{number}"
                    )
                )
            except MailboxFullError as error:
                self.refused.append(error)


class Neighbour:
    """A command now and then for another device, which fetches it at once. `overtook`: how many ends of others waited
    to be told when it was sent, and how many were told until its own was."""

    def __init__(self, rig: MailRig) -> None:
        self.overtook: list[tuple[int, int]] = []
        self._rig = rig
        self._device = rig.device("neighbour")

    async def run(self, is_over: Callable[[], bool]) -> None:
        for number in itertools.count():
            if is_over() and number:
                return
            waiting, told = len(self._rig.store_.settlement), self._told
            receipt = await self._rig.at_hub.send(SITE, "neighbour", "x", number, expires_in_s=HOUR_S)
            await self._device.mail(1)
            assert self._device.wake() == [receipt.id]
            ended = await self._rig.at_hub.wait(receipt, timeout_s=60)
            assert (ended["state"], ended["value"]) == (states.DELIVERED, number)
            self.overtook.append((waiting, self._told - told))

    @property
    def _told(self) -> int:
        return self._rig.store_.metrics.ended_total - len(self._rig.store_.settlement)


@pytest.mark.parametrize("with_keys", [True, False], ids=["with ever new keys", "without a key"])
async def test_a_flood_fills_its_part_of_one_box_and_others_notice_nothing(rig: MailRig, with_keys: bool) -> None:
    mailbox, metrics = rig.store_.mailbox, rig.store_.metrics
    target = rig.device("target")
    mode = await rig.at_hub.send(SITE, "target", "mode", 0, expires_in_s=HOUR_S, key="mode", id="mode0")
    await target.mail(1)
    flood, neighbour = Flood(rig.at_hub, "target", with_keys), Neighbour(rig)
    flooding = asyncio.create_task(flood.run())

    def is_over() -> bool:
        dropped = metrics.ended.get(states.DROPPED, 0)
        return flooding.done() and len(rig.store_.settlement) == 0 and dropped >= len(flood.kept) - MAX_PER_DEVICE // 2

    told = asyncio.create_task(neighbour.run(is_over))
    for number in range(1, 6):  # the newest of a key takes the place of the one before, flood or not
        await rig.at_hub.send(SITE, "target", "mode", number, expires_in_s=HOUR_S, key="mode", id=f"mode{number}")
    await flooding
    await told
    assert (await rig.at_hub.wait(mode, timeout_s=60))["state"] == states.REPLACED

    # Whoever floods has his part, and is told of each of the others that it is not kept.
    assert len(flood.kept) + len(flood.refused) == FLOOD
    groups = Counter(item.group for item in mailbox.items("target"))
    flooded = groups["hub", None, with_keys] - with_keys  # beside `mode`
    if with_keys:
        assert flooded + 1 == MAX_PER_DEVICE // 2
        dropped = metrics.ended[states.DROPPED]
        assert dropped == FLOOD - flooded
        ended = await rig.at_hub.wait(flood.kept[-1], timeout_s=60)
        assert ended["state"] == states.DROPPED
        assert "places are kept for others" in ended["reason"]
    else:
        assert flooded == BOX_SIZE == len(flood.kept)
        assert all(error.hint for error in flood.refused)

    # Others have theirs: of the same device, with a name, from the site, with a key.
    named = [
        await rig.at_hub.send(SITE, "target", "x", n, expires_in_s=HOUR_S, sender="billing", id=f"b{n}")
        for n in range(3)
    ]
    local = await rig.at_site.send(SITE, "target", "x", 1, expires_in_s=HOUR_S, id="local")
    keyed = await rig.at_hub.send(SITE, "target", "x", 1, expires_in_s=HOUR_S, key="n", sender="billing", id="keyed")
    await until(lambda: mailbox.find("target", "keyed") is not None, "the key of a named sender")
    await until(lambda: mailbox.find("target", "local") is not None, "the item of a local sender")
    for receipt in [*named, local, keyed]:
        assert mailbox.find("target", receipt.id) is not None
    executed = target.wake()
    assert [id for id in executed if id.startswith("b")] == ["b0", "b1", "b2"]
    assert [id for id in executed if id.startswith("mode")] == ["mode5"]
    assert {"local", "keyed"} <= set(executed)
    if not with_keys:
        assert [id for id in executed if id.startswith("f")] == [receipt.id for receipt in in_order(flood.kept)]
    await rig.emptied("target")
    # Whoever waits for an end of his own does not wait for those of the flood that were there before.
    overtaken = [(waiting, settled) for waiting, settled in neighbour.overtook if waiting > 1000]
    assert bool(overtaken) == with_keys
    assert all(settled < waiting for waiting, settled in overtaken), overtaken


def in_order(kept: list[Receipt]) -> list[Receipt]:
    return sorted(kept, key=lambda receipt: receipt.sequence)


async def test_a_named_sender_has_a_box_of_its_own_at_the_server(rig: MailRig) -> None:
    for number in range(BOX_SIZE):
        await rig.at_hub.send(SITE, "d", "x", number, expires_in_s=HOUR_S, sender="loop")
    with pytest.raises(MailboxFullError):
        await rig.at_hub.send(SITE, "d", "x", 0, expires_in_s=HOUR_S, sender="loop")
    await rig.at_hub.send(SITE, "d", "x", 0, expires_in_s=HOUR_S, sender="other", id="o")
    await rig.at_hub.send(SITE, "d", "x", 0, expires_in_s=HOUR_S, id="unnamed")
    await rig.device("d").mail(BOX_SIZE + 2)
    found = {document["id"]: document.get("sender") for document in await rig.at_hub.items(SITE, "d")}
    assert (found["o"], found["unnamed"]) == ("other", None)


async def test_what_was_taken_has_its_place_after_a_restart_too(rig: MailRig) -> None:
    device = rig.device("d")
    for number in range(BOX_SIZE):
        await rig.at_hub.send(SITE, "d", "x", number, expires_in_s=HOUR_S, id=f"q{number}")
    for number in range(MAX_PER_DEVICE // 2 - 8):
        await rig.at_hub.send(SITE, "d", "x", number, expires_in_s=HOUR_S, key=f"k{number}", id=f"k{number}")
    await until(lambda: rig.store_.metrics.arrived_total == BOX_SIZE + MAX_PER_DEVICE // 2 - 8, "all have come")
    taken = {item.id for item in rig.store_.mailbox.items("d")}
    assert len(taken) == BOX_SIZE + (MAX_PER_DEVICE - BOX_SIZE) // 2  # of the others as many as they leave free
    await until(lambda: len(rig.store_.settlement) == 0 and not rig.store_._records.pending, "all is recorded")
    for item in device.fetch(10_000):  # records are written anew, and are read in another order
        assert item.id in taken
    device.sleep()
    await until(lambda: not rig.store_._records.pending, "the attempts are recorded")
    await rig.crash_mail()
    await rig.open_mail()
    assert {item.id for item in rig.store_.mailbox.items("d")} == taken
    assert all(json.loads(item.arguments) is not None for item in rig.store_.mailbox.items("d"))
