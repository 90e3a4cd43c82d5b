"""Starts a node at power-on: time for Ctrl-C, then the slot that is to run, then what follows an error.

Firmware and application are in one of two folders, `a` and `b`. A slot is whole when it has a manifest and all files
are what the manifest says; nothing else is ever switched to. `slots.st` says which one runs and whether it is on trial:
then it has TRIALS starts, of TRIAL_S each, to call `confirm()`, or the slot before it runs again. Whoever writes a slot

1. takes the one that is not `kept()`, and says so in `slots.st` if it was the one to run,
2. removes its manifest, then writes its files, then its manifest under another name and renames that,
3. writes `slots.st` with `encode(new, old, TRIALS + 1)`.

Each step is one atomic change of LittleFS, so at any cut of power one whole slot is named by `slots.st`. Without slots
the firmware is looked for where this file is, as it was copied there by hand.
"""

import binascii
import gc
import hashlib
import io
import os
import sys
import time

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Json, Port

SLOTS = ("a", "b")
STATE = "slots.st"
MANIFEST = "manifest.txt"
TRIALS = 3
TRIAL_S = 300  # a Wi-Fi that comes back slowly, and a join that is sent again for two minutes

_MAGIC = b"P1"
_SIZE = 10
_WINDOW_MS = 2000  # Ctrl-C reaches the REPL before a watchdog runs, which nothing can stop
_LOOK_AFTER = 3  # errors in a row until the slot's files are looked at
_LONGEST_PAUSE_S = 64
_MOST_CRASHES = 255
_MAX_CRASH = 600  # characters of a traceback
_CHUNK = 512
_CRASH = "crash.txt"  # as the node's port has it
_RESET_CODE = 10  # where a reset is the end of a process


def encode(active: str, previous: str = "", starts: int = 0, crashes: int = 0) -> bytes:
    """What `slots.st` holds. `starts`: 0, confirmed; n, on trial, and n - 1 starts of it are left."""
    data = _MAGIC + bytes((ord(active), ord(previous) if previous else 0, starts, min(crashes, _MOST_CRASHES)))
    return data + binascii.crc32(data).to_bytes(4, "big")


def decode(data: bytes) -> "tuple[str, str, int, int] | None":
    """`encode`'s arguments; None if this is not what it wrote."""
    if len(data) != _SIZE or data[:2] != _MAGIC or binascii.crc32(data[:6]).to_bytes(4, "big") != data[6:]:
        return None
    active, previous = chr(data[2]), chr(data[3]) if data[3] else ""
    if active not in SLOTS or previous not in ("", "a", "b"):
        return None
    return active, previous, data[4], data[5]


def read_state(root: str) -> "tuple[str, str, int, int] | None":
    try:
        with open(root + STATE, "rb") as file:
            return decode(file.read(_SIZE + 1))
    except OSError:
        return None


def write_state(root: str, active: str, previous: str = "", starts: int = 0, crashes: int = 0) -> None:
    """In place if it is there, which LittleFS does at once or not at all; a new file could be seen empty. OSError."""
    name = root + STATE
    if read_state(root) is None:
        name += ".new"
    with open(name, "wb") as file:
        file.write(encode(active, previous, starts, crashes))
    if name != root + STATE:
        os.rename(name, root + STATE)


def kept(state: "tuple[str, str, int, int] | None") -> str:
    """The slot that must not be written now: the one that is confirmed; "" if there is none."""
    if state is None:
        return ""
    active, previous, starts, _ = state
    return previous if starts and previous else active


def digest(path: str) -> bytes:
    """SHA-256 of a file, in hexadecimal digits. OSError."""
    hash = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    with open(path, "rb") as file:
        while True:
            length = file.readinto(buffer)
            if not length:
                return binascii.hexlify(hash.digest())
            hash.update(memoryview(buffer)[:length])


def is_whole(folder: str) -> bool:
    """Whether a slot has all that its manifest says: lines `digest path`, the last `digest` of the lines before."""
    try:
        hash = hashlib.sha256()
        count = 0
        with open(folder + "/" + MANIFEST, "rb") as file:
            while True:
                line = file.readline()
                if len(line) < 65 or line[64:65] != b" ":
                    return count > 0 and line == binascii.hexlify(hash.digest()) + b"\n"
                if digest(folder + "/" + line[65:-1].decode()) != line[:64]:
                    return False
                hash.update(line)
                count += 1
    except (OSError, ValueError):
        return False


