"""The gateway's methods on `gw.<site>.`: what the command line and other programs ask it."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

from .hub.device import Device
from .hub.ports import Busy, CommandError
from .hub.readings import timestamp
from .looking import Looking, Offer
from .nats.errors import LinkError
from .nats.service import Method

if TYPE_CHECKING:
    from .app import Gateway

TAP_S = 30.0
MAX_TAP_S = 600.0
# Devices of one answer. NATS carries 1 MB, less where an administrator says so, and names are up to 32 characters long.
PAGE = 500
PAGE_BYTES = 256 * 1024
# What every gateway can tell of a device that another one has.
TOLD = ("state", "since_at", "next_wake_at", "period_s", "last_seen_at", "link", "firmware", "boot_count")


class Administration:
    """`methods` by the name behind `gw.<site>.`; each takes and returns JSON values and raises CommandError."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        site = gateway.config.site
        self._tapped = Looking(gateway, f"local.tap.{site}", self._attach_tap)
        self._said = Looking(gateway, f"local.log.{site}", self._attach_log)
        self.methods: dict[str, Method] = {
            "device.add": self._add,
            "device.list": self._list,
            "device.show": self._show,
            "device.remove": self._remove,
            "device.policy": self._policy,
            # Of this one, where a site has several: what only the gateway that has a device knows.
            f"{gateway.own_name}.device.show": self._show_here,
            f"{gateway.own_name}.device.policy": self._policy_here,
            "status": self._status,
            f"{gateway.own_name}.status": self._status,
            "tap": self._tap,
            "log": self._log,
            **gateway.ports.methods,
        }

    async def stop(self) -> None:
        """Stop looking on."""
        await self._tapped.stop()
        await self._said.stop()

    # Devices -----------------------------------------------------------------------------------------------

    async def _add(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name, key = _text(arguments, "name"), arguments.get("key")
        try:
            given = None if key is None else bytes.fromhex(key)
        except (ValueError, TypeError) as error:
            raise CommandError(400, "key: 32 hexadecimal digits") from error
        if given is not None and len(given) != 16:
            raise CommandError(400, f"key: 32 hexadecimal digits, got {2 * len(given)}")
        try:
            device = await self._gateway.hub.add_device(name, given)
        except Busy as busy:
            raise CommandError(503, busy.reason) from busy
        return {"name": device.name, "id": device.id.hex(), "key": device.key.hex()}

    async def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """One page of the devices, by name; `next` is the last name if there are more: ask again with it as `after`."""
        after, limit = arguments.get("after", ""), arguments.get("limit", PAGE)
        if not isinstance(after, str):
            raise CommandError(400, "after: the name of a device")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise CommandError(400, "limit: at least 1")
        devices = self._gateway.hub.roster.devices
        names = sorted(name for name in devices if name > after)
        page: list[dict[str, Any]] = []
        size = 0
        for name in names[: min(limit, PAGE)]:
            page.append(self._row(devices[name]))
            size += len(json.dumps(page[-1]))
            if size > PAGE_BYTES:
                break
        await asyncio.gather(*(self._as_told(row) for row in page if devices[row["name"]].is_elsewhere))
        last = page[-1]["name"] if len(page) < len(names) else None
        return {"devices": page, "total": len(devices), "next": last}

    async def _as_told(self, row: dict[str, Any]) -> None:
        """Put into a device's row what the gateway of the site has told that has it."""
        gateway = self._gateway
        told = await gateway.presences.read(row["name"]) if gateway.presences is not None else None
        if told is None or told.get("gateway") == gateway.own_name:
            return
        row.update({name: told[name] for name in TOLD if name in told})
        try:
            row["sequence"] = await gateway.store.last_sequence(row["name"], refresh=True)
        except LinkError:
            row["sequence"] = None

    async def _at_holder(self, method: str, arguments: dict[str, Any], here: Method) -> Any:
        """Have the gateway of the site answer that has the device; this one if that is not there."""
        name, neighbours = _text(arguments, "name"), self._gateway.hub.neighbours
        holder = None if neighbours.has(name) else await neighbours.holder(name)
        if holder is not None:
            answered, answer = await self._gateway.gateways.ask(holder, method, arguments)
            if answered:
                return answer
        return await here(arguments)

    async def _show(self, arguments: dict[str, Any]) -> Any:
        return await self._at_holder("device.show", arguments, self._show_here)

    async def _show_here(self, arguments: dict[str, Any]) -> dict[str, Any]:
        device = self._gateway.hub.device(_text(arguments, "name"))
        manifest = device.manifest or {}
        channels = [
            {"number": number, "name": name, "unit": unit, "type": kind, "period_s": period}
            for number, name, unit, kind, period, *_ in manifest.get("ch", ())
        ]
        commands = [
            {
                "number": number,
                "name": name,
                "arguments": [
                    {"name": argument, "type": kind, "required": bool(required)}
                    for argument, kind, required, *_ in declared
                ],
            }
            for number, name, declared, *_ in manifest.get("cmd", ())
        ]
        session = device.current.session if device.current else None
        return {
            **self._row(device),
            "added_at": timestamp(device.added_at),
            "reset_reason": device.reset_reason,
            "channels": channels,
            "commands": commands,
            "address": session.address if session else None,
            "round_trip_ms": session.recovery.srtt if session else None,
            "timeouts_total": session.recovery.timeouts_total if session else 0,
            "frames_total": device.frames_total,
            "dropped": device.dropped,
            "dropped_by_node_total": device.uplinks.dropped_by_node,
            "durable_sequence": device.uplinks.durable,
            "allow": device.allow,
            "wake_policy": device.wake_policy.document() if device.wake_policy is not None else None,
        }

    async def _policy(self, arguments: dict[str, Any]) -> Any:
        """What is wanted of a device's wakes: `period_s`, `spacing_s`, `awake_s`; 0 takes one back."""
        return await self._at_holder("device.policy", arguments, self._policy_here)

    async def _policy_here(self, arguments: dict[str, Any]) -> dict[str, Any]:
        hub = self._gateway.hub
        device = hub.device(_text(arguments, "name"))
        spacing_s = _number(arguments, "spacing_s")
        period_s, awake_s = (
            None if value is None else math.ceil(value)
            for value in (_number(arguments, "period_s"), _number(arguments, "awake_s"))
        )
        spacing_ms = None if spacing_s is None else round(1000 * spacing_s)
        if (period_s, spacing_ms, awake_s) != (None, None, None):
            try:
                await hub.wake_policies.ask(device, period_s=period_s, spacing_ms=spacing_ms, awake_s=awake_s)
            except Busy as busy:
                raise CommandError(503, busy.reason) from busy
        row = self._row(device)
        told = {name: row[name] for name in ("name", "state", "next_wake_at", "period_s")}
        return {**told, "wake_policy": device.wake_policy.document() if device.wake_policy is not None else None}

    async def _remove(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = _text(arguments, "name")
        try:
            await self._gateway.hub.remove_device(name)
        except Busy as busy:
            raise CommandError(503, busy.reason) from busy
        return {"name": name, "removed": True}

    def _row(self, device: Device) -> dict[str, Any]:
        told = self._gateway.hub.presences.document(device)
        place = device.current.place if device.current else None
        return {
            "name": device.name,
            "id": device.id.hex(),
            **{name: told[name] for name in ("state", "since_at", "next_wake_at", "period_s")},
            "last_seen_at": None if device.last_seen_at is None else timestamp(device.last_seen_at),
            "joined_at": None if device.joined_at is None else timestamp(device.joined_at),
            "link": place.link.name if place else None,
            "firmware": device.channels.firmware or None,
            "boot_count": device.boot_count,
            "sequence": device.uplinks.taken,
        }

    # The gateway -------------------------------------------------------------------------------------------

    async def _status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return await self._gateway.status.fresh()

    # Looking on --------------------------------------------------------------------------------------------

    async def _tap(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._tapped.ask(_looking_s(arguments))

    async def _log(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What nodes have said last, one (`name`) or all, and the subject on which they go on for `for_s` seconds."""
        name = arguments.get("name")
        if name is not None:
            name = self._gateway.hub.device(_text(arguments, "name")).name
        lines = self._gateway.hub.node_log.lines(name)
        while len(lines) > 1 and len(json.dumps(lines)) > PAGE_BYTES:
            lines = lines[len(lines) // 2 :]
        return {**self._said.ask(_looking_s(arguments)), "lines": lines}

    def _attach_tap(self, offer: Offer | None) -> None:
        self._gateway.hub.tap.publish = offer

    def _attach_log(self, offer: Offer | None) -> None:
        self._gateway.hub.node_log.publish = offer


def _looking_s(arguments: dict[str, Any]) -> float:
    for_s = arguments.get("for_s", TAP_S)
    if not isinstance(for_s, (int, float)) or isinstance(for_s, bool) or not 0 < for_s <= MAX_TAP_S:
        raise CommandError(400, f"for_s: more than 0, at most {MAX_TAP_S:g} seconds")
    return for_s


def _number(arguments: dict[str, Any], name: str) -> float | None:
    value = arguments.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise CommandError(400, f"{name}: a number of seconds, 0 or more")
    return value


def _text(arguments: dict[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise CommandError(400, f"{name}: a text is missing")
    return value
