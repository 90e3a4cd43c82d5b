"""One device: its key, its sessions, what it has open. The hub owns all devices; this file owns the state of one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from petiole import join, wire
from petiole.gateway_session import GatewaySession

from ..aead import AesCcm
from .availability import ONLINE, ONLINE_MS, Presence
from .readings import Channels

if TYPE_CHECKING:
    import asyncio

    from petiole.items import Encoded, Request

    from .places import PlaceKey
    from .ports import Place
    from .uplinks import DeviceUplinks
    from .wake_policy import WakePolicy

# A stored session resumes above every counter it may have used: so many are reserved at once. One stored document for
# 256 frames is nothing beside the readings; a restart skips at most so many of 2**31.
RESERVE = 256
# A new reservation is stored when so few are left: what comes in the 0.5 s that a busy SD card takes.
RESERVE_AHEAD = 128
# While a device's numbers are being read from the store its frames wait; it has 8 in flight.
MAX_STASHED = 8
# A node that is carried between two links, or behind a router that changes its port, costs one write in so long.
PLACE_STORE_MS = 60_000


@dataclass(slots=True, eq=False)
class DeviceSession:
    """A session, what is stored of it, and what the node asks in it."""

    device: Device
    session: GatewaySession
    request: bytes
    nonce: bytes
    place: Place | None
    created_at: int
    boot: int = 0
    reset_reason: int = 0
    manifest_hash: bytes = b""
    accept: bytes = b""
    reserved_send: int = 0  # counters below it may be used; 0: nothing is stored that could be resumed
    reserved_receive: int = 0  # uplink counters up to it may be taken
    heard_counter: int = 0  # of an authentic frame that was beyond what was reserved
    is_storing: bool = False
    is_stored: bool = False
    stored_place: PlaceKey | None = None  # as written last, or read at the start
    place_stored_at: int | None = None
    is_new_outbox: bool = False  # the node had no memory of its numbers when it joined
    is_time_doubtful: bool = False  # so was the time that the node was told last
    is_heard: bool = True  # False: resumed, and where it is now is only presumed
    remembered_requests: deque[int] = field(default_factory=lambda: deque(maxlen=wire.REMEMBERED_REQUESTS))
    answering: set[asyncio.Task[None]] = field(default_factory=set)  # requests of the node that wait for their answer
    letters: dict[int, Encoded] = field(default_factory=dict)  # mail that is out, by number of the item
    # Whether the node listens (PROTOCOL.md, section 17). Times in ms of the hub's clock.
    is_listening: bool = False
    woke_at: int = 0
    is_leaving: bool = False  # it has said that it listens no more
    announced_ms: int | None = None  # until its next wake, where that is not its period
    policy_said: WakePolicy | None = None  # in this session
    policy_letter: Encoded | None = None  # that carries it, until it is acknowledged
    heard_period_ms: int = 0  # of the policy that it has heard; 0: that of its manifest

    def __post_init__(self) -> None:
        self.session.dropped = self.device.dropped  # what the session drops counts as the device's

    @property
    def address(self) -> int:
        return self.session.address

    @property
    def may_send(self) -> bool:
        """Whether the next counter may be used."""
        return not self.reserved_send or self.session.send_counter < self.reserved_send

    @property
    def place_key(self) -> PlaceKey | None:
        """Where the node was heard last: name of the link, and peer."""
        return (self.place.link.name, self.place.peer) if self.place else self.stored_place

    def has_unstored_place(self, now: int) -> bool:
        """Whether the node is somewhere else than what is stored says, and that may be written now."""
        if self.place_key == self.stored_place:
            return False
        return self.place_stored_at is None or now - self.place_stored_at >= PLACE_STORE_MS

    def document(self, send: int, receive: int) -> dict[str, Any]:
        """What is needed to go on after a restart, above these counters, and where the node was."""
        key = self.place_key
        return {
            "device": self.device.name,
            "request": self.request.hex(),
            "nonce": self.nonce.hex(),
            "address": self.address,
            "send": send,
            "receive": receive,
            "link": key[0] if key else "",
            "peer": key[1] if key else None,
            "addressed": self.session.is_addressed,
            "seen_at": self.device.last_seen_at,
            "boot": self.boot,
            "manifest_hash": self.manifest_hash.hex(),
            "told_sequence": self.device.told_sequence,
            "presence": self.device.presence.kept()
            if self.device.presence.heard_at is not None
            else self.device.kept_presence,
        }


def resumed(device: Device, document: dict[str, Any], now: int) -> DeviceSession:
    """A session from its document. Raises KeyError, ValueError or TypeError if that is damaged."""
    request, nonce = bytes.fromhex(document["request"]), bytes.fromhex(document["nonce"])
    keys, _ = join.session_keys(AesCcm, device.key, request, nonce, False, wire.TAG_LENGTH)
    address, send, receive = int(document["address"]), int(document["send"]), int(document["receive"])
    session = GatewaySession(keys, address, wire.WINDOW_DOWNLINK, now, send, receive)
    out = DeviceSession(device, session, request, nonce, None, now, boot=int(document["boot"]))
    out.manifest_hash = bytes.fromhex(document["manifest_hash"])
    out.reserved_send, out.reserved_receive = send, receive
    out.is_stored = True
    out.is_heard = False
    session.is_addressed = bool(document.get("addressed"))
    peer = document.get("peer")
    out.stored_place = (str(document.get("link", "")), tuple(peer) if isinstance(peer, list) else peer)
    # What this session may still bring goes up to 127 above it.
    device.told_sequence = int(document.get("told_sequence", 0))
    return out


def kept_presence(document: dict[str, Any]) -> dict[str, Any]:
    """What a session's document says of the device's presence, checked; empty if it says nothing that can be used."""
    kept = document.get("presence")
    if not isinstance(kept, dict) or not all(type(kept.get(name)) is int for name in ("sleep_ms", "rest_ms")):
        return {}
    return kept


@dataclass(slots=True)
class OpenRequest:
    """A request of ours that waits for the device's reply."""

    item: Request
    answered: asyncio.Future[Any]
    session: GatewaySession


