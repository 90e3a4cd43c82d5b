"""All devices and sessions of a gateway, and how a frame finds its session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from petiole import join, wire
from petiole.errors import LocalError
from petiole.manifest import is_token

from .device import Device, DeviceSession, kept_presence, resumed
from .places import Places
from .ports import Busy, CommandError, Link, Logger, Place, Records
from .readings import Channels
from .unreadable import Unreadable
from .uplinks import DeviceUplinks, Taken

if TYPE_CHECKING:
    from collections.abc import Callable

# What a document that is not as this version writes it can raise.
DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, LocalError)
# Below 128 an address takes one byte; larger sites use the two-byte ones.
SHORT_ADDRESSES = 100
ACCEPT_TIME_BYTES = 6  # of the nonce of a join accept


class Roster:
    """`submit(device, sequence, taken)` hands a reading to the store. `owner`: this gateway's name in stored sessions;
    those of other gateways of the site are left alone."""

    def __init__(
        self,
        registry: Records,
        sessions: Records,
        submit: Callable[[str, int, Taken], None],
        unreadable: Unreadable,
        logger: Logger,
        owner: str = "",
    ) -> None:
        self.devices: dict[str, Device] = {}
        self.by_address: dict[int, DeviceSession] = {}
        self._by_id: dict[bytes, list[Device]] = {}
        self._places = Places()
        self.last_accept_time = 0  # ms since 1970, of the newest accept that is stored
        self.has_lost_sessions = False  # stored ones were thrown away
        self.unreadable = unreadable
        self._damaged: set[str] = set()  # devices whose documents cannot be read
        self._registry = registry
        self._sessions = sessions
        self._submit = submit
        self._logger = logger
        self._owner = owner
        self._last_address = 0
        self.on_end: Callable[[DeviceSession], None] = lambda session: None  # a session has ended

    # Devices -----------------------------------------------------------------------------------------------

    async def load(self, now: int, with_sessions: bool) -> None:
        """Read the registry. Without sessions (their counters may have been rolled back) every node joins anew."""
        for name, document in (await self._registry.items()).items():
            self.refresh(name, document)
        for name, reason in self._registry.unreadable.items():
            self._pass_over(name, reason)
        self.last_accept_time = max((device.accepted_at for device in self.devices.values()), default=0)
        self.has_lost_sessions = not with_sessions and bool(self.devices)
        for name, document in (await self._sessions.items()).items():
            device = self.devices.get(name)
            try:
                time = int.from_bytes(bytes.fromhex(document["nonce"])[:ACCEPT_TIME_BYTES], "big")
                self.last_accept_time = max(self.last_accept_time, time)
                if document.get("gateway", "") != self._owner:
                    if device is not None:
                        device.is_elsewhere = True
                    continue  # going on with it here would use its counters twice
                if device is not None:
                    device.kept_presence = kept_presence(document)
                    seen_at = document.get("seen_at")
                    device.last_seen_at = seen_at if isinstance(seen_at, int) else None
                if device is not None and with_sessions:
                    self._resume(resumed(device, document, now))
                    continue
            except DAMAGE as error:
                self.unreadable.count("sessions", name, repr(error))
            if name not in self._damaged:
                await self._sessions.delete(name)
        for name, reason in self._sessions.unreadable.items():
            self.unreadable.count("sessions", name, reason)  # its next join writes a new one

    def _resume(self, session: DeviceSession) -> None:
        device = session.device
        device.current = session
        device.uplinks.is_open = device.knows_manifest(session.manifest_hash)
        self.by_address[session.address] = session
        if session.stored_place is not None:
            self._places.settle(session, session.stored_place)

    async def add(self, name: str, key: bytes, added_at: int) -> Device:
        """Register a device. CommandError 400 for a bad name, 409 for a taken one."""
        if not is_token(name):
            raise CommandError(400, f"the name {name!r} is not 1 to 32 of A-Z a-z 0-9 _ -")
        if name in self.devices:
            raise CommandError(409, f"the name {name} is taken")
        if any(device.key == key for device in self._by_id.get(join.device_id(key), ())):
            raise CommandError(409, "another device has this key")
        device = self._device({"name": name, "key": key.hex(), "added_at": added_at})
        self._insert(device)
        try:
            await self._registry.put(name, device.document())
        except BaseException:
            self._withdraw(device)
            raise
        return device

    async def remove(self, device: Device) -> None:
        """Forget a device: from this call on its key opens nothing. Busy: it is still registered."""
        self._withdraw(device)
        try:
            await self._registry.delete(device.name)
        except Busy:
            if device.name not in self.devices:
                self._insert(device)
            raise
        try:
            await self._sessions.delete(device.name)
        except Busy as busy:
            # A session without its device is thrown away at the next start.
            self._logger.warning("session_not_deleted", device=device.name, reason=busy.reason)

    def refresh(self, name: str, document: dict[str, Any] | None) -> None:
        """Another gateway of the site has added the device, or removed it (None)."""
        device = self.devices.get(name)
        if document is None and device is not None:
            self._withdraw(device)
        elif document is not None and device is None:
            try:
                self._insert(self._device(document))
            except DAMAGE as error:
                self._pass_over(name, repr(error))

    def _pass_over(self, name: str, reason: str) -> None:
        """A device that cannot be read is unknown, but what else is stored of it is kept: somebody may mend it."""
        self._damaged.add(name)
        self.unreadable.count("devices", name, reason)

    def is_damaged(self, name: str) -> bool:
        """Whether there is a device of this name that cannot be read."""
        return name in self._damaged

    async def store(self, device: Device) -> None:
        """Write what the registry keeps of a device, unless it was removed."""
        if self.devices.get(device.name) is device:
            await self._registry.put(device.name, device.document())

    def with_id(self, device_id: bytes) -> list[Device]:
        """Devices that a join request may come from."""
        return self._by_id.get(device_id, [])

    def _device(self, document: dict[str, Any]) -> Device:
        name, key = document["name"], bytes.fromhex(document["key"])
        join.check_key(key)
        uplinks = DeviceUplinks(lambda sequence, taken: self._submit(name, sequence, taken))
        device = Device(name, key, uplinks, added_at=document.get("added_at", 0))
        device.boot_count = document.get("boot_count", 0)
        device.reset_reason = document.get("reset_reason", 0)
        device.manifest = document.get("manifest")
        device.manifest_hash = bytes.fromhex(document.get("manifest_hash", ""))
        device.channels = Channels(device.manifest)
        device.allow = document.get("allow")
        device.sequence_floor = int(document.get("sequence_floor", 0))
        device.accepted_at = int(document.get("accepted_at", 0))
        return device

    def _insert(self, device: Device) -> None:
        self.devices[device.name] = device
        self._damaged.discard(device.name)
        self._by_id.setdefault(device.id, []).append(device)

    def _withdraw(self, device: Device) -> None:
        del self.devices[device.name]
        self._by_id[device.id].remove(device)
        for session in [device.current, *device.provisional]:
            if session is not None:
                self.end(session)

    # Sessions ----------------------------------------------------------------------------------------------

    def free_address(self) -> int:
        """An address that no session has. CommandError 503 when all are taken."""
        top = 127 if len(self.by_address) < SHORT_ADDRESSES else wire.MAX_ADDRESS
        for step in range(1, top + 1):
            address = (self._last_address + step - 1) % top + 1
            if address not in self.by_address:
                self._last_address = address
                return address
        raise CommandError(503, "all session addresses are taken")

    def begin(self, session: DeviceSession) -> None:
        """A provisional session exists. Of too many for its device the oldest ends."""
        device = session.device
        while len(device.provisional) >= wire.MAX_PROVISIONAL:
            self.end(device.provisional[0])
        device.provisional.append(session)
        self.by_address[session.address] = session
        self._settle(session)

    def promote(self, session: DeviceSession) -> DeviceSession | None:
        """A provisional session has become the current one. Returns the one that ended."""
        device = session.device
        old = device.current
        device.provisional.remove(session)
        if old is not None:
            self.end(old)
        for other in list(device.provisional):
            self.end(other)
        device.current = session
        device.presence.awake_until = 0  # whoever joins may have forgotten what it was asked
        if session.is_new_outbox:
            device.uplinks.begin_outbox()
        return old

    def end(self, session: DeviceSession) -> None:
        """The session opens nothing any more, and nobody waits for answers in it."""
        device = session.device
        if self.by_address.get(session.address) is session:
            del self.by_address[session.address]
        self._places.forget(session)
        for task in session.answering:
            task.cancel()
        if session in device.provisional:
            device.provisional.remove(session)
        if device.current is session:
            device.current = None
        self.on_end(session)

    def move(self, session: DeviceSession, place: Place) -> None:
        """The node of this session was heard at a place, with a frame that opened."""
        if session.place != place:
            session.place = place
            self._settle(session)

    def presume(self, session: DeviceSession, find_link: Callable[[str], Link | None]) -> None:
        """A session that was resumed is looked for where it was heard last, until it is heard."""
        if session.place is None and session.stored_place is not None:
            name, peer = session.stored_place
            link = find_link(name)
            if link is not None:
                session.place = Place(link, peer)

    def _settle(self, session: DeviceSession) -> None:
        if session.place is not None:
            self._places.settle(session, (session.place.link.name, session.place.peer))

    def name_at(self, link: str) -> str | None:
        """The device that was last heard on a link with one node."""
        here = self._places.at((link, None))
        return here[-1].device.name if here else None

    def candidates(self, address: int | None, place: Place) -> Iterator[DeviceSession]:
        """Sessions whose frame this may be."""
        if address is None:
            yield from self._places.at((place.link.name, place.peer))
        elif address in self.by_address:
            yield self.by_address[address]

    async def store_session(self, session: DeviceSession, send: int, receive: int) -> None:
        """Write that the session may use counters below `send` and may have taken uplinks up to `receive`, unless it
        has ended."""
        if session.device.current is session:
            await self._sessions.put(session.device.name, session.document(send, receive) | {"gateway": self._owner})
