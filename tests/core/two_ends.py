"""Two sessions with the keys of each other, and the plaintexts that go over. For tests of one session at a time."""

from petiole import frame as frames
from petiole import records, wire
from petiole.ccm import Ccm
from petiole.frame import Keys
from petiole.gateway_session import GatewaySession
from petiole.items import Measured
from petiole.session import Session

from .support import Aes

IV = bytes(range(13))


def aead(key, tag_length):
    return Ccm(Aes(key), tag_length)


def keys(is_node, tag_length=8):
    node, gateway = aead(b"n" * 16, tag_length), aead(b"g" * 16, tag_length)
    if is_node:
        return Keys(node, gateway, IV, wire.NODE_ID, wire.GATEWAY_ID, tag_length)
    return Keys(gateway, node, IV, wire.GATEWAY_ID, wire.NODE_ID, tag_length)


class End:
    """A session and everything it has said, frame by frame: `plain` has the plaintexts, None for an ACK frame."""

    def __init__(self, is_node, defers=False, **options):
        window = wire.WINDOW_UPLINK if is_node else wire.WINDOW_DOWNLINK
        kind = GatewaySession if defers else Session
        self.session = kind(keys(is_node), 5, window, 0, **options)
        self.plain = []
        self.dropped = []
        self._seen = []
        self.session.trace = self._trace

    def _trace(self, is_received, counter, plaintext):
        if not is_received:
            self._seen.append((counter, plaintext))

    def frames(self, now):
        """All that is to be sent now."""
        out = []
        while True:
            frame = self.session.next_frame(now)
            if frame is None:
                return out
            self.plain.append(self._seen.pop() if self._seen else (None, None))
            out.append(frame)
            assert len(out) < 50

    def texts(self, now):
        """The plaintexts of all that is to be sent now."""
        start = len(self.plain)
        self.frames(now)
        return [text for _, text in self.plain[start:]]

    def receive(self, frame, now, reference=0):
        part = frames.split(frame)
        assert not isinstance(part, str), part
        if part.type == wire.ACK:
            return self.session.receive_ack(part, now)
        incoming = self.session.receive_data(part, now, reference)
        if isinstance(incoming, str):
            self.dropped.append(incoming)
        return incoming


def ends(**options):
    """(node's end, gateway's end); the gateway defers confirmed readings."""
    return End(True), End(False, True, **options)


def inject(end, counter, plaintext, now=0, reference=0, is_long=True):
    """Give `end` a frame of its peer that was sealed by hand."""
    sender = keys(end.session.keys.own_id == wire.GATEWAY_ID)
    return end.receive(frames.seal_data(sender, counter, plaintext, None, is_long), now, reference)


def kinds(plaintext):
    """What a plaintext says: kinds of records, "reading" for readings."""
    return [getattr(record, "kind", "reading") for record in records.parse(plaintext)]


def reading(sequence, taken=0, value=b"\x01"):
    return Measured(0, sequence, taken, value)


def deliver(sender, receiver, now, reference=0):
    """All that `sender` has to say, to `receiver`; return what it took."""
    return [receiver.receive(frame, now, reference) for frame in sender.frames(now)]
