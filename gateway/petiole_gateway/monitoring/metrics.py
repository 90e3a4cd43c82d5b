"""The gateway's counters for Prometheus. Everything is read when it is asked for; nothing is counted twice.

Labels have few values: links are named in the settings, reasons, states, types and codes in tables of the code.
Devices are labels only where the settings say so, and only as many as one scrape should carry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..hub import mailbox_states

if TYPE_CHECKING:
    from ..app import Gateway

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "petiole_gateway_"
# Reading them holds the loop that carries frames: 16 ms on two cores of a server, where all else takes 2 ms.
MAX_DEVICES = 500
# Somebody who asks all the time gets the same page for so long.
FRESH_S = 1.0

_DEVICE_STATES = ("online", "asleep", "overdue", "offline")
_STORE = {
    "submitted": "Readings handed to the store.",
    "published": "Readings sent to the leaf's stream, each attempt counted.",
    "stored": "Readings that the leaf's stream has taken.",
    "durable": "Readings that are on disk, and acknowledged.",
    "duplicates": "Readings that the stream had already.",
    "retried": "Readings whose fate in the stream had to be asked for.",
    "refused": "Readings that the leaf refused for the moment.",
    "busy": "Readings that were not taken because the store was full or away; nodes send them again.",
    "resolved": "Readings of unknown fate that were found in the stream.",
    "evicted": "Readings taken out of the stream to make room.",
    "burnt": "Sequence numbers used up after an unclean start of the machine.",
}


class Exposition:
    """`page` is what Prometheus scrapes."""

    def __init__(self, gateway: Gateway, *, per_device: bool, refused: Callable[[], int] = lambda: 0) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(GatewayCollector(gateway, per_device=per_device, refused=refused))
        ProcessCollector(registry=self._registry)
        leaf = gateway.leaf
        if leaf is not None:
            # A process that is not there has no figures.
            ProcessCollector(namespace="petiole_leaf", pid=lambda: leaf.pid or "none", registry=self._registry)
        self._page = b""
        self._made_at = -FRESH_S
        self._making = asyncio.Lock()

    async def page(self) -> bytes:
        """All metrics as text: read in the loop at one moment, written in a thread."""
        async with self._making:
            if time.monotonic() - self._made_at >= FRESH_S:
                read = _Read(list(self._registry.collect()))
                self._page = await asyncio.to_thread(generate_latest, read)
                self._made_at = time.monotonic()
            return self._page


class _Read(CollectorRegistry):
    """What was read a moment ago."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


