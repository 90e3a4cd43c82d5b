"""The gateway's end of a session: readings are acknowledged when they are durable, and it may outlive a restart
(PROTOCOL.md, sections 4 and 9). Not on boards."""

from petiole import counter as counters
from petiole import wire
from petiole.incoming import Incoming, has_confirmed
from petiole.session import Session

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.frame import Keys, Split


class GatewaySession(Session):
    """The owner calls `acknowledge` when the confirmed readings of a frame are durable. `floor`: of the session as it
    was resumed, the highest counter that it may have opened before."""

    def __init__(
        self, keys: "Keys", address: int, window: int, now: int, send_counter: int = 1, floor: int = 0
    ) -> None:
        super().__init__(keys, address, window, now, send_counter)
        self.floor = floor
        self.replay = counters.ReplayWindow(floor)
        self._references = counters.References()

    def acknowledge(self, incoming: Incoming, now: int) -> None:
        """The readings of a deferred frame are durable."""
        if incoming.message is not None:
            self._say_taken(incoming.message)
        if incoming.is_frame_deferred:
            self._acks.add(incoming.counter, now)

    def open_data(self, part: "Split", now: int, reference: int = 0) -> "Incoming | str":
        incoming = super().open_data(part, now, reference)
        if isinstance(incoming, str):
            return incoming
        if has_confirmed(incoming.records[: incoming.own]):
            incoming.is_frame_deferred = True
            incoming.asks_for_ack = False
        if incoming.whole is not None and has_confirmed(incoming.records[incoming.own :]):
            self._reassembly.release(incoming.whole)
            incoming.message, incoming.whole = incoming.whole, None
        return incoming

    def _admit(self, counter: int, reference: int) -> "int | None":
        if self.replay.check(counter):
            return self._references.of(counter, self.replay.highest, reference)
        floor = bytes((wire.COUNTER_FLOOR,)) + self.floor.to_bytes(4, "big")
        if 0 < counter <= self.floor and floor not in self._notices:
            self._notices.insert(0, floor)
        return None
