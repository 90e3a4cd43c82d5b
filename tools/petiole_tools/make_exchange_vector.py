"""The transcript of an exchange, from PROTOCOL.md. Made without the core; `make_vectors` writes the file."""

from typing import Any

from . import protocol_records as r
from . import protocol_sealing as s
from .make_protocol_vectors import BOOT, KEY, MANIFEST, MANIFEST_HASH, RANDOM, SOURCE, TIME
from .protocol_sealing import GATEWAY, NODE

Case = dict[str, Any]
WAY = 5  # ms over the link
START = 1000


class Transcript:
    """Collects steps; each end's counters and the session are kept by hand, as one would on paper."""

    def __init__(self) -> None:
        self.steps: list[Case] = []
        self.request = s.join_request(KEY, RANDOM, BOOT, b"\x01" + MANIFEST_HASH, False)
        self.accept_nonce = (TIME + START + WAY).to_bytes(6, "big") + b"\x5a"
        self.context = s.session_context(KEY, self.request, self.accept_nonce)
        self._counters = {NODE: 0, GATEWAY: 0}

    def step(self, at: int, end: str, event: str, *sends: bytes | tuple[bytes, str], **more: Any) -> None:
        """`end` sees the event, then sends. A frame with a text says what is inside."""
        out = []
        for frame in sends:
            data, says = frame if isinstance(frame, tuple) else (frame, "")
            out.append({"frame": data.hex(), "says": says})
        self.steps.append({"at": at, "end": end, "event": event, **more, "sends": out})

    def data(self, sender: bytes, plaintext: bytes, says: str, is_long: bool = False) -> tuple[bytes, str]:
        self._counters[sender] += 1
        counter = self._counters[sender]
        return s.data(self.context, sender, counter, plaintext, None, is_long), f"DATA {counter}: {says}"

    def ack(self, sender: bytes, counter: int) -> tuple[bytes, str]:
        return s.ack(self.context, sender, counter), f"ACK of {counter}"


def exchange() -> dict[str, Any]:
    """`at` is the node's clock in ms; the gateway's time is `time` + `at`. "receive" means the frame before it that
    this end has not seen, sent 5 ms ago. An end may choose differently where PROTOCOL.md leaves it free; then its
    frames differ, and what they say does not."""
    t = Transcript()
    _join(t)
    _reading(t)
    _command(t)
    _request(t)
    _loss(t)
    return {
        "source": SOURCE,
        "device_key": KEY.hex(),
        "join_random": RANDOM.hex(),
        "boot": BOOT,
        "reset_reason": 1,
        "manifest": r.cbor(MANIFEST).hex(),
        "next_sequence": 41,
        "time": TIME,
        "accept_random": "5a",
        "address": 300,
        "durable": 40,
        "session": t.context.describe(),
        "steps": t.steps,
    }


def _join(t: Transcript) -> None:
    plaintext = s.address_bytes(300) + (40).to_bytes(2, "big")
    accept = s.join_accept(KEY, t.request, t.accept_nonce, plaintext, False)
    t.step(1000, "node", "link up", (t.request, "JOIN_REQUEST"))
    t.step(1005, "gateway", "receive", (accept, "JOIN_ACCEPT: address 300, durable 40"))
    t.step(1010, "node", "receive", t.data(NODE, b"", "empty"), expect="online")
    first = r.acks(1) + r.MANIFEST_REQUEST
    t.step(1015, "gateway", "receive", t.data(GATEWAY, first, "ACK 1, MANIFEST_REQUEST"), also="ask for the manifest")
    manifest = r.acks(1) + r.extension(r.MANIFEST, MANIFEST)
    t.step(1020, "node", "receive", t.data(NODE, manifest, "ACK 1, MANIFEST"))
    t.step(1025, "gateway", "receive", t.ack(GATEWAY, 2))
    t.step(1030, "node", "receive")


def _reading(t: Transcript) -> None:
    reading = r.reading(0, r.NOW, 21.5, low=41)
    t.step(2000, "node", "publish", t.data(NODE, reading, "reading 41"), channel=0, value=21.5)
    t.step(2005, "gateway", "receive", expect=[0, 41, TIME + 2005, 21.5])
    t.step(2045, "gateway", "durable", t.ack(GATEWAY, 3))
    t.step(2050, "node", "receive", expect="durable")


def _command(t: Transcript) -> None:
    command = r.extension(r.REQUEST, [2, 0, [True], 5000])
    t.step(3000, "gateway", "command", t.data(GATEWAY, command, "REQUEST 2"), target=0, arguments=[True], timeout=5000)
    t.step(3005, "node", "receive", expect="command")
    reply = r.acks(2) + r.extension(r.REPLY, [2, 0, None])
    t.step(3012, "node", "reply", t.data(NODE, reply, "ACK 2, REPLY 2"), id=2, status=0, value=None)
    t.step(3017, "gateway", "receive", t.ack(GATEWAY, 4), expect=[2, 0, None])
    t.step(3022, "node", "receive")


def _request(t: Transcript) -> None:
    request = r.extension(r.REQUEST, [5, "time.now", {"zone": "UTC"}, 5000])
    t.step(
        4000, "node", "request", t.data(NODE, request, "REQUEST 5"), subject="time.now", arguments={"zone": "UTC"},
        timeout=5000,
    )  # fmt: skip
    t.step(4005, "gateway", "receive", expect=[5, "time.now", {"zone": "UTC"}, 5000])
    t.step(4025, "gateway", "time", t.ack(GATEWAY, 5))  # nobody has answered within 20 ms
    t.step(4030, "node", "receive")
    reply = r.extension(r.REPLY, [5, 0, "12:00"])
    t.step(4100, "gateway", "reply", t.data(GATEWAY, reply, "REPLY 5"), id=5, status=0, value="12:00")
    t.step(4105, "node", "receive", t.ack(NODE, 3), expect="reply")
    t.step(4110, "gateway", "receive")


def _loss(t: Transcript) -> None:
    """The shortest timeout is 250 ms, and every round trip so far was far below it."""
    lost = t.data(NODE, r.reading(15, r.NOW, -3, low=42), "reading 42")
    t.step(5000, "node", "publish", lost, channel=15, value=-3, lost=True)
    late = r.reading(0, r.NOW, 22.25, low=43)
    t.step(5100, "node", "publish", t.data(NODE, late, "reading 43"), channel=0, value=22.25)
    t.step(5105, "gateway", "receive", expect=[0, 43, TIME + 5105, 22.25])
    # Frame 7 is younger, but with the oldest all in flight are given up.
    again = r.floor(42, 0) + r.reading(15, r.AGE, -3, moment=250, low=42)
    again += r.reading(0, r.AFTER, 22.25, moment=100, is_confirmed=True)
    t.step(5250, "node", "time", t.data(NODE, again, "FLOOR 42, reading 42 with age 250, reading 43 after 100", True))
    t.step(5255, "gateway", "receive", expect=[0, 43, TIME + 5105, 22.25])
    both = t.data(GATEWAY, r.acks(8, 1), "ACK 8 and 7")
    t.step(5295, "gateway", "durable", both)
    t.step(5300, "node", "receive", expect="durable")
    t.step(6000, "node", "sleep", t.data(NODE, r.seconds(r.SLEEP, 1200), "SLEEP 600"), seconds=600)
    t.step(6005, "gateway", "receive")
