"""Frames of the peer that are still to be acknowledged (PROTOCOL.md, section 8)."""

from petiole import wire

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.records import Writer

MAX_DUE_ACKS = 32  # more are sent by the peer only if it ignores the windows


class Acks:
    """Collects counters and writes them into ACK records. One that finds no room here is sent again by the peer."""

    def __init__(self) -> None:
        self.due: list[tuple[int, int]] = []  # (counter, when at the latest)

    def add(self, counter: int, at: int) -> None:
        """Acknowledge this frame, at that time at the latest."""
        if len(self.due) < MAX_DUE_ACKS:
            self.due.append((counter, at))

    def are_due(self, now: int) -> bool:
        """One of them waits no longer for company."""
        return any(at <= now for _, at in self.due)

    def write(self, writer: "Writer") -> list[tuple[int, int]]:
        """ACK records, each for its highest counter and the eight below, as many as fit. Returns what is due, at once,
        when the frame has been made."""
        left = sorted({counter for counter, _ in self.due})
        while left:
            highest = left[-1]
            bitmap = 0
            rest = []
            for counter in left[:-1]:
                if highest - 1 - counter < 8:
                    bitmap |= 1 << highest - 1 - counter
                else:
                    rest.append(counter)
            if not writer.add(bytes((wire.ACKS, highest & 255, bitmap))):
                break
            left = rest
        return [(counter, 0) for counter in left]
