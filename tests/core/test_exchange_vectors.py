"""The core against a transcript that was made without it, from PROTOCOL.md alone."""

from petiole import cbor, join, manifest, wire
from petiole import frame as frames
from petiole.endpoint import NodeEndpoint
from petiole.gateway_session import GatewaySession
from petiole.items import Encoded, Request
from petiole.outbox import Outbox
from petiole.records import Reading
from tests.core.support import unhex, vectors
from tests.core.vector_keys import aead


class Exchange:
    """Both ends of the core, told what the transcript tells them; each has to send what the transcript has."""

    def __init__(self, document):
        self.document = document
        self.key = unhex(document["device_key"])
        random = [unhex(document["join_random"])]
        described = unhex(document["manifest"])
        assert manifest.encode(**_fields(described)) == described
        self.node = NodeEndpoint(
            join.Joiner(aead, self.key),
            lambda length: random.pop() if random else bytes(length),
            described,
            Outbox(64, document["next_sequence"]),
            document["boot"],
            document["reset_reason"],
        )
        self.gateway = None
        self.taken = document["durable"]
        self.waiting = []
        self.on_the_way = {"node": [], "gateway": []}
        self.commands = []

    def play(self, step):
        at = step["at"]
        result = None
        out = []
        if step["event"] == "receive":
            result = self.receive(step, unhex(self.on_the_way[step["end"]].pop(0)), at, out)
        elif step["end"] == "node":
            self.tell_node(step, at)
        else:
            self.tell_gateway(step, at)
        end = self.node if step["end"] == "node" else self.gateway
        while True:
            frame = end.next_frame(at)
            if frame is None:
                break
            out.append(frame)
        assert [frame.hex() for frame in out] == [sent["frame"] for sent in step["sends"]], (step, out)
        if not step.get("lost"):
            other = "gateway" if step["end"] == "node" else "node"
            self.on_the_way[other].extend([sent["frame"] for sent in step["sends"]])
        return result

    def receive(self, step, frame, at, out):
        if step["end"] == "node":
            events = self.node.receive(frame, at)
            assert self.node.dropped == {}, (step, self.node.dropped)
            return events[0][0] if events else None
        part = frames.split(frame)
        if part.type == wire.JOIN_REQUEST:
            request = join.open_request(aead, self.key, frame)
            nonce = (self.document["time"] + at).to_bytes(6, "big") + unhex(self.document["accept_random"])
            address, sequence = self.document["address"], self.document["durable"]
            accept, keys = join.accept(aead, self.key, request, address, sequence, nonce)
            self.gateway = GatewaySession(keys, address, wire.WINDOW_DOWNLINK, at)
            out.append(accept)
            return None
        if part.type == wire.ACK:
            assert self.gateway.receive_ack(part, at)
            return None
        incoming = self.gateway.receive_data(part, at, self.taken)
        if step.get("also"):
            self.gateway.send(Encoded(bytes((wire.MANIFEST_REQUEST,))))
        found = None
        for record in incoming.records:
            if isinstance(record, Reading):
                time = self.document["time"] + at - record.age_ms
                found = [record.channel, record.sequence, time, record.value]
            elif record.kind in (wire.REQUEST, wire.REPLY):
                found = record.value
        if incoming.is_deferred:
            self.waiting.append(incoming)
        return found

    def tell_node(self, step, at):
        event = step["event"]
        if event == "link up":
            self.node.link_up(at, False)
        elif event == "publish":
            self.node.publish(step["channel"], step["value"], at)
        elif event == "reply":
            self.node.reply(step["id"], step["status"], step["value"])
        elif event == "request":
            self.node.request(step["subject"], step["arguments"], step["timeout"], at)
        elif event == "sleep":
            self.node.sleep(step["seconds"])
        else:
            assert event == "time"
            assert self.node.deadline(at) <= at

    def tell_gateway(self, step, at):
        event = step["event"]
        if event == "durable":
            # In the order in which their frames came; the hole in between was filled by the later one.
            for incoming in self.waiting:
                self.gateway.acknowledge(incoming, at)
            self.waiting = []
        elif event == "command":
            self.gateway.send(Request(step["target"], step["arguments"], step["timeout"], at))
        elif event == "reply":
            data = cbor.encode([step["id"], step["status"], step["value"]])
            self.gateway.send(Encoded(bytes((wire.REPLY,)) + data))
        else:
            assert event == "time"
            assert self.gateway.deadline(at) <= at


def _fields(described):
    value = cbor.decode(described)[0]
    return {"firmware": value["fw"], "channels": value["ch"], "commands": value["cmd"], "power": value["p"]}


def test_the_exchange_is_played_byte_by_byte():
    document = vectors("exchange.json")
    exchange = Exchange(document)
    for step in document["steps"]:
        result = exchange.play(step)
        assert result == step.get("expect"), (step["at"], result)
    assert exchange.on_the_way == {"node": [], "gateway": []}
    assert exchange.node.outbox.items == []
    assert exchange.node.clock.time(6000) == document["time"] + 6000
