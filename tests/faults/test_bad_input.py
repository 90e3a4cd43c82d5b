"""Bad frames at a running system, while honest nodes go on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from petiole import wire

from .intruder import Intruder, Recorder
from .rig import Rig
from .waiting import until

FRAMES = 3000
# Sessions, counters and buffers have bounds that are reached during the warm-up; what is left is the allocator's.
MAX_GROWTH = 8 * 1024 * 1024
# Reasons of PROTOCOL.md, section 14, that this input must have met.
REASONS = {"short", "oversize", "reserved_bits", "unknown_session", "replayed", "unknown_device", "tag", "unexpected"}


def _is_open(rig: Rig, name: str) -> bool:
    return any(entry["link"] == str(rig.port(name)) for entry in rig.gateway.said("port_opened"))


async def test_bad_frames_harm_nobody_and_are_counted(rig: Rig, report: Callable[[object], None]) -> None:
    await rig.start({"uart-1": "uart", "intruder": "uart"})
    gateway = ("127.0.0.1", rig.gateway.settings.udp_port)
    recorder = Recorder(gateway)
    intruder: Intruder | None = None
    try:
        await rig.add_node("uart-1", "uart", seed=1)
        await rig.add_node("udp-1", "udp", seed=2)
        watched = await rig.add_node("udp-2", "udp", seed=3)
        watched.move_gateway(recorder.address)
        await watched.restart()  # so that its join is seen, too
        await until(lambda: recorder.of_type(wire.JOIN_REQUEST), "a join is seen")
        await until(lambda: len(recorder.of_type(wire.DATA)) > 50, "data is seen")
        intruder = Intruder(gateway, rig.port("intruder"), recorder, seed=4)
        # Before the gateway looks for it again nobody would read what comes out of the line.
        await until(lambda: _is_open(rig, "intruder"), "the gateway has the intruder's line open")
        await intruder.send(FRAMES // 6)
        resident = rig.gateway.resident_bytes()
        before = rig.accepted_total()
        flood = asyncio.create_task(intruder.send(FRAMES))
        await rig.accept(100)
        await rig.nodes["udp-1"].restart()  # and joins
        await rig.accept_everywhere()
        await flood
        during = rig.accepted_total() - before
        growth = rig.gateway.resident_bytes() - resident
        await rig.accept_everywhere()
        status = await rig.gateway.status()
        shown = await rig.gateway.ask("device.show", {"name": "uart-1"})
        verdict = await rig.verdict()
    finally:
        recorder.close()
        if intruder is not None:
            intruder.close()
    line = next(link for link in status["links"] if link["name"] == str(rig.port("intruder")))
    report(
        f"{verdict}; {during} accepted while {sum(intruder.sent.values())} bad frames came on each of two links; "
        f"dropped {status['dropped']}, by the line's framing {line['dropped']}; "
        f"answers {dict(intruder.answers)}; memory grew by {growth / 1024:.0f} KiB"
    )
    assert not verdict.problems, "\n".join(verdict.problems)
    assert set(status["dropped"]) >= REASONS
    assert line["dropped"].get("cobs"), line
    assert sum(status["dropped"].values()) > FRAMES
    assert growth < MAX_GROWTH
    assert not shown["dropped"]
    assert status["devices"]["total"] == len(rig.nodes)
    assert not rig.gateway.said("task_failed")
    assert set(intruder.answers) <= {wire.JOIN_ACCEPT, wire.REJECT}  # and they open nothing


async def test_a_flood_is_not_amplified(rig: Rig) -> None:
    """Few answers, each shorter than what it answers: nobody's address is worth stealing."""
    await rig.start()
    received: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(stranger.fileno(), lambda: received.append(stranger.recv(4096)))
        frame = bytes((wire.DATA | wire.ADDRESSED, 5)) + bytes(30)
        sent = 0
        began = loop.time()
        while loop.time() - began < 3:
            stranger.sendto(frame, ("127.0.0.1", rig.gateway.settings.udp_port))
            sent += 1
            await asyncio.sleep(0.005)
        took = loop.time() - began
        await until(lambda: received, "it is answered")
        loop.remove_reader(stranger.fileno())
    assert 1 <= len(received) <= 4 * (took + 2) < sent
    assert sum(map(len, received)) < sent * len(frame) / 10
