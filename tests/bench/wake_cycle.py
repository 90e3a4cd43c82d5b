"""Frames, bytes and round trips of a wake, from the real hub and the real core of a node in virtual time."""

from __future__ import annotations

import asyncio

from petiole.cobs import encode as cobs
from tests.gateway.memory import MemoryLink, Site, until
from tests.gateway.sleepers import PERIOD_S, MemoryMail, sleeper
from tests.gateway.virtual_time import run

from .report import Result, at_most

ITEMS = (0, 1, 5)


def measure() -> list[Result]:
    """A wake with one 10-byte reading, and so many commands of some ten bytes that waited."""
    figures: dict[tuple[bool, int], tuple[int, int, int]] = {}
    for is_serial in (True, False):
        for items in ITEMS:
            run(_wake(figures, is_serial, items))
    out: list[Result] = []
    for is_serial, name in ((True, "serial"), (False, "UDP")):
        group = f"A wake from sleep, {name}"
        for items in ITEMS:
            size, up, down = figures[is_serial, items]
            what = {0: "no mail", 1: "1 item"}.get(items, f"{items} items")
            if items:
                out.append(Result(group, f"{what}, all frames of it", size, "bytes"))
            else:
                limit = 35 if is_serial else 33
                out.append(at_most(group, f"{what}: reading and durable ack", size, "bytes", limit))
            # The node sleeps without waiting for the ack of the last thing it has said.
            trips = up if not items else up - 1
            out.append(at_most(group, f"{what}: round trips", trips, "", 1, "LoRaWAN 1 an item, MQTT-SN 3"))
            if items:
                out.append(Result(group, f"{what}: frames up and down", up + down, ""))
    return out


async def _wake(figures: dict[tuple[bool, int], tuple[int, int, int]], is_serial: bool, items: int) -> None:
    site = Site()
    mail = MemoryMail()
    site.options["mail"] = mail
    await site.start()
    try:
        link = MemoryLink(shared=not is_serial)
        node = await sleeper(site, "a", link, addressed=not is_serial)
        await node.cycle(1.0)
        queued = [mail.put("a", "led", b"[true]") for _ in range(items)]
        await asyncio.sleep(PERIOD_S)
        link.sent.clear()
        link.received.clear()
        await node.cycle(b"\x01\x02\x03\x04\x05\x06\x07\x08\x09")
        await until(lambda: all(mail.ends(item) for item in queued))
        frames = link.sent + link.received
        size = sum(len(cobs(frame)) + 1 if is_serial else len(frame) for frame in frames)
        figures[is_serial, items] = (size, len(link.received), len(link.sent))
    finally:
        await site.stop()
