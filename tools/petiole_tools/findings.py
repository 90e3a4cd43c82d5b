"""What is wrong with a system, and what to do about it. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from petiole_gateway.monitoring.health import judge
from petiole_gateway.nats.mailbox_streams import BOX_SIZE

Document = dict[str, Any]
MAX_NAMED = 5


def findings(system: Document) -> list[Document]:
    """`severity` (error or warning), `problem` and `hint` of each, worst first; of a gateway's own also `code`."""
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
        for each in judge(gateway).findings:
            yield {**each.document(), "problem": f"site {gateway['site']}: {each.problem}"}
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
    leaderless = [stream for stream in system["streams"] if stream["replicas"] > 1 and stream["leader"] is None]
    for stream in system["streams"]:
        if stream in leaderless:
            away_ones = ", ".join(stream["behind"]) or "servers"
            yield _finding(
                "error",
                f"stream {stream['name']} has no leader, the hub takes nothing: {away_ones} away",
                "more than half of the hub's servers must run and reach each other; what waits arrives then",
            )
        elif stream["behind"]:
            yield _finding(
                "warning",
                f"stream {stream['name']}: {', '.join(stream['behind'])} is behind or away",
                "is that hub server running, and does it reach the others?",
            )
    if leaderless:
        return  # of a stream without a leader nobody knows its sources
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
