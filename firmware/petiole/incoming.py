"""What a session has taken out of a frame, for its owner."""

from petiole.records import Reading

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.records import Record


class Incoming:
    """An opened frame: its records, links and acks already taken care of.

    `is_deferred`: it holds confirmed readings, and the owner calls `acknowledge` when they are durable.
    """

    __slots__ = ("counter", "has_acks", "is_frame_deferred", "message", "records")

    def __init__(self, counter: int, taken: "list[Reading | Record]", is_deferred: bool, message: int | None) -> None:
        self.counter = counter
        self.records = taken
        self.is_frame_deferred = is_deferred
        self.message = message  # a whole one with confirmed readings, that came with this frame
        self.has_acks = False

    @property
    def is_deferred(self) -> bool:
        return self.is_frame_deferred or self.message is not None


def has_confirmed(taken: "list[Reading | Record]") -> bool:
    """Whether confirmed readings are among the records."""
    return any(isinstance(record, Reading) and record.sequence is not None for record in taken)
