"""What a gateway says of itself: the answer to `gw.<site>.status`, and what metrics and health are made from."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..durations import Durations
from ..hub.readings import UNSYNCHRONISED, timestamp
from .health import Health, judge

if TYPE_CHECKING:
    from ..app import Gateway
    from ..progress import Part

PULSE_S = 1.0
# The backlog is asked of the leaf; alerts wait for minutes, and a request a second would be seen in the leaf's log.
BACKLOG_PULSES = 15
# A leaf server that is started again answers within it.
PART_TIMEOUT_S = 10.0


class Status:
    """`document` never waits. `watch` is for whoever looks often: it keeps the backlog and the loop's lag."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._away_since: float | None = None
        self._unlisten = gateway.connection.listen(self._connection_changed)
        self.backlog: int | None = None  # readings that the hub has not taken, as of the last look
        self.stalled: tuple[str, ...] = ()  # what stood still at the last look
        self.lag = Durations()  # by how much the event loop was late

    def close(self) -> None:
        """Listen to nothing more."""
        self._unlisten()

    def _connection_changed(self, up: bool) -> None:
        self._away_since = None if up else asyncio.get_running_loop().time()

    async def watch(self) -> None:
        """Look regularly until cancelled."""
        loop = asyncio.get_running_loop()
        parts = self._gateway.parts()
        pulses = 0
        while True:
            if pulses % BACKLOG_PULSES == 0:
                self.backlog = await self._gateway.store.not_at_hub()
                self.stalled = tuple([reason for part in parts if (reason := await _stall(part))])
            due_at = loop.time() + PULSE_S
            await asyncio.sleep(PULSE_S)
            self.lag.add(max(0.0, loop.time() - due_at))
            pulses += 1

    def health(self) -> Health:
        """Judged from what is known at this moment."""
        return judge(self.document(), self.stalled)

    async def fresh(self) -> dict[str, Any]:
        """The document, with the backlog as it is now."""
        self.backlog = await self._gateway.store.not_at_hub()
        return self.document()

    def document(self) -> dict[str, Any]:
        """JSON values. What has no meaning here is None."""
        gateway = self._gateway
        hub = gateway.hub
        states: dict[str, int] = {}
        for device in hub.roster.devices.values():
            state = hub.state(device)
            states[state] = states.get(state, 0) + 1
        return {
            "site": gateway.config.site,
            "gateway": gateway.own_name,
            "version": version("petiole"),
            "clock": UNSYNCHRONISED if gateway.clock.is_doubtful() else "synchronised",
            "devices": {"total": len(hub.roster.devices), **states},
            "links": self._links(),
            "frames": dict(hub.traffic.frames_total),
            "dropped": dict(hub.traffic.dropped),
            "leaf": self._leaf(),
            "store": {
                "healthy": gateway.store.is_healthy,
                "durability": gateway.store.durability.value,
                "pending": gateway.store.pending,
                "waiting_s": round(gateway.store.waiting_s, 1),
                "not_at_hub": self.backlog,
                **{name: getattr(gateway.store.metrics, name) for name in gateway.store.metrics.__slots__},
            },
            "mail": {"waiting": len(gateway.mail.mailbox)} if gateway.mail is not None else {},
            "unreadable": dict(gateway.unreadable.total),
            "failed_tasks": gateway.supervisor.document(),
            "presence": {"pending": gateway.presences.pending} if gateway.presences is not None else {},
        }

    def _links(self) -> list[dict[str, Any]]:
        gateway = self._gateway
        traffic = gateway.hub.traffic
        links: list[dict[str, Any]] = [
            {
                **gateway.ports.row(link),
                "kind": "serial",
                "open": link.is_open,
                "dropped": {k: v for k, v in link.dropped.items() if v},
                "unsent_dropped_total": link.unsent_dropped_total,
                "opened_total": link.opened_total,
                "failed_total": dict(link.failed_total),
                "released_total": link.released_total,
                "frames": traffic.links.get(link.name, {}),
            }
            for link in gateway.ports.links.values()
        ]
        if gateway.udp is not None:
            links.append({"name": "udp", "kind": "udp", "open": True, "port": gateway.udp_port})
            links[-1]["unsent_dropped_total"] = gateway.udp.unsent_dropped_total
            links[-1]["errors_total"] = gateway.udp.errors_total
            links[-1]["frames"] = traffic.links.get("udp", {})
        return links

    def _leaf(self) -> dict[str, Any]:
        gateway = self._gateway
        leaf = gateway.leaf
        away_s = 0.0 if self._away_since is None else asyncio.get_running_loop().time() - self._away_since
        return {
            "embedded": leaf is not None,
            "connected": gateway.connection.is_connected,
            "away_s": round(away_s, 1),
            "pid": leaf.pid if leaf else None,
            "hub_configured": bool(gateway.config.nats.hub),
            "hub_link_up": leaf.link_up if leaf else None,
            "hub_server": (leaf.hub_server or None) if leaf else None,
            "hub_refusal": (leaf.hub_refusal or None) if leaf else None,
            "hub_link_changed_at": _time(leaf.link_changed_at) if leaf else None,
            "watchdog_restarts_total": leaf.watchdog_restarts_total if leaf else None,
            "write_problem": (leaf.write_problem or None) if leaf else None,
            "write_restarts_total": leaf.write_restarts_total if leaf else None,
            "server_version": _version(gateway),
            "restarts_total": leaf.restarts_total if leaf else None,
        }


async def _stall(part: Part) -> str:
    try:
        async with asyncio.timeout(PART_TIMEOUT_S):
            return await part.stall()
    except TimeoutError:
        return f"{type(part).__name__} does not answer"


def _version(gateway: Gateway) -> str:
    version = gateway.connection.client.connected_server_version
    return f"{version.major}.{version.minor}.{version.patch}"


def _time(moment_s: float | None) -> str | None:
    return None if moment_s is None else timestamp(int(moment_s * 1000))
