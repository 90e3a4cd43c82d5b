"""Slots: whatever is interrupted, one whole slot is the one to start, and a slot that never works is given up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import petiole_boot
from petiole_boot import MANIFEST, STATE, TRIALS
from petiole_tools.flash import install
from petiole_tools.flash.payload import Payload
from petiole_tools.flash.session import AGENT, Session
from petiole_tools.sim.runtime import find_micropython

from .rig import BoardVm

ROOT = Path(__file__).resolve().parents[2]


def payload(version: str, **more: bytes) -> Payload:
    """A small firmware: files of which some are the same in each version."""
    slot = {
        "version": version.encode(),
        "petiole/core.mpy": bytes(range(256)) * 5,
        "petiole/port/unix.mpy": b"port" * 150,
        "app.mpy": version.encode() * 700,
        **more,
    }
    return Payload(slot, {"petiole_boot.mpy": b"boot " + version[:1].encode(), "main.py": b"import petiole_boot\n"})


A = payload("A", extra=b"only here")
B = payload("B")
C = payload("C", other=b"c" * 600)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, list[str]]]:
    codes: list[str] = []
    with BoardVm(tmp_path_factory.mktemp("recorded")) as board, Session(board.path, log=codes.append) as session:
        yield session, codes


def flash(session: Session, what: Payload, is_trial: bool) -> None:
    install.write(session, what, install.plan(session, what, "/p/"), is_trial=is_trial, root="/p/")


CASES = {
    "fresh": ([], A, False, ["", "A"]),
    "update": ([(A, False)], B, True, ["A", "B"]),
    "without trial": ([(A, False)], B, False, ["A", "B"]),
    "on trial": ([(A, False), (B, True)], C, True, ["A", "B", "C"]),
    "third": ([(A, False), (B, False)], C, True, ["B", "C"]),
}


@pytest.mark.parametrize("geometry", ["rp2", "esp32"])
@pytest.mark.parametrize("case", CASES)
def test_at_every_cut_of_power_the_old_or_the_new_runs(
    case: str, geometry: str, recorded: tuple[Session, list[str]], tmp_path: Path
) -> None:
    before, last, is_trial, may_run = CASES[case]
    session, codes = recorded
    for path in sorted(session.tree("/p"), key=len, reverse=True):
        session.remove(path)
    session.make("/p")
    codes.clear()
    for what, on_trial in before:
        flash(session, what, on_trial)
    earlier = list(codes)
    codes.clear()
    flash(session, last, is_trial)
    agent = AGENT.read_text()
    steps = {"before": [agent, *earlier], "during": [agent, *codes], "may_run": may_run}
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    binary = find_micropython()
    assert binary is not None
    script = str(ROOT / "tests" / "flash" / "run_flash_power.py")
    command = [binary, "-X", "heapsize=8M", script, geometry, str(tmp_path / "steps.json")]
    path = {"MICROPYPATH": f"{ROOT}:{ROOT / 'firmware'}:.frozen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=path)
    assert done.stdout.endswith("passed\n"), done.stdout + done.stderr


# What a start decides --------------------------------------------------------------------------------------


def slot(root: Path, name: str, what: Payload) -> None:
    for path, data in what.slot.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_bytes(data)
    (root / name / MANIFEST).write_bytes(what.manifest)


@pytest.fixture
def root(tmp_path: Path) -> str:
    slot(tmp_path, "a", A)
    slot(tmp_path, "b", B)
    return f"{tmp_path}/"


def choices(root: str, count: int) -> str:
    return "".join(petiole_boot.choose(root)[0] for _ in range(count))


def test_a_confirmed_slot_runs_for_ever(root: str) -> None:
    petiole_boot.write_state(root, "b", "a")
    assert choices(root, 20) == "b" * 20


def test_a_slot_that_is_never_confirmed_is_given_up_after_its_starts(root: str) -> None:
    petiole_boot.write_state(root, "b", "a", TRIALS + 1)
    assert choices(root, TRIALS + 3) == "b" * TRIALS + "aaa"
    petiole_boot.write_state(root, "b", "a", 2)
    slot, news = petiole_boot.choose(root)
    assert (slot, news) == ("b", "")
    assert petiole_boot.choose(root) == ("a", "slot b is given up, a runs again")


def test_a_confirmed_trial_stays(root: str) -> None:
    petiole_boot.write_state(root, "b", "a", TRIALS + 1)
    start = petiole_boot.Start(root, None)
    start.slot = petiole_boot.choose(root)[0]
    start.confirm()
    assert petiole_boot.read_state(root) == ("b", "a", 0, 0)
    assert choices(root, 10) == "b" * 10


def test_who_was_replaced_meanwhile_confirms_nothing(root: str) -> None:
    petiole_boot.write_state(root, "a")
    start = petiole_boot.Start(root, None)
    start.slot = petiole_boot.choose(root)[0]
    petiole_boot.write_state(root, "b", "a", TRIALS + 1)
    start.confirm()
    assert petiole_boot.read_state(root) == ("b", "a", TRIALS + 1, 0)


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest", "half a manifest", "empty manifest"])
def test_a_damaged_slot_on_trial_is_not_started_at_all(root: str, damage: str) -> None:
    path = Path(root) / "b"
    if damage == "changed":
        (path / "app.mpy").write_bytes(b"B" * 699 + b"b")
    elif damage == "missing":
        (path / "version").unlink()
    elif damage == "no manifest":
        (path / MANIFEST).unlink()
    else:
        text = (path / MANIFEST).read_bytes()
        (path / MANIFEST).write_bytes(text[: len(text) // 2 if damage.startswith("half") else 0])
    petiole_boot.write_state(root, "b", "a", TRIALS + 1)
    assert petiole_boot.choose(root)[0] == "a"


def test_a_confirmed_slot_whose_files_are_damaged_later_is_left_for_the_other(root: str) -> None:
    petiole_boot.write_state(root, "b", "a")
    (Path(root) / "b" / "app.mpy").write_bytes(b"worn")
    start = petiole_boot.Start(root, None)
    pauses = []
    for _ in range(3):
        assert petiole_boot.choose(root)[0] == "b"
        pauses.append(start.crashed(ImportError("app")))
    assert pauses == [2, 4, 8]
    assert petiole_boot.choose(root)[0] == "a"


def test_an_application_with_a_mistake_is_not_taken_for_a_damaged_slot(root: str) -> None:
    petiole_boot.write_state(root, "b", "a")
    start = petiole_boot.Start(root, None)
    for _ in range(300):
        assert petiole_boot.choose(root)[0] == "b"
        assert start.crashed(ValueError("a mistake")) <= 64
    assert petiole_boot.read_state(root) == ("b", "a", 0, 255)
    assert "a mistake" in (Path(root) / "crash.txt").read_text()


@pytest.mark.parametrize("text", [b"", b"P1", b"P1a\0\0\0\0\0\0\0", b"\xff" * 10, petiole_boot.encode("a") + b"x"])
def test_a_state_that_cannot_be_read_starts_a_slot_that_is_whole(root: str, text: bytes) -> None:
    (Path(root) / STATE).write_bytes(text)
    (Path(root) / "a" / "version").write_bytes(b"?")
    assert petiole_boot.choose(root)[0] == "b"
    assert petiole_boot.read_state(root) == ("b", "", 0, 0)


def test_without_slots_nothing_is_chosen_and_nothing_written(tmp_path: Path) -> None:
    assert petiole_boot.choose(f"{tmp_path}/") == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_the_one_that_works() -> None:
    assert petiole_boot.kept(None) == ""
    assert petiole_boot.kept(("a", "b", 0, 0)) == "a"
    assert petiole_boot.kept(("a", "b", 2, 0)) == "b"
    assert petiole_boot.kept(("a", "", 0, 9)) == "a"
