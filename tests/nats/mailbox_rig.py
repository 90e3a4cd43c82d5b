"""Two sites on one hub, with mailboxes: the first behind a proxy, the second allowed to send to the first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats_rig import FAST_LINK, SITE, Rig, until

from petiole_gateway.hub.mailbox_item import Item
from petiole_gateway.hub.mailbox_states import FINAL
from petiole_gateway.nats.api import Document
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.listing import read_stream
from petiole_gateway.nats.mailbox_client import MailboxClient
from petiole_gateway.nats.mailbox_store import MailboxStore
from petiole_gateway.nats.mailbox_streams import ensure_hub_mailbox
from petiole_gateway.nats.subjects import document_subject, mail_stream, site_inbox

OTHER = "site2"
# No test waits for it: what is noticed only by the regular look is not noticed.
NEVER_S = 3600.0


class Device:
    """Fetches mail as a sleepy device does, and remembers what it was given."""

    def __init__(self, name: str, store: Callable[[], MailboxStore]) -> None:
        self.name = name
        self.given: list[str] = []
        self._store = store

    @property
    def store(self) -> MailboxStore:
        return self._store()

    def fetch(self, room: int = 200) -> list[Item]:
        items = self.store.take(self.name, room, lambda item: 10 + len(item.arguments))
        self.given += [item.id for item in items]
        return items

    def answer(self, item: Item, status: int = 0, value: Any = None) -> None:
        self.store.result(self.name, item.number, status, value)

    def sleep(self) -> None:
        self.store.stopped(self.name)

    def wake(self) -> list[str]:
        """Fetch and execute everything."""
        done: list[str] = []
        while items := self.fetch():
            for item in items:
                self.answer(item, 0, json.loads(item.arguments))
                done.append(item.id)
        self.sleep()
        return done

    async def mail(self, count: int) -> float:
        """Wait until so many items are pending."""
        return await until(lambda: self.store.waiting(self.name) == count, f"{count} items for {self.name}")


class MailRig(Rig):
    """`store` is the gateway's, at the first site."""

    store_: MailboxStore

    def __init__(self, folder: Path, *, hub_size: int = 1) -> None:
        super().__init__(folder, hub_size=hub_size)
        self.other: LeafServer
        self.announced: list[str] = []
        self.known: Callable[[str], bool] = lambda device: True
        self._connections: list[Connection] = []

    async def start_mail(self, *, with_hub: bool = True, other: bool = False) -> None:
        await self.start(with_hub=with_hub, on_link=self._link_changed)
        if with_hub:
            await self.make_boxes()
            await self.linked()
        if other:
            await self.start_other()
        await self.open_mail(with_hub=with_hub)

    async def make_boxes(self) -> None:
        async def made() -> bool:
            await ensure_hub_mailbox(self.hub_api, [SITE, OTHER], replicas=len(self.hub.servers))
            return True

        await until(made, "the hub's streams of mail")

    async def start_other(self) -> None:
        self.other = LeafServer(
            OTHER,
            self.folder / OTHER,
            hub_urls=self.hub.leaf_urls,
            hub_credentials=self.hub.mint_site(OTHER, sends_to=[SITE]),
            settings=FAST_LINK,
        )
        await self.other.start()
        await until(lambda: self.other.link_up, "link of the other leaf")

    def _is_known(self, device: str) -> bool:
        return self.known(device)

    def _link_changed(self, up: bool) -> None:
        if hasattr(self, "store_"):
            self.store_.hub_link_changed(up)

    async def open_mail(self, *, with_hub: bool = True) -> MailboxStore:
        """A gateway's store; the one before must be closed or crashed."""
        self.announced.clear()
        self.store_ = MailboxStore(
            await self.connect_leaf(),
            site=SITE,
            logger=self.logger,
            with_hub=with_hub,
            is_known=self._is_known,
            on_mail=self.announced.append,
            check_s=NEVER_S,
        )
        await self.store_.start()
        return self.store_

    async def crash_mail(self) -> None:
        """End the store as kill -9 of the gateway would: nothing more is written."""
        store = self.store_
        for task in store._tasks:
            task.cancel()
        await store._connection.close()
        await store.stop()

    def device(self, name: str) -> Device:
        return Device(name, lambda: self.store_)

    async def connect_leaf(self) -> Connection:
        return await self.connect_to(self.leaf, SITE)

    async def connect_to(self, leaf: LeafServer, site: str) -> Connection:
        access = leaf.access
        connection = await connect(
            access.url, logger=self.logger, user=access.user, password=access.password, inbox_prefix=site_inbox(site)
        )
        self._connections.append(connection)
        return connection

    # Senders -----------------------------------------------------------------------------------------------

    @property
    def at_hub(self) -> MailboxClient:
        return MailboxClient(self.hub_connection)

    @property
    def at_site(self) -> MailboxClient:
        return MailboxClient(self.connection)

    async def at_other(self) -> MailboxClient:
        return MailboxClient(await self.connect_to(self.other, OTHER))

    async def boxed(self, stream: str = mail_stream(SITE), *, at_leaf: bool = False, device: str = "*") -> int:
        """Messages that a stream of mail holds for a device."""
        api = self.api if at_leaf else self.hub_api
        purpose = "out" if at_leaf else "down"
        info = await api.stream_info(stream, subjects_filter=f"{purpose}.{SITE}.{device}.>")
        assert info is not None
        return sum((info["state"].get("subjects") or {}).values())

    async def records(self) -> list[Document]:
        """What the leaf's bucket says of each item."""
        found: list[Document] = []
        client, subjects = self.api.client, document_subject(SITE, ">")
        await read_stream(client, self.api, "KV_mailbox", subjects, 1, lambda m: found.append(json.loads(m.payload)))
        return found

    async def emptied(self, device: str) -> float:
        async def empty() -> bool:
            return await self.boxed(device=device) == 0 and await self.boxed("OUT", at_leaf=True, device=device) == 0

        return await until(empty, f"no item of {device} is left in a stream")

    async def listen(self, connection: Connection, subject: str) -> Heard:
        heard = Heard()
        await connection.client.subscribe(subject, cb=heard.take)
        await connection.client.flush()
        return heard

    async def cut(self) -> None:
        self.proxy.cut()
        await self.linked(False)
        await until(lambda: not self.store_.is_hub_reached, "the gateway knows that the link is down")

    async def restore(self) -> float:
        self.proxy.restore()
        return await until(lambda: self.store_.is_hub_reached, "the gateway has read the hub's box")

    async def stop(self) -> None:
        if hasattr(self, "store_"):
            await self.store_.stop()
        for connection in self._connections:
            await connection.close()
        if hasattr(self, "other"):
            await self.other.stop()
        await super().stop()


class Heard:
    """Documents that came on a subject."""

    def __init__(self) -> None:
        self.documents: list[Document] = []

    async def take(self, message: Msg) -> None:
        self.documents.append(json.loads(message.data))

    def states(self, id: str) -> list[str]:
        return [each["state"] for each in self.documents if each["id"] == id]

    async def end(self, id: str) -> Document:
        await until(lambda: any(state in FINAL for state in self.states(id)), f"the end of {id}")
        return next(each for each in self.documents if each["id"] == id and each["state"] in FINAL)
