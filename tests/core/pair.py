"""A node's endpoint and the gateway's half of the core, joined by a bad, seeded link in virtual time."""

from petiole import frame as frames
from petiole import join, manifest, states, wire
from petiole.ccm import Ccm
from petiole.endpoint import NodeEndpoint
from petiole.gateway_session import GatewaySession
from petiole.items import Encoded, Request
from petiole.outbox import Outbox
from petiole.records import Reading

from .support import Aes, Rng

KEY = bytes(range(16))
MANIFEST = manifest.encode("1.2.3", [[0, "temperature", "Cel", "f", 60]], [[0, "led", [["on", "b", True]]]], [0, 0])
TIME = 1_800_000_000_000


def aead(key, tag_length):
    return Ccm(Aes(key), tag_length)


class Gateway:
    """What a gateway does with the core, for one device, in memory. `commit_ms`: until readings are durable."""

    def __init__(self, rng, commit_ms=40):
        self.rng = rng
        self.commit_ms = commit_ms
        self.current = None
        self.provisional = []
        self.accepts = {}
        self.taken = 0  # sequence
        self.durable = 0
        self.told = 0  # the highest number that a node without a memory was told
        self.readings = []  # (sequence, value, time), in order
        self.held = {}
        self.waiting = []  # (when, session, incoming, records)
        self.records = []
        self.requests = []
        self.live = []
        self.dropped = {}
        self.out = []
        self.last_time = 0
        self.auto_reply = True

    def receive(self, frame, now):
        part = frames.split(frame)
        reason = part if isinstance(part, str) else self._receive(part, frame, now)
        if reason:
            self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _receive(self, part, frame, now):
        if part.type == wire.JOIN_REQUEST:
            return self._join(frame, now)
        sessions = ([self.current] if self.current else []) + self.provisional
        if part.type == wire.ACK:
            for session in sessions:
                if session.receive_ack(part, now):
                    return ""
            return "unexpected"
        for session in sessions:
            incoming = session.receive_data(part, now, self.taken)
            if incoming == "tag":
                continue
            if isinstance(incoming, str):
                return incoming
            if session is not self.current:
                self.current = session
                self.provisional = []
            for record in incoming.records:
                self._take(record, now)
            if incoming.is_deferred:
                self.waiting.append((now + self.commit_ms, session, incoming, incoming.records))
            return ""
        self.out.append(frames.reject(part, wire.REJECT_SESSION))
        return "unknown_session"

    def _join(self, frame, now):
        frame = bytes(frame)
        if frame in self.accepts:
            self.out.append(self.accepts[frame])
            return ""
        request = join.open_request(aead, KEY, frame)
        if request is None:
            return "tag"
        self.last_time = max(self.last_time + 1, TIME + now)
        nonce = self.last_time.to_bytes(6, "big") + self.rng.bytes(1)
        address = 1 + self.rng.below(300)
        sequence = self.durable
        if request.wants_full_sequence:
            # What an earlier life of the node has on the way may still come under its session.
            sequence = self.taken
            if self.current is not None or self.provisional:
                sequence = max(sequence, self.told) + wire.MAX_SEQUENCES_AHEAD
            self.told = sequence
        answer, keys = join.accept(aead, KEY, request, address, sequence, nonce)
        self.accepts[frame] = answer
        session = GatewaySession(keys, address, wire.WINDOW_DOWNLINK, now)
        self.provisional = self.provisional[-1:] + [session]
        self.out.append(answer)
        return ""

    def _take(self, record, now):
        if isinstance(record, Reading):
            at = record.at_ms if record.at_ms is not None else TIME + now - record.age_ms
            if record.sequence is None:
                self.live.append((record.channel, record.value))
            elif record.sequence > self.taken:
                assert record.sequence - self.taken <= wire.MAX_SEQUENCES_AHEAD
                self.held[record.sequence] = (record.sequence, record.value, at)
        elif record.kind == wire.FLOOR:
            for sequence in sorted(number for number in self.held if number < record.value[0]):
                self.readings.append(self.held.pop(sequence))
            self.taken = max(self.taken, record.value[0] - 1)
        elif record.kind == wire.REQUEST and self.auto_reply:
            reply = bytes((wire.REPLY,)) + b"\x83" + _cbor(record.value[0]) + _cbor(0) + _cbor(record.value[2])
            self.current.send(Encoded(reply))
            self.records.append(record)
        elif record.kind == wire.REPLY:
            # A reply may come twice; the request it answers is open once.
            if record.value[0] in self.open:
                self.records.append(record)
        else:
            self.records.append(record)
        while self.taken + 1 in self.held:
            self.taken += 1
            self.readings.append(self.held.pop(self.taken))

    def request(self, target, arguments, now):
        self.requests.append(Request(target, arguments, 5000, now))
        self.current.send(self.requests[-1])

    @property
    def open(self):
        answered = [record.value[0] for record in self.records if record.kind == wire.REPLY]
        return [item.id for item in self.requests if item.id is not None and item.id not in answered]

    def next_frames(self, now):
        kept = []
        for entry in self.waiting:
            when, session, incoming, records = entry
            durable = all(not isinstance(r, Reading) or r.sequence is None or r.sequence <= self.taken for r in records)
            if when <= now and durable:
                session.acknowledge(incoming, now)
                sequences = [r.sequence for r in records if isinstance(r, Reading) and r.sequence]
                self.durable = max([self.durable] + sequences)
            else:
                kept.append(entry)
        self.waiting = kept
        out, self.out = self.out, []
        while self.current is not None:
            frame = self.current.next_frame(now)
            if frame is None:
                break
            out.append(frame)
        return out

    def deadline(self, now):
        times = [now] if self.out else []
        # What waits for a gap is looked at again when a frame fills it.
        times += [when for when, _, _, _ in self.waiting if when > now]
        if self.current is not None:
            deadline = self.current.deadline(now)
            if deadline is not None:
                times.append(deadline)
        return min(times) if times else None


