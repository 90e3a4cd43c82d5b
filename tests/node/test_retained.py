"""What a board keeps over sleep and resets, on MicroPython over models of chips; no nonce is used twice."""

import random
from pathlib import Path

import pytest

from petiole.errors import LocalError
from petiole_node.port import cpython, sleeper
from petiole_node.port.sleeper_files import FileSleeper

from .board import Board

FIXED = "a1" * 26
COUNTERS = "c7" * 18
SESSION = [FIXED, COUNTERS]

BOARDS = [("esp32", 28), ("esp32", 29), ("rp2", 28), ("rp2", 29)]


@pytest.fixture(params=BOARDS, ids=[f"{kind}-1.{release}" for kind, release in BOARDS])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    kind, release = request.param
    return Board(kind, tmp_path, release)


def asleep(board: Board, ms: int = 60_000) -> None:
    """The board has joined, and has slept once."""
    board.run(["fixed", FIXED], ["deep", ms, COUNTERS])


def test_a_session_survives_a_deep_sleep(board: Board) -> None:
    (first,) = board.run(["show"])
    assert first["session"] is None
    asleep(board)
    assert board.end == ("reset" if board.kind == "rp2" else "deepsleep")
    (woken, _) = board.run(["show"], ["show"], ["deep", 60_000, "d8" * 18])
    assert (woken["session"], woken["woke"], woken["reset"]) == (SESSION, 1, 4)
    # A session is written once; counters at each sleep.
    (again,) = board.run(["show"])
    assert (again["session"], again["reset"]) == ([FIXED, "d8" * 18], 4)


def test_waking_is_no_boot_but_a_reset_is(board: Board) -> None:
    (first,) = board.run(["show"], ["fixed", FIXED], ["deep", 1000, COUNTERS])
    (woken,) = board.run(["show"], ["end", "reset"])
    (later,) = board.run(["show"])
    assert [life["boots"] for life in (first, woken, later)] == [1, 1, 2]


@pytest.mark.parametrize("end", ["reset", "watchdog", "soft", "power"])
def test_counters_are_given_out_once(board: Board, end: str) -> None:
    asleep(board)
    (woken,) = board.run(["show"], ["end", end])
    assert woken["session"] == SESSION
    (later,) = board.run(["show"])
    assert later["session"] is None
    assert later["woke"] == 0


@pytest.mark.parametrize("end", ["reset", "watchdog", "soft"])
def test_counters_ahead_of_use_bring_a_session_through_a_reset(board: Board, end: str) -> None:
    board.run(["fixed", FIXED], ["counters", COUNTERS], ["end", end])
    (life,) = board.run(["show"])
    assert (life["session"], life["woke"], life["is_continued"]) == (SESSION, 0, False)
    assert life["reset"] != 4


def test_no_session_survives_loss_of_power(board: Board) -> None:
    asleep(board)
    board.cut_power()
    (life,) = board.run(["show"])
    assert (life["session"], life["woke"], life["reset"], life["now"]) == (None, 0, 1, 0)


def test_garbage_is_nothing(board: Board) -> None:
    """Retained memory of all kinds at power-on; on an RP2 the boot ROM writes there too, to start into USB."""
    asleep(board)
    for byte in (None, None, None, 0, 0xFF):
        board.state["rtc"] = (board.luck.randbytes(2048) if byte is None else bytes([byte] * 2048)).hex()
        board.state["rtc_used"] = 2048
        board.state["scratch"] = [board.luck.getrandbits(32) if byte is None else byte * 0x01010101 for _ in range(8)]
        (life,) = board.run(["show"])
        assert (life["session"], life["woke"], life["is_continued"]) == (None, 0, False)
        assert not life["outbox"]


def test_the_boot_rom_leaves_no_session_behind(tmp_path: Path) -> None:
    board = Board("rp2", tmp_path)
    asleep(board)
    # To start into USB it takes words 2 to 7: what the last sleep left is half there.
    board.state["scratch"][2:] = [0xB007C0D3, 0x4FF83F2D, 0, 0x20042000, 1, 2]
    (life,) = board.run(["show"])
    assert (life["session"], life["woke"], life["reset"]) == (None, 0, 3)


@pytest.mark.parametrize("offset", [0, 3, 4, 5, 12, 20, 27])
def test_one_wrong_bit_in_the_counters_is_a_join(board: Board, offset: int) -> None:
    asleep(board)
    words = offset // 4
    board.corrupt(offset + 4 if board.kind == "rp2" and words >= 4 else offset)
    (life,) = board.run(["show"])
    assert (life["session"], life["is_continued"]) == (None, False)


