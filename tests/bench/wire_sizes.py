"""Bytes on the wire and round trips of what nodes do, from the frames of both real ends."""

from __future__ import annotations

from collections.abc import Callable

from petiole import states, wire
from petiole.cobs import encode as cobs
from petiole.items import Encoded
from tests.core.pair import BadLink, Pair

from .report import Result, at_most

TEN_BYTES = b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"  # 10 bytes as CBOR


def measure() -> list[Result]:
    """Serial counts COBS and the delimiter; UDP is what stands above UDP."""
    out: list[Result] = []
    for name, is_serial in (("serial", True), ("UDP", False)):
        sizes = _operations(is_serial)
        group = f"Bytes on the wire, {name}"
        out.append(
            at_most(
                group, "confirmed 10-byte reading and durable ack", sizes["reading"], "bytes", 35 if is_serial else 33,
                "LoRaWAN 35 (4-byte MIC), MQTT-SN over DTLS 1.3: 46, CoAP+OSCORE 48",
            )
        )  # fmt: skip
        limit = 40 if is_serial else 36
        out.append(at_most(group, "join, both frames", sizes["join"], "bytes", limit, "LoRaWAN 40, DTLS 1.3 PSK 331"))
        beside = "LoRaWAN 12 + receive windows"
        out.append(Result(group, "empty poll and answer", sizes["poll"], "bytes", beside=beside))
        out.append(Result(group, "20 confirmed readings and ack", sizes["twenty"], "bytes"))
        out.append(Result(group, "command and reply, with acks", sizes["command"], "bytes"))
        trips = sizes["trips"]
        out.append(at_most(group, "round trips to publish and poll from sleep", trips, "", 1, "LoRaWAN 1, MQTT-SN 3"))
    return out


def _operations(is_serial: bool) -> dict[str, int]:
    def size(frame: bytes) -> int:
        return len(cobs(frame)) + 1 if is_serial else len(frame)

    def total(link: BadLink, start: int) -> int:
        return sum(map(size, link.sent[start:]))

    pair = Pair(next_sequence=5, addressed=not is_serial)
    pair.gateway.taken = pair.gateway.durable = 4  # a gateway that knows the node
    pair.run(lambda: pair.node.state == states.ONLINE)
    out = {"join": size(pair.up.sent[0]) + size(pair.down.sent[0])}

    def during(action: Callable[[], object], *, for_ms: int = 3000) -> int:
        pair.run(for_ms=1000)
        up, down = len(pair.up.sent), len(pair.down.sent)
        action()
        pair.run(for_ms=for_ms)
        out["trips"] = len(pair.up.sent) - up
        return total(pair.up, up) + total(pair.down, down)

    out["reading"] = during(lambda: pair.node.publish(0, TEN_BYTES, pair.now))
    trips = out["trips"]
    out["poll"] = during(lambda: pair.node.session.send(_ping()))
    out["twenty"] = during(lambda: [pair.node.publish(0, 21.5 + i, pair.now) for i in range(20)])

    def command() -> None:
        pair.gateway.request(0, [True], pair.now)
        pair.run(lambda: pair.count("command") > 0)
        event = next(event for event in pair.events if event[0] == "command")
        pair.node.reply(event[1], wire.OK, None)

    out["command"] = during(command)
    out["trips"] = trips
    return out


def _ping() -> Encoded:
    return Encoded(bytes((wire.PING,)))
