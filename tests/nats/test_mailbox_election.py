"""Mail that is sent while the hub's three servers have no leader for it: by a program, and by the commands."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mailbox_rig import MailRig
from nats_rig import SITE, until

from petiole_gateway.nats.api import Document
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.errors import LinkError
from petiole_gateway.nats.mailbox_client import MailboxClient
from petiole_gateway.nats.mailbox_errors import NoLeaderError, UnconfirmedError
from petiole_gateway.nats.mailbox_items import Mail
from petiole_gateway.nats.monitor import fetch_json
from petiole_gateway.nats.subjects import mail_stream
from petiole_tools import mailbox, requests
from petiole_tools.options import Options

HOUR_S = 3600.0
DEVICE = "kiln"


class Hub(MailRig):
    """Three hub servers with a site's box, and nobody else."""

    async def leader(self) -> int:
        """Index of the server that leads the stream of the site's mail."""
        found = -1

        async def led() -> bool:
            nonlocal found
            info = await self.hub_api.stream_info(mail_stream(SITE))
            name = ((info or {}).get("cluster") or {}).get("leader")
            names = [server.name for server in self.hub.servers]
            found = names.index(name) if name in names else -1
            return found >= 0

        await until(led, "a leader of the site's mail")
        return found

    async def left_alone(self, index: int) -> None:
        """Kill the others; return when this server knows."""
        for other in range(3):
            if other != index:
                await self.hub.kill(other)
        server = self.hub.servers[index]

        async def knows() -> bool:
            return (await fetch_json(server.host, server.monitor_port, "/routez"))["num_routes"] == 0

        await until(knows, "the server that is left has lost its routes")

    async def at(self, index: int) -> Connection:
        connection = await connect(
            self.hub.urls[index], logger=self.logger, credentials=self.hub.application_credentials
        )
        self._connections.append(connection)
        return connection

    def options(self, index: int) -> Options:
        """Of a command that asks this server."""
        return Options(server=self.hub.urls[index], credentials=self.hub.application_credentials, site=SITE)


class Sender(MailboxClient):
    """Remembers what it was refused while it tried."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.refusals: list[LinkError] = []

    async def _store_once(self, site: str, device: str, mail: Mail) -> Document:
        try:
            return await super()._store_once(site, device, mail)
        except LinkError as error:
            self.refusals.append(error)
            raise


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, hub_size=3)
    try:
        await hub.start_hub()
        await hub.make_boxes()
        yield hub
    finally:
        await hub.stop()


async def test_what_is_sent_while_the_hub_elects_a_leader_is_taken_once(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = await hub.leader()
    survivor = (killed + 1) % 3
    sender = Sender(await hub.at(survivor))
    await hub.hub.kill(killed)
    requested = asyncio.create_task(
        requests.request(hub.options(survivor), DEVICE, "identify", ["3"], patience="5s", wait="1h")
    )
    receipt, _ = await asyncio.gather(
        sender.send(SITE, DEVICE, "identify", [1], expires_in_s=HOUR_S),
        mailbox.send(hub.options(survivor), DEVICE, "identify", ["2"], "1h", None, 5, None),
    )
    assert sender.refusals, "nobody could take it at first"

    async def has_all() -> bool:
        return len(await sender.items(SITE, DEVICE)) >= 3

    await until(has_all, "what was requested is queued, too")
    requested.cancel()
    await asyncio.gather(requested, return_exceptions=True)
    said = capsys.readouterr()
    assert f"queued for {DEVICE} as" in said.out
    assert f"no gateway of site {SITE} answers now; queued as" in said.err
    items = await sender.items(SITE, DEVICE)
    assert [item["state"] for item in items] == ["queued"] * 3
    assert receipt.id in {item["id"] for item in items}
    again = await sender.send(SITE, DEVICE, "identify", [1], expires_in_s=HOUR_S, id=receipt.id)
    assert again.is_duplicate
    assert again.sequence == receipt.sequence


async def test_a_hub_without_a_majority_refuses_mail_and_says_what_it_takes(hub: Hub) -> None:
    left = (await hub.leader() + 1) % 3
    sender = Sender(await hub.at(left))
    await hub.left_alone(left)
    options = hub.options(left)
    command = [sys.executable, "-m", "petiole_tools", "--server", str(options.server), "--site", SITE]
    command += ["--creds", str(options.credentials), "send", DEVICE, "identify"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    with pytest.raises(NoLeaderError):
        await sender.send(SITE, DEVICE, "identify", expires_in_s=HOUR_S)
    assert len(sender.refusals) > 1, "it was tried again"
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().splitlines() == [
        f"error: the hub keeps no mail for site {SITE} now: its stream has no leader",
        "hint: two of three hub servers must run and reach each other: `petiole status` names those that are away",
    ]


async def test_a_leader_that_is_left_alone_is_not_said_to_have_refused_what_it_may_keep_later(hub: Hub) -> None:
    left = await hub.leader()
    sender = Sender(await hub.at(left))
    await hub.left_alone(left)
    with pytest.raises(UnconfirmedError) as caught:
        await sender.send(SITE, DEVICE, "identify", expires_in_s=HOUR_S, id="early")
    assert f"`petiole mailbox {DEVICE}`" in caught.value.hint
    for other in range(3):
        if other != left:
            await hub.hub.restart(other)
    await hub.leader()
    receipt = await sender.send(SITE, DEVICE, "identify", expires_in_s=HOUR_S, id="early")
    assert receipt.id == "early"
    kept: list[str] = []

    async def is_shown() -> bool:
        # A server that has just come back may be asked, and may not have all yet.
        kept[:] = [item["id"] for item in await sender.items(SITE, DEVICE)]
        return bool(kept)

    await until(is_shown, "what was taken is shown")
    assert kept == ["early"], "kept then or now, it is kept once"
