"""What is wrong with a system, and what to do about it. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from petiole_gateway.nats.mailbox_streams import BOX_SIZE
from petiole_tools.output import ago

Document = dict[str, Any]
MAX_NAMED = 5
# What a site sends in a moment is on its way; more than this with a link that is up does not move.
BACKLOG = 1000


def findings(system: Document) -> list[Document]:
    """`severity` (error or warning), `problem` and `hint` of each, the worst first."""
    found = [*_away(system), *_of_gateways(system), *_of_hub(system), *_of_devices(system), *_of_mail(system)]
    return sorted(found, key=lambda each: each["severity"] != "error")


def away(system: Document) -> list[str]:
    """Sites of which no gateway answers."""
    here = {gateway["site"] for gateway in system["gateways"]}
    return [site for site in system["sites"] if site not in here]


def _finding(severity: str, problem: str, hint: str) -> Document:
    return {"severity": severity, "problem": problem, "hint": hint}


def _away(system: Document) -> Iterator[Document]:
    for site in away(system):
        heard = next((link["heard_s_ago"] for link in system["links"] if link["site"] == site), None)
        when = "" if heard is None else f"; its leaf was heard {heard:.0f} s ago"
        hint = "is its machine on, and does its link reach the hub? `petiole status` there tells more"
        if not system["seen_from"]["is_hub"]:
            hint = "`petiole gateway run` starts one"
        yield _finding("error", f"site {site}: no gateway answers{when}", hint)


def _of_gateways(system: Document) -> Iterator[Document]:
    for gateway in system["gateways"]:
        name = f"site {gateway['site']}"
        leaf, store = gateway.get("leaf") or {}, gateway.get("store") or {}
        waiting = store.get("not_at_hub") or 0
        if leaf.get("hub_configured") and leaf.get("hub_link_up") is False:
            since = leaf.get("hub_link_changed_at")
            when = f" since {ago(since).removesuffix(' ago')}" if since else ""
            yield _finding(
                "error",
                f"{name}: the link to the hub is down{when}, {waiting} readings wait",
                "check the network and [nats] hub; nothing is lost, it catches up by itself",
            )
        elif waiting > BACKLOG:
            yield _finding(
                "warning",
                f"{name}: {waiting} readings wait for the hub, and the link is up",
                f"does the hub take them? `petiole hub site DIR {gateway['site']}`",
            )
        if gateway.get("clock") == "unsynchronised":
            yield _finding(
                "warning",
                f"{name}: nobody has set the gateway's clock, readings may have a wrong time",
                "`timedatectl set-ntp true` on the gateway, or give it a time server that it can reach",
            )
        if store.get("healthy") is False:
            yield _finding(
                "error", f"{name}: the leaf takes no readings", "look at the gateway's log: is its disk full?"
            )
        if store.get("barrier_failed_total"):
            yield _finding("error", f"{name}: the disk reports errors", "check dmesg and replace the card")
        for link in gateway.get("links") or []:
            if link.get("problem"):
                yield _finding(
                    "warning",
                    f"{name}: {link['name']}: {link['problem']}",
                    "is the board plugged in and the port free?",
                )
    versions = sorted({str(gateway["version"]) for gateway in system["gateways"] if gateway.get("version")})
    if len(versions) > 1:
        yield _finding("warning", f"gateways of different versions: {', '.join(versions)}", "bring all to the newest")


def _of_hub(system: Document) -> Iterator[Document]:
    if not system["seen_from"]["is_hub"]:
        return
    if not system["streams"]:
        yield _finding("error", "the hub takes no readings: it has no stream UP", "`petiole hub site DIR SITE`")
    if system["devices"] is None:
        yield _finding(
            "warning", "the hub does not know which devices are there", "`petiole hub site DIR SITE` once more"
        )
    for stream in system["streams"]:
        if stream["behind"]:
            yield _finding(
                "warning",
                f"stream {stream['name']}: {', '.join(stream['behind'])} is behind or away",
                "is that hub server running, and does it reach the others?",
            )
    taken = {link["site"] for link in system["links"]}
    for site in sorted({gateway["site"] for gateway in system["gateways"]} - taken):
        if system["streams"]:
            yield _finding("error", f"the hub takes no readings of site {site}", f"`petiole hub site DIR {site}`")


def _of_devices(system: Document) -> Iterator[Document]:
    gone = set(away(system))
    for state, severity, hint in (
        ("offline", "warning", "`petiole device show NAME` tells when it was last seen; check its power and its link"),
        ("overdue", "warning", "it missed its last wake: wait for the next, or check its battery and its link"),
    ):
        rows = [each for each in system["devices"] or [] if each.get("state") == state and each["site"] not in gone]
        if rows:
            named = ", ".join(f"{each['site']}/{each['device']}" for each in rows[:MAX_NAMED])
            more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
            yield _finding(severity, f"{len(rows)} {state}: {named}{more}", hint)


def _of_mail(system: Document) -> Iterator[Document]:
    for site, box in system["mailboxes"].items():
        fullest = box.get("fullest")
        if fullest and fullest["items"] >= BOX_SIZE:
            yield _finding(
                "warning",
                f"site {site}: the mailbox of {fullest['device']} is full ({fullest['items']} items)",
                "it takes no more before the device wakes, or items are cancelled or expire",
            )