def test_one_wrong_bit_in_the_session_is_a_join(board: Board) -> None:
    asleep(board)
    if board.kind == "rp2":
        path = board.folder / "session.bin"
        data = bytearray(path.read_bytes())
        data[11] ^= 1
        path.write_bytes(data)
    else:
        board.corrupt(40 + 11)
    (life,) = board.run(["show"])
    assert life["session"] is None


def test_a_brown_out_that_leaves_the_memory_whole_leaves_a_session(tmp_path: Path) -> None:
    """Nothing was sent since, so its counters are right; what time it is nobody knows."""
    board = Board("esp32", tmp_path)
    asleep(board)
    board.state["cause"] = 1
    (life,) = board.run(["show"])
    assert (life["session"], life["woke"], life["reset"], life["is_continued"]) == (SESSION, 0, 1, False)


def test_counters_of_another_session_are_nothing(board: Board) -> None:
    """The board joined again, and crashed before it slept."""
    board.run(["fixed", FIXED], ["counters", COUNTERS], ["fixed", "b2" * 26], ["end", "watchdog"])
    (life,) = board.run(["show"])
    assert life["session"] is None


def test_what_another_version_of_the_firmware_left_is_nothing(board: Board) -> None:
    other = board.folder / "other"
    other.mkdir()
    source = Path(sleeper.__file__).read_text()
    assert "petiole retained 2" in source
    (other / "sleeper.py").write_text(source.replace("petiole retained 2", "petiole retained 3"))
    board.patch = other
    asleep(board)
    (same,) = board.run(["show"], ["deep", 1000, COUNTERS])
    assert same["session"] == SESSION
    board.patch = None
    (life,) = board.run(["show"])
    assert life["session"] is None


def test_readings_have_the_rest_of_the_memory(board: Board) -> None:
    (life,) = board.run(["show"])
    if board.kind == "rp2":
        assert life["room"] is None
        return
    assert life["room"] == 1346
    readings = bytes(i & 255 for i in range(1346)).hex()
    board.run(["fixed", "f1" * 128], ["outbox", readings], ["deep", 1000, COUNTERS])
    (woken,) = board.run(["show"], ["end", "watchdog"])
    assert woken["session"] == ["f1" * 128, COUNTERS]
    assert woken["outbox"] == readings
    # They are no secret that is given out once: they stay until somebody writes there.
    (later,) = board.run(["show"], ["outbox", ""], ["end", "reset"])
    assert later["session"] is None
    assert later["outbox"] == readings
    (empty,) = board.run(["show"])
    assert empty["outbox"] == ""


def test_notes_outlive_sessions(board: Board) -> None:
    notes = "5a" * 512
    board.run(["fixed", FIXED], ["notes", notes], ["deep", 1000, COUNTERS])
    (woken,) = board.run(["show"], ["end", "watchdog"])
    (later,) = board.run(["show"])
    assert (woken["notes"], later["notes"]) == (notes, notes)
    assert later["session"] is None


def test_flash_is_not_written_for_nothing(tmp_path: Path) -> None:
    board = Board("rp2", tmp_path)
    board.run(["show"], ["fixed", FIXED], ["notes", "01"], ["deep", 1000, COUNTERS])
    files = [tmp_path / name for name in ("session.bin", "notes.bin", "boot.cnt")]
    before = [path.stat().st_mtime_ns for path in files]
    for _ in range(3):
        board.run(["show"], ["fixed", FIXED], ["notes", "01"], ["deep", 1000, COUNTERS])
    assert [path.stat().st_mtime_ns for path in files] == before
    board.run(["notes", "02"])
    assert [path.stat().st_mtime_ns for path in files] != before


def test_a_sleep_that_is_refused_leaves_nothing_to_use_twice(tmp_path: Path) -> None:
    board = Board("esp32", tmp_path)
    board.state["refuses_deepsleep"] = True
    (refused,) = board.run(["fixed", FIXED], ["deep", 1000, COUNTERS], ["end", "watchdog"])
    assert "refused" in refused
    (life,) = board.run(["show"])
    assert life["session"] is None


# Any chip, any accident ------------------------------------------------------------------------------------


class Died(BaseException):
    """The board is gone in the middle of something."""


class Chip:
    """What a chip retains, and a world that takes its power, tears what is written and flips bits."""

    def __init__(self, luck: random.Random) -> None:
        self.luck = luck
        self.parts: dict[int, bytes] = {}

    def accident(self) -> None:
        """Between two lives."""
        kind = self.luck.randrange(8)
        if kind == 0:
            self.parts = {part: self.luck.randbytes(len(data)) for part, data in self.parts.items()}
        elif kind == 1:
            part = self.luck.randrange(2)
            data = bytearray(self.parts.get(part, b""))
            if data:
                data[self.luck.randrange(len(data))] ^= 1 << self.luck.randrange(8)
                self.parts[part] = bytes(data)


