"""How the whole system is, for people: once, or refreshed in place."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from petiole_gateway.monitoring.health import span
from petiole_tools.client import Standing, connected
from petiole_tools.failure import CliError
from petiole_tools.findings import away, findings
from petiole_tools.options import Options
from petiole_tools.output import ago, clean, note, paint, say, say_json, size_text, table_lines
from petiole_tools.system import collect

Document = dict[str, Any]
STATES = ("online", "asleep", "overdue", "offline")
_BACK = "\x1b[H"
_CLEAR = "\x1b[2J"
_END_OF_LINE = "\x1b[K"
_BELOW = "\x1b[J"


async def show(options: Options) -> None:
    """Print the state of the system once."""
    async with connected(options) as client:
        found = await _look(client, options)
    if options.as_json:
        say_json(found)
    else:
        for line in lines(found):
            say(line)
    if not found["gateways"]:
        site = options.site if found["seen_from"]["is_hub"] else client.site
        whose = f" of site {site!r}" if site else ""
        hint = "`petiole gateway run` starts one; another site is named with --site"
        if found["seen_from"]["is_hub"] and found["sites"]:
            hint = "each site that is away is named above: its machine or its link; nothing is wrong with this server"
        raise CliError(f"no gateway{whose} answers at {client.target.url}", hint)


async def _look(client: Any, options: Options) -> Document:
    found = await collect(client, options.site)
    return {**found, "findings": findings(found)}


def lines(system: Document) -> list[str]:
    """A page of text."""
    seen = system["seen_from"]
    where = "the hub" if seen["is_hub"] else f"the leaf of {seen['domain']}" if seen["domain"] else seen["url"]
    count = len(system["sites"])
    out = [
        paint(f"{count} site{'' if count == 1 else 's'}, seen from {where}", "bold")
        + f"  nats-server {seen['server_version']}"
    ]
    if system["gateways"]:
        out += ["", *table_lines(*_gateway_table(system))]
    if system["devices"] is not None:
        out += ["", *table_lines(*_device_table(system))]
    for stream in system["streams"]:
        size = size_text(stream["bytes"])
        out += ["", f"stream {stream['name']}: {stream['readings']} readings, {size}, {stream['replicas']} copies"]
    out.append("")
    if not system["findings"]:
        out.append(paint("all is well", "green"))
    for each in system["findings"]:
        out.append(
            paint(each["severity"], "red" if each["severity"] == "error" else "yellow") + f" {clean(each['problem'])}"
        )
        out.append(paint(f"  {clean(each['hint'])}", "dim"))
    return out


def _gateway_table(system: Document) -> tuple[list[str], list[list[str]]]:
    rows = []
    for gateway in system["gateways"]:
        leaf, store = gateway.get("leaf") or {}, gateway.get("store") or {}
        link = (
            {True: "up", False: "down", None: "?"}[leaf.get("hub_link_up")] if leaf.get("hub_configured") else "no hub"
        )
        if link in ("up", "down") and leaf.get("hub_link_changed_at"):
            link += f" {ago(leaf['hub_link_changed_at']).removesuffix(' ago')}"
        waiting = store.get("not_at_hub")
        rows.append(
            [
                str(gateway["site"]),
                str(gateway.get("gateway", ""))[:8],
                str(gateway.get("version") or "-"),
                str(leaf.get("server_version") or "-"),
                link,
                "-" if waiting is None else str(waiting),
                str(gateway.get("clock") or "-"),
                " ".join(f"{each['name']}{_link_state(each)}" for each in gateway.get("links") or []),
            ]
        )
    return ["SITE", "GATEWAY", "VERSION", "LEAF", "HUB LINK", "WAITING", "CLOCK", "LINKS"], rows


def _link_state(link: Document) -> str:
    if link.get("state") == "released":
        return f" (released, {span(link.get('released_for_s') or 0)} left)"
    return "" if link.get("open") else " (closed)"


def _device_table(system: Document) -> tuple[list[str], list[list[str]]]:
    gone = set(away(system))
    counts: dict[str, Counter[str]] = {site: Counter() for site in system["sites"]}
    for each in system["devices"] or []:
        counts.setdefault(each["site"], Counter())[str(each.get("state"))] += 1
    rows = []
    for site, count in counts.items():
        total = sum(count.values())
        # Of a site that nobody hears nothing is known but what was told last.
        known = ["?"] * len(STATES) if site in gone else [str(count[state]) for state in STATES]
        mail = system["mailboxes"].get(site, {}).get("waiting")
        rows.append([site, str(total), *known, "-" if mail is None else str(mail)])
    return ["SITE", "DEVICES", *(state.upper() for state in STATES), "MAIL"], rows


async def top(options: Options, every_s: float, count: int | None) -> None:
    """Show the state again and again: in place on a terminal until q or Ctrl-C, else one after the other."""
    standing = Standing(options)
    ended = asyncio.Event()
    is_place = sys.stdout.isatty() and not options.as_json
    left = count
    try:
        with _keys(ended):
            if is_place:
                print(_CLEAR, end="", flush=True)
            while not ended.is_set():
                await _once(standing, options, is_place=is_place)
                if left is not None:
                    left -= 1
                    if not left:
                        break
                try:
                    async with asyncio.timeout(every_s):
                        await ended.wait()
                except TimeoutError:
                    continue
    finally:
        await standing.close()


async def _once(standing: Standing, options: Options, *, is_place: bool) -> None:
    try:
        found = await _look(await standing.client(), options)
    except CliError as error:
        if is_place:
            print(f"{_BACK}{error.problem}; trying again{_END_OF_LINE}{_BELOW}", end="", flush=True)
        else:
            note(f"{error.problem}; trying again")
        return
    if options.as_json:
        say_json(found, indent=None)
    elif is_place:
        text = "".join(f"{line}{_END_OF_LINE}\n" for line in lines(found))
        print(f"{_BACK}{text}{_END_OF_LINE}\n{paint('q ends', 'dim')}{_BELOW}", end="", flush=True)
    else:
        for line in lines(found):
            say(line)
        say()


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Set `ended` when q is typed, if there is a keyboard."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        yield
        return
    import termios  # noqa: PLC0415 - only with a terminal
    import tty  # noqa: PLC0415

    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def typed() -> None:
        if sys.stdin.read(1) in ("q", "Q", ""):
            ended.set()

    tty.setcbreak(number)
    loop.add_reader(number, typed)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
        print()