def choose(root: str) -> "tuple[str, str]":
    """The slot to start ("": none) and what there is to say about it; takes one start from a slot on trial."""
    state = read_state(root)
    if state is None:
        for slot in SLOTS:
            if is_whole(root + slot):
                write_state(root, slot)
                return slot, "slot " + slot + " runs: there was no " + STATE
        return "", ""
    active, previous, starts, crashes = state
    if starts and previous:
        is_over = starts == 1 or (starts > TRIALS and not is_whole(root + active))
    else:
        is_over = crashes >= _LOOK_AFTER and crashes % _LOOK_AFTER == 0 and not is_whole(root + active)
    if is_over and previous and is_whole(root + previous):
        write_state(root, previous)
        return previous, "slot " + active + " is given up, " + previous + " runs again"
    if starts > 1:
        write_state(root, active, previous, starts - 1, crashes)
    return active, ""


class Start:
    """One start of the node. `confirm()`: it works, as its gateway has seen."""

    def __init__(self, root: str, machine: "Json") -> None:
        self.root = root
        self.slot = ""
        self.board: Port | None = None
        self._machine = machine
        self._timer: Json = None

    def confirm(self) -> None:
        self.end_trial()
        state = read_state(self.root)
        # A slot that was flashed meanwhile is not the one that works.
        if state is not None and state[0] == self.slot and (state[2] or state[3]):
            write_state(self.root, state[0], state[1])

    def begin_trial(self) -> None:
        """Limit the time until `confirm`: a node that runs and never reaches its gateway would stay for ever."""
        state = read_state(self.root)
        if state is None or not state[2] or not hasattr(self._machine, "Timer"):
            return
        self._timer = self._machine.Timer(getattr(self.board, "timer_id", -1))
        self._timer.init(mode=self._machine.Timer.ONE_SHOT, period=1000 * TRIAL_S, callback=lambda _: self.reset())

    def end_trial(self) -> None:
        if self._timer is not None:
            self._timer.deinit()
            self._timer = None

    def crashed(self, error: BaseException) -> int:
        """Keep it for the gateway, and count it; return after how many seconds to start again."""
        if self.board is not None:
            self.board.crashed(error)
        else:
            text = _text(error)
            print(text)
            _write(self.root + _CRASH, text)
        state = read_state(self.root)
        if state is None:
            return 0
        active, previous, starts, crashes = state
        crashes = min(crashes + 1, _MOST_CRASHES)
        try:
            write_state(self.root, active, previous, starts, crashes)
        except OSError as failure:
            print(STATE + ": " + str(failure))
        return min(1 << min(crashes, 8), _LONGEST_PAUSE_S)

    def reset(self) -> None:
        if self.board is not None:
            self.board.reset()
        elif hasattr(self._machine, "reset"):
            self._machine.reset()
        sys.exit(_RESET_CODE)


def _text(error: BaseException) -> str:
    if not hasattr(sys, "print_exception"):
        return repr(error)
    out = io.StringIO()
    sys.print_exception(error, out)
    return out.getvalue()[-_MAX_CRASH:]


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        print(path + ": " + str(error))


def _woke(machine: "Json") -> bool:
    """From a deep sleep, in which nobody waits for a prompt: two seconds awake would cost more than the wake.

    An RP2 wakes by its watchdog. Where that has bitten, pulling the cable gives the time for Ctrl-C.
    """
    if not hasattr(machine, "reset_cause"):
        return True  # a process, which is started again as often as somebody likes
    cause = machine.reset_cause()
    return cause == getattr(machine, "DEEPSLEEP_RESET", -1) or (sys.platform == "rp2" and cause == machine.WDT_RESET)


def run() -> None:
    """Returns when the application does; KeyboardInterrupt passes, so that Ctrl-C ends in the REPL."""
    try:
        import machine  # type: ignore[import-not-found]  # noqa: PLC0415 - a board's module
    except ImportError:
        machine = None
    if not _woke(machine):
        time.sleep(_WINDOW_MS / 1000)
    root = os.getcwd()
    start = Start(root if root.endswith("/") else root + "/", machine)
    try:
        start.slot, news = choose(start.root)
        if start.slot:
            sys.path.insert(0, start.root + start.slot)
        if news:
            print(news)
        from petiole_node import port  # noqa: PLC0415 - of the slot

        start.board = port.choose()
        start.board.started = start
        start.begin_trial()
        gc.collect()
        import app  # noqa: F401, PLC0415 - importing runs it
    except KeyboardInterrupt:
        start.end_trial()
        raise
    except Exception as error:
        pause_s = start.crashed(error)
        if pause_s:
            print("again in " + str(pause_s) + " s; Ctrl-C: the REPL")
            try:
                time.sleep(pause_s)
            except KeyboardInterrupt:
                start.end_trial()
                raise
        start.reset()
