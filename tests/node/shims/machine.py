"""`machine` of a board, as far as the ports use it: remembers what was asked of it."""

# mypy: ignore-errors
# ruff: noqa: PLW0603
# A module is all the state there is, as on a board.

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

cause = PWRON_RESET
made = []
feeds = 0


class Reset(Exception):
    pass


def reset():
    raise Reset()


def reset_cause():
    return cause


class Pin:
    def __init__(self, number):
        self.number = number


class UART:
    def __init__(self, id, baud, **options):
        self.id = id
        self.baud = baud
        self.options = options
        self.sent = b""
        self.is_open = True
        made.append(self)

    def write(self, data):
        self.sent += data[:100]  # the buffer of a board
        return min(len(data), 100)

    def deinit(self):
        self.is_open = False


class WDT:
    def __init__(self, timeout):
        self.timeout = timeout
        made.append(self)

    def feed(self):
        global feeds
        feeds += 1


class Timer:
    def __init__(self, id):
        self.id = id

    def init(self, period, callback):
        self.period = period
        self.callback = callback
        made.append(self)
