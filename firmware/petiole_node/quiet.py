"""When flash is written on a board that hears nothing meanwhile (`flash_deafens_uart`)."""

_PATIENCE_MS = 2000  # two timeouts of a session (PROTOCOL.md, section 8): a reading in RAM is worth less than one frame


class Quiet:
    """Sans-IO: `now` in ms. `is_deafened`: writing loses frames here (the board's flash does, and the link is a UART).

    A frame that is lost is sent again, so a write that comes at a bad moment costs time and nothing else: `wait_ms`
    never puts it off for longer than 2 s. The best moments of a sleepy node are before its first frame, and after the
    last answer, before it sleeps.
    """

    def __init__(self, is_deafened: bool) -> None:
        self._is_deafened = is_deafened
        self._until = 0

    def expect(self, now: int, within_ms: int) -> None:
        """An answer is due within that time: a frame that asks for an ack was sent, or the gateway announced more."""
        self._until = max(self._until, now + within_ms)

    def settle(self) -> None:
        """Everything is answered."""
        self._until = 0

    def wait_ms(self, now: int, wanted_at: int) -> int:
        """0: write now. Else ask again after `settle`, or so many ms. `wanted_at`: since when there is data."""
        if not self._is_deafened:
            return 0
        return max(0, min(self._until, wanted_at + _PATIENCE_MS) - now)
