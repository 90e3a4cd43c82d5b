"""What a backup takes from a leaf, and how it comes back to an empty one.

Devices with their keys and manifests, the last stored sequence number of each, and the highest time of an accept. Not
sessions: their counters would be those of the backup, and every one used since would be used again. Without a session a
node joins anew with its next frame, and a join has no counter to lose. Readings are the hub's, or lost with the disk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from .api import Document, JetStreamApi
from .errors import LinkError, LocalError
from .sealed_bucket import SealedBucket
from .subjects import UPLINK_STREAM, is_token, uplink_filter
from .uplink_eviction import ensure_snapshots, snapshot_subject, stored_last, stored_sequence

# What a device without a memory of its numbers may have published since the backup: a reading a second for half a
# year. It takes 1/256 of the numbers there are. Others bring their own numbers along.
SEQUENCE_MARGIN = 1 << 24
_AT_ONCE = 64


class OtherDevicesError(LocalError):
    """The gateway has devices that the backup has not."""

    hint = "restore to a new gateway; --state-dir names another place for its state"

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"there are {len(names)} other devices already, such as {names[0]}")
        self.names = names


class DamagedRegistryError(LocalError):
    """A backup would silently miss devices."""

    hint = "add them again, each with its key, or restore an older backup; the gateway's log says what is wrong"

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"{len(names)} devices cannot be read, such as {names[0]}")
        self.names = names


@dataclass(slots=True)
class RegistryBackup:
    """`accepted_at`: the highest time of a join accept, ms; `sequences`: the last stored one of each device."""

    devices: dict[str, Document]
    sequences: dict[str, int]
    accepted_at: int

    def document(self) -> dict[str, Any]:
        return {"devices": self.devices, "sequences": self.sequences, "accepted_at": self.accepted_at}

    @classmethod
    def of(cls, document: dict[str, Any]) -> RegistryBackup:
        """KeyError, TypeError or ValueError for what is none."""
        devices, sequences = dict(document["devices"]), dict(document["sequences"])
        for name, device in devices.items():
            if not is_token(name) or device["name"] != name or len(bytes.fromhex(device["key"])) != 16:
                raise ValueError(name)
        return cls(devices, {str(k): int(v) for k, v in sequences.items()}, int(document["accepted_at"]))


async def collect(api: JetStreamApi, site: str, devices: SealedBucket, sessions: SealedBucket) -> RegistryBackup:
    """Read it from a running leaf. DamagedRegistryError, LinkError."""
    found = await devices.items()
    if devices.unreadable:
        raise DamagedRegistryError(sorted(devices.unreadable))
    accepted_at = max((int(one.get("accepted_at", 0)) for one in found.values()), default=0)
    for session in (await sessions.items()).values():
        accepted_at = max(accepted_at, int.from_bytes(bytes.fromhex(session["nonce"])[:6], "big"))

    async def last(name: str) -> int:
        stored = await stored_last(api, site, name)
        if isinstance(stored, LinkError):
            raise stored
        return stored[0]

    return RegistryBackup(found, await _each(list(found), last), accepted_at)


async def last_at_hub(api: JetStreamApi, site: str, names: list[str]) -> dict[str, int]:
    """The last sequence number of each device in the hub's stream. LinkError."""

    async def last(name: str) -> int:
        message = await api.last_message(UPLINK_STREAM, uplink_filter(site, name))
        return 0 if message is None else stored_sequence(message.headers)

    return await _each(names, last)


async def put_back(
    api: JetStreamApi, backup: RegistryBackup, at_hub: dict[str, int], devices: SealedBucket
) -> dict[str, int]:
    """Write it to a leaf that has none of it, or, after an interruption, a part of it; the sequence of each device.

    OtherDevicesError. LinkError: run it again.
    """
    present = await devices.items()
    others = [name for name, one in present.items() if one["key"] != backup.devices.get(name, {}).get("key")]
    if others:
        raise OtherDevicesError(others)
    await ensure_snapshots(api)
    sequences = {name: max(backup.sequences.get(name, 0), at_hub.get(name, 0)) for name in backup.devices}

    async def write(name: str) -> int:
        sequence = sequences[name]
        # First: a device that is there without its number would have readings stored twice.
        await api.store(snapshot_subject(name), str(sequence).encode())
        floor = max(sequence, int(backup.devices[name].get("sequence_floor", 0))) + SEQUENCE_MARGIN
        await devices.put(name, {**backup.devices[name], "sequence_floor": floor, "accepted_at": backup.accepted_at})
        return sequence

    return await _each(list(backup.devices), write)


async def _each(names: list[str], work: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        found |= dict(zip(some, await asyncio.gather(*map(work, some)), strict=True))
    return found