class GatewayCollector(Collector):
    """Reads a gateway that has started."""

    def __init__(self, gateway: Gateway, *, per_device: bool, refused: Callable[[], int]) -> None:
        self._gateway = gateway
        self._refused = refused
        self._per_device = per_device

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are checked by tests, and reading the gateway to name them would cost a page."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._state()
        yield from self._frames()
        yield from self._links()
        yield from self._devices()
        yield from self._store()
        yield from self._leaf()
        yield from self._mail()
        if self._per_device:
            yield from self._each_device()

    def _state(self) -> Iterator[Metric]:
        status = self._gateway.status
        document = status.document()
        health = status.health()
        names = ["site", "gateway", "version", "leaf_version"]
        about = _gauge("info", "What runs here; always 1.", names)
        about.add_metric(
            [document["site"], document["gateway"], document["version"], document["leaf"]["server_version"]], 1
        )
        yield about
        yield _gauge("live", "1 while a restart of the gateway would not help.", value=health.is_live)
        yield _gauge("ready", "1 while readings are taken.", value=health.is_ready)
        problems = _gauge("problems", "What is wrong, by code as in /healthz.", ["code", "severity"])
        found: dict[tuple[str, str], int] = {}
        for each in health.findings:
            found[each.code, each.severity] = found.get((each.code, each.severity), 0) + 1
        for (code, severity), count in found.items():
            problems.add_metric([code, severity], count)
        yield problems
        yield _gauge(
            "clock_synchronised",
            "1 while a time source has set this machine's clock.",
            value=document["clock"] == "synchronised",
        )
        unreadable = _counter("documents_unreadable", "Stored documents that were passed over, by kind.", ["kind"])
        for kind, count in sorted(self._gateway.unreadable.total.items()):
            unreadable.add_metric([kind], count)
        yield unreadable
        failures = _counter("task_failures", "Ends of work that must not end; it was started again.", ["task"])
        for name, failed in sorted(self._gateway.supervisor.failures.items()):
            failures.add_metric([name], failed.total)
        yield failures
        gateways = self._gateway.gateways
        yield _counter("news_lost", "News for other gateways of the site not sent.", value=gateways.untold_total)
        yield _counter("news_unreadable", "News of other gateways not read.", value=gateways.unreadable_total)
        lag = status.lag
        yield _histogram("loop_lag_seconds", "By how much the event loop was late.", lag.cumulative(), lag.sum_s)
        yield _counter("http_refused", "HTTP connections and requests that got no page.", value=self._refused())

    def _frames(self) -> Iterator[Metric]:
        traffic = self._gateway.hub.traffic
        types = _counter("frames", "Frames on all links, by type.", ["direction", "type"])
        for (direction, kind), count in sorted(traffic.types_total.items()):
            types.add_metric([direction, kind], count)
        yield types
        dropped = _counter("frames_dropped", "Frames without effect, by reason.", ["reason"])
        for reason, count in sorted(traffic.dropped.items()):
            dropped.add_metric([reason], count)
        yield dropped
        yield _counter("joins", "Sessions that became current.", value=traffic.joins_total)

    def _links(self) -> Iterator[Metric]:
        open_ = _gauge("link_open", "1 while the link can carry frames.", ["link", "kind"])
        frames = _counter("link_frames", "Frames of a link.", ["link", "direction"])
        void = _counter("link_frames_dropped", "Frames of a link without effect.", ["link"])
        framing = _counter("link_framing_dropped", "What was no frame, by reason.", ["link", "reason"])
        unsent = _counter("link_unsent_dropped", "Frames dropped because the link was too far behind.", ["link"])
        opened = _counter("link_opened", "How often the port was opened.", ["link"])
        errors = _counter("link_errors", "Errors that the network reported.", ["link"])
        for link in self._gateway.status.document()["links"]:
            name = link["name"]
            open_.add_metric([name, link["kind"]], link["open"])
            for direction in ("up", "down"):
                frames.add_metric([name, direction], link["frames"].get(direction, 0))
            void.add_metric([name], link["frames"].get("dropped", 0))
            for reason, count in sorted(link.get("dropped", {}).items()):
                framing.add_metric([name, reason], count)
            unsent.add_metric([name], link["unsent_dropped_total"])
            if "opened_total" in link:
                opened.add_metric([name], link["opened_total"])
            if "errors_total" in link:
                errors.add_metric([name], link["errors_total"])
        yield from (open_, frames, void, framing, unsent, opened, errors)

    def _devices(self) -> Iterator[Metric]:
        hub = self._gateway.hub
        devices = hub.roster.devices.values()
        states = dict.fromkeys(_DEVICE_STATES, 0)
        for device in devices:
            states[hub.state(device)] += 1
        by_state = _gauge("devices", "Registered devices, by availability.", ["state"])
        for state, count in states.items():
            by_state.add_metric([state], count)
        yield by_state
        sessions = _gauge("sessions", "Sessions, by state.", ["state"])
        sessions.add_metric(["current"], sum(device.current is not None for device in devices))
        sessions.add_metric(["provisional"], sum(len(device.provisional) for device in devices))
        yield sessions
        waiting = sum(len(device.open_requests) for device in devices)
        yield _gauge("commands_open", "Commands that wait for their device's reply.", value=waiting)

    def _store(self) -> Iterator[Metric]:
        store = self._gateway.store
        for name, text in _STORE.items():
            yield _counter(f"store_{name}", text, value=getattr(store.metrics, f"{name}_total"))
        yield _gauge("store_healthy", "1 while the leaf's stream takes readings.", value=store.is_healthy)
        yield _gauge("store_pending", "Readings submitted and not yet on disk.", value=store.pending)
        yield _gauge("store_used_bytes", "What the leaf's stream holds, at most.", value=store.space.used)
        yield _gauge("store_limit_bytes", "What the leaf's stream may hold.", value=store.space.max_bytes)
        durations = store.barrier_durations
        yield _histogram(
            "store_barrier_seconds",
            "How long the disk took to make readings durable.",
            durations.cumulative(),
            durations.sum_s,
        )
        yield _counter(
            "store_barrier_failed", "Barriers that the disk refused.", value=store.metrics.barrier_failed_total
        )
        yield _counter(
            "live_dropped",
            "Live readings that were not published.",
            value=self._gateway.requester.live_dropped_total,
        )

    def _leaf(self) -> Iterator[Metric]:
        gateway, leaf = self._gateway, self._gateway.leaf
        yield _gauge("leaf_connected", "1 while the leaf server answers.", value=gateway.connection.is_connected)
        # Without a hub these have no samples, and are named all the same.
        backlog = _gauge("hub_backlog", "Readings that the hub has not taken, as of the last 15 s.", [])
        if gateway.status.backlog is not None:
            backlog.add_metric([], gateway.status.backlog)
        link_up = _gauge("hub_link_up", "1 while the leaf is linked to its hub.", [])
        changed = _gauge("hub_link_changed_timestamp_seconds", "When the link last changed.", [])
        if leaf is not None and gateway.config.nats.hub:
            link_up.add_metric([], leaf.link_up)
            if leaf.link_changed_at is not None:
                changed.add_metric([], leaf.link_changed_at)
        yield from (backlog, link_up, changed)
        if leaf is None:
            return
        yield _counter("leaf_restarts", "Unexpected ends of the leaf server.", value=leaf.restarts_total)
        yield _counter(
            "leaf_watchdog_restarts",
            "Restarts of a leaf server that had given up on its hub.",
            value=leaf.watchdog_restarts_total,
        )
        written = _written_bytes(leaf.pid)
        if written is not None:
            yield _counter("leaf_disk_written_bytes", "What the leaf server has had written to disk.", value=written)

    def _mail(self) -> Iterator[Metric]:
        mail, presences = self._gateway.mail, self._gateway.presences
        if mail is not None:
            items = {mailbox_states.PENDING: 0, mailbox_states.SENT: 0}
            for item in mail.mailbox:
                items[item.state] = items.get(item.state, 0) + 1
            by_state = _gauge("mail_items", "Items in the mailboxes, by state.", ["state"])
            for state, count in items.items():
                by_state.add_metric([state], count)
            yield by_state
            ended = _counter("mail_ended", "Items that have ended, by final state.", ["state"])
            for state in sorted(mailbox_states.FINAL):
                ended.add_metric([state], mail.metrics.ended.get(state, 0))
            yield ended
            yield _counter("mail_arrived", "Items that came from a stream.", value=mail.metrics.arrived_total)
            yield _counter("mail_unreadable", "Items that could not be read.", value=mail.metrics.unreadable_total)
            yield _counter(
                "mail_cancels_dropped", "Cancels of items nobody knows.", value=mail.metrics.cancels_dropped_total
            )
            yield _counter(
                "mail_late_results",
                "Answers to items that had ended already.",
                value=mail.mailbox.late_results_total,
            )
            yield _gauge("mail_unsettled", "Ends that are not told everywhere yet.", value=len(mail.settlement))
            yield _counter(
                "mail_reports_lost", "Ends the hub will not hear of.", value=mail.settlement.lost_reports_total
            )
            yield _counter("mail_events_dropped", "Events about mail not sent.", value=mail.events_dropped_total)
        if presences is not None:
            yield _gauge("presence_pending", "Documents of devices not written yet.", value=presences.pending)
            yield _counter("presence_written", "Documents of devices written.", value=presences.written_total)

    def _each_device(self) -> Iterator[Metric]:
        hub = self._gateway.hub
        seen = _gauge("device_last_seen_timestamp_seconds", "When a frame of the device last opened.", ["device"])
        states = _gauge("device_state", "1 for the state that the device is in.", ["device", "state"])
        frames = _counter("device_frames", "Frames of the device that opened.", ["device"])
        dropped = _counter("device_frames_dropped", "Frames of the device without effect.", ["device", "reason"])
        lost = _counter("device_readings_dropped", "Readings that the device's outbox has dropped.", ["device"])
        names = sorted(hub.roster.devices)
        for name in names[:MAX_DEVICES]:
            device = hub.roster.devices[name]
            if device.last_seen_at is not None:
                seen.add_metric([name], device.last_seen_at / 1000)
            states.add_metric([name, hub.state(device)], 1)
            frames.add_metric([name], device.frames_total)
            for reason, count in sorted(device.dropped.items()):
                dropped.add_metric([name, reason], count)
            lost.add_metric([name], device.uplinks.dropped_by_node)
        yield from (seen, states, frames, dropped, lost)
        text = f"Devices beyond the first {MAX_DEVICES}, which have no metrics of their own."
        yield _gauge("devices_without_metrics", text, value=max(0, len(names) - MAX_DEVICES))


def _written_bytes(pid: int | None) -> int | None:
    """What the kernel has been given for the disk on behalf of a process; None where it does not say."""
    try:
        text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return None
    fields = dict(line.split(": ") for line in text.splitlines() if ": " in line)
    return int(fields["write_bytes"]) if "write_bytes" in fields else None


def _gauge(name: str, text: str, labels: list[str] | None = None, *, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value, labels=labels)


def _counter(
    name: str, text: str, labels: list[str] | None = None, *, value: float | None = None
) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value, labels=labels)


def _histogram(name: str, text: str, buckets: list[tuple[str, int]], total: float) -> HistogramMetricFamily:
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=total)


__all__ = ["CONTENT_TYPE", "Exposition", "GatewayCollector"]
