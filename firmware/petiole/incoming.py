"""What a session has taken out of a frame, for its owner."""

from petiole.records import Reading

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.records import Record


class Incoming:
    """An opened frame: its records, links and acks already taken care of. The owner takes the records, and then says so
    (`Session.settle`).

    `is_deferred`: it holds confirmed readings, and the owner calls `acknowledge` when they are durable.
    """

    __slots__ = ("asks_for_ack", "counter", "has_acks", "is_frame_deferred", "message", "own", "records", "whole")

    def __init__(self, counter: int, asks_for_ack: bool) -> None:
        self.counter = counter
        self.records: list[Reading | Record] = []
        self.asks_for_ack = asks_for_ack
        self.own: int | None = None  # so many of them are of the frame, the others of a message; None: all
        self.whole: int | None = None  # a message that is whole with this frame, or was taken before
        self.has_acks = False
        # Of a gateway only.
        self.is_frame_deferred = False
        self.message: int | None = None  # a whole one with confirmed readings

    @property
    def is_deferred(self) -> bool:
        return self.is_frame_deferred or self.message is not None


def has_confirmed(taken: "list[Reading | Record]") -> bool:
    """Whether confirmed readings are among the records."""
    return any(isinstance(record, Reading) and record.sequence is not None for record in taken)
