"""All devices and sessions of a gateway, and how a frame finds its session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from petiole import join, wire
from petiole.manifest import is_token

from .device import Device, DeviceSession, resumed
from .ports import CommandError, Logger, Place, Records
from .readings import Channels
from .uplinks import DeviceUplinks, Taken

if TYPE_CHECKING:
    from collections.abc import Callable

# Below 128 an address takes one byte; larger sites use the two-byte ones.
SHORT_ADDRESSES = 100
# Sessions tried for a frame without an address: a current one, its provisional ones, and one device more on the cable.
MAX_AT_PLACE = 6


class Roster:
    """`submit(device, sequence, taken)` hands a reading to the store."""

    def __init__(
        self, registry: Records, sessions: Records, submit: Callable[[str, int, Taken], None], logger: Logger
    ) -> None:
        self.devices: dict[str, Device] = {}
        self.by_address: dict[int, DeviceSession] = {}
        self._by_id: dict[bytes, list[Device]] = {}
        self._at_place: dict[tuple[str, object], list[DeviceSession]] = {}
        self._registry = registry
        self._sessions = sessions
        self._submit = submit
        self._logger = logger
        self._last_address = 0

    # Devices -----------------------------------------------------------------------------------------------

    async def load(self, now: int, with_sessions: bool) -> None:
        """Read the registry. Without sessions (their counters may have been rolled back) every node joins anew."""
        for name, document in (await self._registry.items()).items():
            try:
                self._insert(self._device(document))
            except (KeyError, ValueError, TypeError) as error:
                self._logger.error("device_unreadable", device=name, error=repr(error))
        for name, document in (await self._sessions.items()).items():
            device = self.devices.get(name)
            if device is None or not with_sessions:
                await self._sessions.delete(name)
                continue
            try:
                session = resumed(device, document, now)
            except (KeyError, ValueError, TypeError) as error:
                self._logger.error("session_unreadable", device=name, error=repr(error))
                continue
            device.current = session
            device.uplinks.is_open = device.manifest is not None
            self.by_address[session.address] = session
            self._at_place.setdefault((document.get("link", ""), None), []).append(session)

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
        """Forget a device: its key opens nothing from now on."""
        await self._registry.delete(device.name)
        await self._sessions.delete(device.name)
        self._withdraw(device)

    async def store(self, device: Device) -> None:
        """Write what the registry keeps of a device."""
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
        return device

    def _insert(self, device: Device) -> None:
        self.devices[device.name] = device
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
        return old

    def end(self, session: DeviceSession) -> None:
        """The session opens nothing any more."""
        device = session.device
        if self.by_address.get(session.address) is session:
            del self.by_address[session.address]
        for sessions in self._at_place.values():
            if session in sessions:
                sessions.remove(session)
        if session in device.provisional:
            device.provisional.remove(session)
        if device.current is session:
            device.current = None

    def move(self, session: DeviceSession, place: Place) -> None:
        """The node of this session was heard at a place, with a frame that opened."""
        if session.place != place:
            for key, sessions in list(self._at_place.items()):
                if session in sessions:
                    sessions.remove(session)
                    if not sessions:
                        del self._at_place[key]
            session.place = place
            self._settle(session)

    def _settle(self, session: DeviceSession) -> None:
        if session.place is not None:
            here = self._at_place.setdefault((session.place.link.name, session.place.peer), [])
            here.append(session)
            del here[:-MAX_AT_PLACE]

    def name_at(self, link: str) -> str | None:
        """The device that was last heard on a link with one node."""
        here = self._at_place.get((link, None))
        return here[-1].device.name if here else None

    def candidates(self, address: int | None, place: Place) -> Iterator[DeviceSession]:
        """Sessions whose frame this may be."""
        if address is None:
            yield from list(self._at_place.get((place.link.name, place.peer), ()))
        elif address in self.by_address:
            yield self.by_address[address]

    async def store_session(self, session: DeviceSession, send: int, receive: int) -> None:
        """Write that the session may use counters below `send` and may have opened uplinks up to `receive`."""
        await self._sessions.put(session.device.name, session.document(send, receive))