def _cbor(value):
    from petiole import cbor

    return cbor.encode(value)


class BadLink:
    """One direction. Probabilities in percent, delays in ms."""

    def __init__(self, rng, loss=0, duplicate=0, reorder=0, corrupt=0, delay=5):
        self.rng = rng
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.corrupt = corrupt
        self.delay = delay
        self.is_cut = False
        self.frames = []  # (arrival, number, frame)
        self.number = 0
        self.bytes = 0
        self.sent = []

    def send(self, frame, now):
        assert len(frame) <= wire.MAX_FRAME
        self.sent.append(frame)
        self.bytes += len(frame)
        if self.is_cut or self.rng.below(100) < self.loss:
            return
        for _ in range(2 if self.rng.below(100) < self.duplicate else 1):
            arrival = now + self.delay
            if self.rng.below(100) < self.reorder:
                arrival += self.rng.below(60)
            data = bytearray(frame)
            if self.rng.below(100) < self.corrupt:
                data[self.rng.below(len(data))] ^= 1 << self.rng.below(8)
            self.number += 1
            self.frames.append((arrival, self.number, bytes(data)))

    def arrived(self, now):
        out = sorted(entry for entry in self.frames if entry[0] <= now)
        self.frames = [entry for entry in self.frames if entry[0] > now]
        return [entry[2] for entry in out]

    def deadline(self):
        return min(entry[0] for entry in self.frames) if self.frames else None


class Pair:
    """Both ends and the clock. `run` lets time pass until nothing more happens or `until` says so."""

    def __init__(self, seed=1, next_sequence=None, addressed=False, commit_ms=40, outbox_limit=64, **bad):
        self.rng = Rng(seed)
        self.now = 1000
        self.gateway = Gateway(self.rng, commit_ms)
        self.up = BadLink(self.rng, **bad)
        self.down = BadLink(self.rng, **bad)
        self.events = []
        self.addressed = addressed
        self.node = None
        self.boot = 0
        self.start_node(Outbox(outbox_limit, next_sequence))

    def start_node(self, outbox):
        self.boot += 1
        self.node = NodeEndpoint(join.Joiner(aead, KEY), self.rng.bytes, MANIFEST, outbox, self.boot, 1)
        self.node.link_up(self.now, self.addressed)

    def pump(self):
        """Deliver and send what is due now."""
        for frame in self.up.arrived(self.now):
            self.gateway.receive(frame, self.now)
        for frame in self.down.arrived(self.now):
            self.events += self.node.receive(frame, self.now)
        self.events += self.node.expire(self.now)
        while True:
            frame = self.node.next_frame(self.now)
            if frame is None:
                break
            self.up.send(frame, self.now)
        for frame in self.gateway.next_frames(self.now):
            self.down.send(frame, self.now)

    def run(self, until=None, for_ms=120_000):
        end = self.now + for_ms
        while True:
            self.pump()
            if until is not None and until():
                return True
            times = [self.up.deadline(), self.down.deadline(), self.node.deadline(self.now)]
            times = [t for t in times + [self.gateway.deadline(self.now)] if t is not None]
            following = min(times) if times else end
            if following >= end:
                self.now = end
                return until is None
            self.now = max(following, self.now + 1)

    def count(self, name):
        return len([event for event in self.events if event[0] == name])


def online(**options):
    pair = Pair(**options)
    assert pair.run(lambda: pair.node.state == states.ONLINE)
    assert pair.run(lambda: pair.gateway.current is not None)
    return pair


def publish_all(pair, count, start=0):
    """Publish as room comes, until everything is durable."""
    state = {"next": start}

    def is_done():
        while state["next"] < start + count and len(pair.node.outbox.items) < 64:
            pair.node.publish(0, state["next"], pair.now)
            state["next"] += 1
        return state["next"] == start + count and not pair.node.outbox.items

    assert pair.run(is_done, for_ms=3_600_000), (state, pair.node.outbox.items, pair.gateway.dropped)


def answer_commands(pair, results, count):
    """Run until the node has answered `count` commands, each with twice its first argument."""

    def is_answered():
        for event in pair.events:
            if event[0] == "command":
                results.append(event[3][0])
                pair.node.reply(event[1], wire.OK, event[3][0] * 2)
        pair.events.clear()
        return len([record for record in pair.gateway.records if record.kind == wire.REPLY]) == count

    assert pair.run(is_answered)
