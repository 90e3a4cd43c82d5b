"""What a session has taken out of a frame, for its owner."""

from petiole import wire
from petiole.records import Reading, Record


class Incoming:
    """An opened frame: its records, links and acks already taken care of. The owner takes the records, and then says so
    (`Session.settle`).

    `is_deferred`: it holds confirmed readings, and the owner calls `Session.acknowledge` when they are durable.
    """

    __slots__ = ("asks_for_ack", "counter", "has_acks", "is_frame_deferred", "message", "records", "whole")

    def __init__(self, counter: int, taken: "list[Reading | Record]", is_deferred: bool, asks_for_ack: bool) -> None:
        self.counter = counter
        self.records = taken
        self.is_frame_deferred = is_deferred
        self.asks_for_ack = asks_for_ack and not is_deferred
        self.message: int | None = None  # a whole one with confirmed readings, that came with this frame
        self.whole: list[int] = []  # other messages that are whole with this frame, or were taken before
        self.has_acks = False

    @property
    def is_deferred(self) -> bool:
        return self.is_frame_deferred or self.message is not None

    @property
    def is_answered(self) -> bool:
        """What it asks for may be answered at once: its ack goes with that."""
        for record in self.records:
            if isinstance(record, Record) and record.kind in (wire.REQUEST, wire.MAIL):
                return True
        return False


def has_confirmed(taken: "list[Reading | Record]") -> bool:
    """Whether confirmed readings are among the records."""
    return any(isinstance(record, Reading) and record.sequence is not None for record in taken)