class WornSleeper(sleeper.Sleeper):
    chip: Chip
    dies_at = 0.0

    def _read(self, part: int, start: int, length: int) -> bytes:
        return self.chip.parts.get(part, b"")[start : start + length]

    def _write(self, part: int, head: bytes, data: bytes) -> None:
        whole = head + data
        if self.chip.luck.random() < self.dies_at:
            done = self.chip.luck.randrange(len(whole) + 1)
            self.chip.parts[part] = whole[:done] + self.chip.parts.get(part, b"")[done:]
            raise Died
        self.chip.parts[part] = whole

    def _wall(self) -> int:
        return self.chip.luck.randrange(1 << 40)

    def _why(self, kept: int) -> int:
        return self.chip.luck.randrange(3)

    def _enter(self, ms: int, counters: bytes | None) -> None:
        if self.chip.luck.random() < 0.1:
            raise OSError("no sleep now")
        raise Died


@pytest.mark.parametrize("seed", range(8))
def test_no_nonce_is_used_twice_whatever_happens(seed: int) -> None:
    luck = random.Random(seed)
    chip = Chip(luck)
    used = set()
    joins = resumed = 0
    WornSleeper.chip = chip
    for life in range(600):
        WornSleeper.dies_at = luck.choice((0, 0, 0.1))
        try:
            port = cpython.Port()
            mine = WornSleeper(port)
            if mine.session is None:
                joins += 1
                fixed = life.to_bytes(4, "big") + luck.randbytes(22)
                counter = 1
                is_kept = False
            else:
                resumed += 1
                fixed, counters = mine.session
                counter = int.from_bytes(counters[:4], "big")
                is_kept = True
            limit = 0
            for _ in range(luck.randrange(1, 8)):
                for _ in range(luck.choice((1, 3, 40))):
                    if limit and counter >= limit:
                        limit = counter + 16
                        mine.keep_counters(limit.to_bytes(4, "big"))
                    assert (fixed, counter) not in used
                    used.add((fixed, counter))
                    counter += 1
                if luck.random() < 0.1:
                    raise Died
                if not is_kept:
                    mine.keep_fixed(fixed)
                    is_kept = True
                if luck.random() < 0.1:
                    limit = counter + 16
                    mine.keep_counters(limit.to_bytes(4, "big"))
                if luck.random() < 0.1:
                    fixed = life.to_bytes(4, "big") + luck.randbytes(22)  # the gateway has forgotten us: join anew
                    counter, limit, is_kept = 1, 0, False
            if not is_kept:
                mine.keep_fixed(fixed)
            try:
                mine.deep_sleep(1000, counter.to_bytes(4, "big"))
            except OSError:
                used.add((fixed, counter))  # still awake, it sends one more
            raise Died
        except Died:
            chip.accident()
    assert resumed > 100
    assert joins > 50


def test_a_clock_goes_on_without_a_session(tmp_path: Path) -> None:
    port = cpython.Port()
    port.use_folder(str(tmp_path))
    before = port.now()
    with pytest.raises(SystemExit):
        port.sleeper().deep_sleep(5000)
    port = cpython.Port()
    port.use_folder(str(tmp_path))
    mine = port.sleeper()
    assert mine.session is None
    assert mine.woke == sleeper.TIMER
    assert port.now() >= before + 5000


def test_a_process_sleeps_by_its_exit(tmp_path: Path) -> None:
    port = cpython.Port()
    port.use_folder(str(tmp_path))
    mine = port.sleeper()
    mine.keep_fixed(b"session")
    with pytest.raises(SystemExit) as ended:
        mine.deep_sleep(250, b"counters")
    assert ended.value.code == 11
    assert (tmp_path / "sleep.ms").read_text() == "250"
    port = cpython.Port()
    port.use_folder(str(tmp_path))
    assert port.sleeper().session == (b"session", b"counters" + bytes(10))
    assert port.reset_reason() == 4
    assert FileSleeper(port).session is None


def test_too_much_is_the_callers_fault(tmp_path: Path) -> None:
    port = cpython.Port()
    port.use_folder(str(tmp_path))
    mine = port.sleeper()
    assert mine.outbox is not None
    with pytest.raises(LocalError):
        mine.keep_fixed(bytes(129))
    with pytest.raises(LocalError):
        mine.keep_counters(bytes(19))
    with pytest.raises(LocalError):
        mine.outbox.write(bytes(1347))