@dataclass(slots=True, eq=False)
class Device:
    """`manifest` is the last one the device sent; `manifest_hash` its first 3 bytes of SHA-256."""

    name: str
    key: bytes
    uplinks: DeviceUplinks
    added_at: int = 0
    manifest: dict[str, Any] | None = None
    manifest_hash: bytes = b""
    boot_count: int = 0
    reset_reason: int = 0
    allow: list[str] | None = None
    channels: Channels = field(default_factory=lambda: Channels(None))
    current: DeviceSession | None = None
    provisional: list[DeviceSession] = field(default_factory=list)
    last_seen_at: int | None = None  # time, ms; of an earlier run as far as it is stored
    joined_at: int | None = None
    presence: Presence = field(default_factory=Presence)
    wake_policy: WakePolicy | None = None  # what is wanted of its wakes
    kept_presence: dict[str, Any] | None = None  # of an earlier run that had a session with it
    is_elsewhere: bool = False  # another gateway of the site has the device
    open_requests: list[OpenRequest] = field(default_factory=list)
    stashed: list[tuple[Place, bytes]] = field(default_factory=list)
    is_learning: bool = False  # its numbers are being read from the store
    asked_manifest_at: int | None = None
    told_sequence: int = 0  # in the last accept for a node without a memory of its numbers
    sequence_floor: int = 0  # after a restore: numbers up to it may be in use, whatever the store here has
    accepted_at: int = 0  # after a restore: the highest time of an accept before
    joins: deque[int] = field(default_factory=lambda: deque(maxlen=4))
    dropped: dict[str, int] = field(default_factory=dict)
    frames_total: int = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def id(self) -> bytes:
        return join.device_id(self.key)

    def count_drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    @property
    def has_unstored_presence(self) -> bool:
        """Whether the device is known to be in another state than an earlier run has stored."""
        return self.presence.heard_at is not None and self.presence.state != (self.kept_presence or {}).get("state")

    def knows_manifest(self, digest: bytes) -> bool:
        """Whether the manifest of this hash is here; else names of channels are not known yet."""
        return self.manifest is not None and self.manifest_hash == digest

    @property
    def is_sleepy(self) -> bool:
        """Whether the device sleeps by itself, as its manifest says."""
        return bool(self.channels.power[:1] == [1])

    @property
    def period_ms(self) -> int:
        """Of a device that sleeps; 0: unknown."""
        if self.current is not None and self.current.heard_period_ms:
            return self.current.heard_period_ms
        return 1000 * self.channels.power[1] if len(self.channels.power) > 1 else 0

    def state(self, now: int) -> str:
        """online, asleep, overdue (it missed a wake) or offline, from authentic frames only."""
        return self.presence.judge(now)[0]

    def is_listening(self, now: int) -> bool:
        """Whether a frame that is sent now will be heard, as far as one can know."""
        entry = self.current
        if entry is None or not entry.is_heard:
            return False
        return entry.is_listening and (self.is_sleepy or now - entry.session.opened_at <= ONLINE_MS)

    def may_be_reached(self, now: int) -> bool:
        """Whether a command is worth a frame: the device is online, or the gateway has started anew and cannot know."""
        entry = self.current
        if entry is None:
            return False
        if entry.is_heard or self.presence.asleep_since is not None:
            return self.state(now) == ONLINE or self.is_listening(now)
        return entry.place is not None and now - entry.created_at <= ONLINE_MS

    def document(self) -> dict[str, Any]:
        """What the registry keeps."""
        return {
            "name": self.name,
            "key": self.key.hex(),
            "added_at": self.added_at,
            "boot_count": self.boot_count,
            "reset_reason": self.reset_reason,
            "manifest_hash": self.manifest_hash.hex(),
            "manifest": self.manifest,
            "allow": self.allow,
            **({"sequence_floor": self.sequence_floor, "accepted_at": self.accepted_at} if self.sequence_floor else {}),
        }
