"""A gateway for tests of one node at a time: it seals what the test wants."""

from petiole import frame as frames
from petiole import join, records, wire
from petiole.endpoint import NodeEndpoint
from petiole.outbox import Outbox
from tests.core.pair import KEY, MANIFEST, TIME, aead
from tests.core.support import Rng


class Peer:
    """A gateway that seals what the test wants, and the node it speaks to."""

    def __init__(self, next_sequence=None, limit=64, sequence=0, described=MANIFEST, is_linked=True):
        self.now = 1000
        self.node = NodeEndpoint(join.Joiner(aead, KEY), Rng(3).bytes, described, Outbox(limit, next_sequence), 1, 1)
        self.sequence = sequence
        self.keys = None
        self.counter = 0
        self.requests = []
        if is_linked:
            self.node.link_up(self.now, False)

    def join(self, address=5, request=None):
        """Answer the node's request; return the events."""
        request = join.open_request(aead, KEY, request or self.request())
        nonce = (TIME + self.now).to_bytes(6, "big") + b"r"
        accept, self.keys = join.accept(aead, KEY, request, address, self.sequence, nonce)
        self.counter = 0
        self.now += 10
        return self.node.receive(accept, self.now)

    def request(self):
        """The join request that the node sends next, with time passing."""
        for _ in range(100):
            for frame in self.frames():
                if frame[0] & wire.TYPE_MASK == wire.JOIN_REQUEST:
                    self.requests.append(frame)
                    return frame
            self.now = max(self.now + 1, self.node.deadline(self.now))
        raise AssertionError("no join request")

    def frames(self):
        out = []
        while True:
            frame = self.node.next_frame(self.now)
            if frame is None:
                return out
            out.append(frame)
            assert len(out) < 100

    def say(self, plaintext, counter=None):
        self.counter = counter or self.counter + 1
        return self.node.receive(frames.seal_data(self.keys, self.counter, plaintext, None, True), self.now)

    def heard(self):
        """The records of all DATA frames that the node sends now; acknowledges them."""
        out = []
        for frame in self.frames():
            part = frames.split(frame)
            if part.type != wire.DATA:
                continue
            value, bits, offset = frames.data_counter(part)
            last = self.node.session.send_counter - 1
            counter = value if bits == 32 else last - (last - value & 255)
            out += records.parse(frames.open_data(self.keys, part, counter, offset), self.sequence)
            self.node.receive(frames.seal_ack(self.keys, counter, None), self.now)
        return out

    def reject(self, reason, frame):
        return self.node.receive(frames.reject(frames.split(frame), reason), self.now)


def online(**options):
    peer = Peer(**options)
    assert ("online",) in peer.join()
    peer.heard()
    return peer


def numbers(found):
    return [record.sequence for record in found if isinstance(record, records.Reading)]
