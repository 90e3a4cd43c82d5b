"""How a gateway is: what is wrong with it, what to do about it, and whether it lives and is ready. Values only.

The same words for `petiole status`, `/healthz`, the service's watchdog and alerts: all judge the document that
`gw.<site>.status` answers with. A part that is missing there (an older gateway) is taken for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

Document = Mapping[str, Any]

ERROR = "error"
WARNING = "warning"
# What a site sends in a moment is on its way; more than this with a link that is up does not move.
BACKLOG = 1000
# The leaf server is started again 0.3 s after it ended, after repeated crashes some seconds later; the client is back
# a quarter of a second after that. Who is away for longer does not come back by itself.
LEAF_GRACE_S = 30.0
# The server answers within milliseconds, the slowest cards sync within seconds; after 10 s an answer is given up.
STORE_GRACE_S = 15.0

# With one of these a restart of the gateway is the cure: it is not alive.
FATAL = frozenset({"leaf_gone", "stalled"})
# With one of these it takes no readings now: it is not ready.
UNREADY = FATAL | {"starting", "leaf_away", "store_refuses"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is for programs and does not change; `problem` and `hint` are one line each, for people."""

    code: str
    severity: str  # ERROR or WARNING
    problem: str
    hint: str

    def document(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that was found, errors first."""

    findings: tuple[Finding, ...] = ()

    @property
    def is_live(self) -> bool:
        """A restart would not help."""
        return not any(each.code in FATAL for each in self.findings)

    @property
    def is_ready(self) -> bool:
        """Readings that come now are taken."""
        return not any(each.code in UNREADY for each in self.findings)

    @property
    def line(self) -> str:
        """The worst of it, in one line; "" if all is well."""
        return self.findings[0].problem if self.findings else ""

    def document(self) -> dict[str, Any]:
        return {
            "live": self.is_live,
            "ready": self.is_ready,
            "findings": [each.document() for each in self.findings],
        }


STARTING = Finding("starting", WARNING, "the gateway is starting", "wait a moment")


def judge(status: Document, stalled: Iterable[str] = ()) -> Health:
    """`stalled` says of work of this process that it stands still, though it waits for nothing outside: progress.py."""
    found = [
        *_stalled(stalled),
        *_leaf(status),
        *_store(status),
        *_unreadable(status),
        *_failed(status),
        *_clock(status),
        *_links(status),
    ]
    return Health(tuple(sorted(found, key=lambda each: each.severity != ERROR)))


def _stalled(stalled: Iterable[str]) -> list[Finding]:
    return [Finding("stalled", ERROR, name, "restart the gateway") for name in stalled]


def _leaf(status: Document) -> list[Finding]:
    leaf, store = status.get("leaf") or {}, status.get("store") or {}
    waiting = store.get("not_at_hub") or 0
    if leaf.get("connected") is False:
        away_s = leaf.get("away_s") or 0.0
        gone = away_s > LEAF_GRACE_S
        return [
            Finding(
                "leaf_gone" if gone else "leaf_away",
                ERROR,
                f"the leaf server does not answer{f' for {span(away_s)}' if away_s >= 1 else ''}",
                "look at the gateway's log for lines of leaf_server"
                if leaf.get("embedded", True)
                else "is the server of [nats] url running?",
            )
        ]
    if leaf.get("hub_configured") and leaf.get("hub_link_up") is False:
        since = since_text(leaf.get("hub_link_changed_at"))
        problem = f"the link to the hub is down{f' since {since}' if since else ''}, {waiting} readings wait"
        hint = "check the network and [nats] hub; nothing is lost, it catches up by itself"
        if leaf.get("hub_refusal"):
            problem += f"; the hub says: {leaf['hub_refusal']}"
            hint = (
                "is [nats] hub_credentials of this hub and site, not expired, and its certificate good? "
                f"`petiole hub site DIR {status.get('site', 'SITE')} --renew` makes new credentials"
            )
        return [Finding("hub_link_down", ERROR, problem, hint)]
    if waiting > BACKLOG:
        return [
            Finding(
                "backlog",
                WARNING,
                f"{waiting} readings wait for the hub{', and the link is up' if leaf.get('hub_link_up') else ''}",
                f"does the hub take them? `petiole hub site DIR {status.get('site', 'SITE')}`"
                if leaf.get("embedded", True)
                else "does a hub take them from that server? If it has none: [nats] linked_to_hub = false",
            )
        ]
    return []


def _store(status: Document) -> list[Finding]:
    store = status.get("store") or {}
    found = []
    refused = (status.get("leaf") or {}).get("write_problem")
    waiting_s = store.get("waiting_s") or 0.0
    hint = "look at the gateway's log: is its disk full?"
    if refused:
        hint = "make room on its disk: it goes on by itself soon after, and nodes keep their readings until then"
        found.append(Finding("store_refuses", ERROR, f"the leaf server cannot write: {refused}", hint))
    elif store.get("healthy") is False:
        found.append(Finding("store_refuses", ERROR, "the leaf takes no readings", hint))
    elif waiting_s > STORE_GRACE_S:
        problem = f"no reading has become durable for {span(waiting_s)}, {store.get('pending', 0)} wait"
        found.append(Finding("store_refuses", ERROR, problem, hint))
    if store.get("barrier_failed_total"):
        found.append(Finding("disk_errors", ERROR, "the disk reports errors", "check dmesg and replace the card"))
    return found


def _unreadable(status: Document) -> list[Finding]:
    """What is stored and was passed over, because it cannot be read."""
    words = {
        "devices": "devices cannot be read and are unknown: add them again, or restore a backup",
        "sessions": "sessions could not be read: their devices join anew by themselves",
        "wake": "wake policies cannot be read: set them again with `petiole device policy`",
        "mail": "records or items of mail cannot be read and were passed over",
    }
    found = []
    for kind, count in sorted((status.get("unreadable") or {}).items()):
        problem, _, hint = words.get(kind, f"documents of {kind} cannot be read").partition(": ")
        severity = ERROR if kind == "devices" else WARNING
        hint = hint or "lines of ..._unreadable in the gateway's log name them"
        found.append(Finding("documents_unreadable", severity, f"{count} {problem}", hint))
    return found


def _failed(status: Document) -> list[Finding]:
    """Work that ended by a defect and was started again."""
    return [
        Finding(
            "task_failed",
            WARNING,
            f"{each['name']}: failed {each['failures_total']} times, last {span(each['ago_s'])} ago: {each['error']}",
            "it was started again; please report the lines of task_failed in the gateway's log",
        )
        for each in status.get("failed_tasks") or ()
    ]


def _clock(status: Document) -> list[Finding]:
    if status.get("clock") != "unsynchronised":
        return []
    return [
        Finding(
            "clock_doubtful",
            WARNING,
            "nobody has set the gateway's clock, readings may have a wrong time",
            "`timedatectl set-ntp true` on the gateway, or give it a time server that it can reach",
        )
    ]


def _links(status: Document) -> list[Finding]:
    found = []
    for link in status.get("links") or ():
        if link.get("problem"):
            hint = link.get("hint") or "is the board plugged in and the port free?"
            problem = str(link["problem"])  # of a path, which often is the name
            problem = problem if problem.startswith(f"{link['name']}: ") else f"{link['name']}: {problem}"
            found.append(Finding("port_closed", WARNING, problem, hint))
        elif link.get("state") == "released":
            problem = f"{link['name']} is released for {span(link.get('released_for_s') or 0)} more"
            hint = f"`petiole port resume {link['name']}` takes it back now; readings wait on the board"
            found.append(Finding("port_released", WARNING, problem, hint))
    return found


def since_text(at: object) -> str:
    """How long ago an RFC 3339 time was, as `5 min`; "" if it is none."""
    if not isinstance(at, str):
        return ""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return ""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return span((datetime.now(UTC) - moment).total_seconds())


def span(seconds: float) -> str:
    """A duration in its largest sensible unit."""
    seconds = max(seconds, 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
