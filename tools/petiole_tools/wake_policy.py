"""What is wanted of a device's wakes: its period, and staying awake for once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from petiole import wire
from petiole_gateway.monitoring.health import span
from petiole_tools.arguments import seconds
from petiole_tools.client import Client, checked_name, connected
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import ago, note, paint, say, say_json, until

# A gateway answers from memory, and a person does not see less.
POLL_S = 0.5


async def policy(options: Options, name: str, period: str | None, spacing: str | None, *, clear: bool) -> None:
    """Set what is given, then show all of it."""
    checked_name("device name", name)
    if clear and (period is not None or spacing is not None):
        raise CliError("--clear takes back what --period and --spacing say", "give one or the other")
    body: dict[str, Any] = {"name": name}
    if period is not None:
        body["period_s"] = _at_most("--period", period, wire.MAX_PERIOD_S)
    if spacing is not None:
        body["spacing_s"] = _at_most("--spacing", spacing, wire.MAX_SPACING_MS / 1000)
    if clear:
        body |= {"period_s": 0, "spacing_s": 0, "awake_s": 0}
    async with connected(options) as client:
        found = await client.gateway("device.policy", body)
    if options.as_json:
        say_json(found)
        return
    say(f"{paint(name, 'bold')}: {text(found.get('wake_policy'))}")
    _tell_when(found)


async def awake(options: Options, name: str, duration: str, wait: str | None) -> None:
    """Ask a device to stay awake; with `wait`, until it does."""
    checked_name("device name", name)
    awake_s = _at_most("DURATION", duration, wire.MAX_AWAKE_S)
    wait_s = None if wait is None else seconds("--wait", wait)
    async with connected(options) as client:
        found = await client.gateway("device.policy", {"name": name, "awake_s": awake_s})
        if wait_s is not None and _is_to_be_said(found):
            if not options.as_json:
                _tell_when(found)
            found = await _heard(client, name, wait_s)
    if options.as_json:
        say_json(found)
    elif not awake_s:
        say(f"{name} need not stay awake any more")
    elif _is_to_be_said(found):
        say(f"{name} is to stay awake for {span(awake_s)}")
        _tell_when(found)
    else:
        say(f"{name} stays awake for {span(awake_s)}")


def _at_most(option: str, given: str, most_s: float) -> float:
    value_s = seconds(option, given)
    if value_s > most_s:
        raise CliError(f"{option} {given}: at most {span(most_s)}", "it can be asked again later")
    return value_s


def text(wanted: dict[str, Any] | None) -> str:
    """A policy in words."""
    if wanted is None:
        return "wakes as its application says"
    parts = []
    if wanted.get("period_s"):
        parts.append(f"wakes every {span(wanted['period_s'])}")
    if wanted.get("spacing_s"):
        parts.append(f"leaves {wanted['spacing_s']:g} s between its frames")
    if wanted.get("awake_s"):
        parts.append(f"stays awake for {span(wanted['awake_s'])}")
    said = f", heard {ago(wanted['heard_at'])}" if wanted.get("heard_at") else ", not heard yet"
    return (", ".join(parts) or "wakes as its application says") + said


def _is_to_be_said(found: dict[str, Any]) -> bool:
    wanted = found.get("wake_policy")
    return wanted is not None and wanted.get("heard_at") is None


def _tell_when(found: dict[str, Any]) -> None:
    if not _is_to_be_said(found):
        return
    state, wake = found.get("state"), found.get("next_wake_at")
    when = f", next wake {until(wake)}; it is told then" if wake else "; it is told when it wakes"
    note(f"{found['name']} is {state}{when}" if state != "online" else "it is being told")


async def _heard(client: Client, name: str, wait_s: float) -> dict[str, Any]:
    end = time.monotonic() + wait_s
    while True:
        found: dict[str, Any] = await client.gateway("device.policy", {"name": name})
        if not _is_to_be_said(found):
            return found
        if time.monotonic() > end:
            raise CliError(
                f"{name} has not woken within {span(wait_s)}",
                f"it is told whenever it wakes; `petiole device awake {name} 0` takes it back",
            )
        await asyncio.sleep(POLL_S)
