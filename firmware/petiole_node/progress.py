"""A watchdog is fed only while work advances: what has to happen, and by when."""


class Progress:
    """Sans-IO: `now` in ms. Each piece of work has a name, and says before its time is up that it goes on, or ended.

    Whoever feeds the watchdog asks `late` first. A loop that merely turns round feeds nothing: what it waits for has
    to come, or its own limit has to end it.
    """

    def __init__(self) -> None:
        self._due: dict[str, int] = {}

    def expect(self, work: str, now: int, within_ms: int) -> None:
        """The work begins, or has advanced, and will say so again within that time."""
        self._due[work] = now + within_ms

    def done(self, work: str) -> None:
        """Nothing more is expected of it."""
        self._due.pop(work, None)

    def late(self, now: int) -> "str | None":
        """Work that has not advanced in its time: for the log, and then the watchdog is not fed. None: all is well."""
        for work in sorted(self._due):
            if now > self._due[work]:
                return work
        return None
