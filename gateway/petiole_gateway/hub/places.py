"""Which sessions a frame without an address may belong to: those that were heard where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .device import DeviceSession

# Sessions tried for a frame without an address: a current one, its provisional ones, and one device more on the cable.
MAX_AT_PLACE = 6

PlaceKey = tuple[str, object]  # link name, peer


class Places:
    """Sessions by the place where they were heard last, newest last. All calls cost the same at any number of them."""

    def __init__(self) -> None:
        self._sessions: dict[PlaceKey, list[DeviceSession]] = {}
        self._place_of: dict[DeviceSession, PlaceKey] = {}

    def at(self, key: PlaceKey) -> list[DeviceSession]:
        """The sessions of a place; a copy."""
        return list(self._sessions.get(key, ()))

    def settle(self, session: DeviceSession, key: PlaceKey) -> None:
        """The session is at this place now, and nowhere else. Of too many there, the oldest is forgotten."""
        self.forget(session)
        here = self._sessions.setdefault(key, [])
        if len(here) == MAX_AT_PLACE:
            del self._place_of[here.pop(0)]
        here.append(session)
        self._place_of[session] = key

    def forget(self, session: DeviceSession) -> None:
        """The session is nowhere."""
        key = self._place_of.pop(session, None)
        if key is None:
            return
        here = self._sessions[key]
        here.remove(session)
        if not here:
            del self._sessions[key]
