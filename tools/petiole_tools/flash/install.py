"""Put a payload into the slot that does not run, so that at any moment one whole slot is the one to start.

The order is that of `petiole_boot`: state away from the slot, manifest away, files, manifest, root files, state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import petiole_boot
from petiole_boot import MANIFEST, SLOTS, STATE, TRIALS
from petiole_tools.flash.errors import BoardFull, BoardLost
from petiole_tools.flash.payload import START, Payload, digest
from petiole_tools.flash.session import Session

FOREIGN_MAIN = "main_before.py"
_MARGIN_BLOCKS = 8  # folders, the state, and what LittleFS keeps for itself


@dataclass(frozen=True)
class Plan:
    """What is to be done. `slot`: the one that is written; `old`: the one that runs until then, "" if none."""

    slot: str
    old: str
    clears_state: bool  # the state names the slot that is written
    is_there: bool  # the slot to start is the payload already
    send: tuple[str, ...] = ()  # paths in the slot
    copy: tuple[str, ...] = ()  # those that the old slot has, too
    remove: tuple[str, ...] = ()  # paths on the board, files before their folders
    folders: tuple[str, ...] = ()
    root: tuple[str, ...] = ()  # files beside the slots that differ
    absent: tuple[str, ...] = ()  # and those that are to go
    keeps_foreign_main: bool = False
    sent_bytes: int = 0
    needed: int = 0
    free: int = 0
    block: int = 4096
    same: tuple[str, ...] = field(default=())  # in the slot already

    @property
    def changes(self) -> bool:
        return not self.is_there or bool(self.root or self.absent)


def plan(session: Session, payload: Payload, root: str = "/") -> Plan:
    """Look at the board, change nothing. Raises BoardFull."""
    state = petiole_boot.decode(session.read(root + STATE) or b"")
    trees = {slot: session.tree(root + slot) for slot in SLOTS}
    running = state[0] if state else ""
    old = petiole_boot.kept(state)
    if state is None:  # whichever is whole would be started
        old = next((slot for slot in SLOTS if root + slot + "/" + MANIFEST in trees[slot]), "")
    root_files = _root_changes(session, payload, root)
    absent = tuple(path for path in payload.absent if session.tree(root + path))
    main = session.read(root + START)
    foreign = main is not None and b"petiole_boot" not in main and bool(main.strip())
    wanted = {path: (len(data), digest(data)) for path, data in payload.slot.items()}
    wanted[MANIFEST] = (len(payload.manifest), digest(payload.manifest))
    if running and _files(trees[running], root + running + "/") == wanted:
        return Plan(
            running,
            old,
            clears_state=False,
            is_there=True,
            root=root_files,
            absent=absent,
            keeps_foreign_main=foreign,
            sent_bytes=_size(payload.root, root_files),
        )
    slot = SLOTS[1] if old == SLOTS[0] else SLOTS[0]
    here, there = _files(trees[slot], root + slot + "/"), _files(trees[old], root + old + "/") if old else {}
    del wanted[MANIFEST]
    same = tuple(path for path in sorted(wanted) if here.get(path) == wanted[path])
    known = set(there.values())
    missing = [path for path in sorted(wanted) if path not in same]
    copy = tuple(path for path in missing if there.get(path) == wanted[path] and wanted[path] in known)
    send = tuple(path for path in missing if path not in copy)
    folders = sorted({root + slot} | {f"{root}{slot}/{folder}" for path in wanted for folder in _parents(path)})
    extra = [path for path in trees[slot] if path not in folders and _below(path, root + slot) not in wanted]
    free, block = session.room(root)
    remove = tuple(sorted(extra, key=lambda path: (-path.count("/"), path)))
    overwritten = [here[path][0] for path in missing if path in here]
    gained = sum(_blocks(trees[slot][path][0], block) for path in remove) + sum(
        _blocks(size, block) for size in overwritten
    )
    needed = sum(_blocks(wanted[path][0], block) for path in missing) + _MARGIN_BLOCKS * block
    needed += sum(_blocks(len(payload.root[path]), block) for path in root_files)
    if needed > free + gained:
        raise BoardFull(
            f"the firmware needs {needed // 1024} KB of the board's flash, {(free + gained) // 1024} KB are free",
            "remove files that are not petiole's: `petiole shell --port PORT ls`",
        )
    return Plan(
        slot,
        old,
        state is not None and slot in state[:2],
        False,
        send,
        copy,
        remove,
        tuple(path for path in folders if path not in trees[slot]),
        root_files,
        absent,
        foreign,
        _size(payload.slot, send) + _size(payload.root, root_files),
        needed,
        free + gained,
        block,
        same,
    )


def write(
    session: Session,
    payload: Payload,
    plan: Plan,
    *,
    is_trial: bool,
    told: Callable[[int], None] | None = None,
    root: str = "/",
) -> None:
    """Do it. Raises FlashError; the board then starts what it started before, and a repetition goes on from there.

    `is_trial`: the slot has to be confirmed by the gateway's answer; else it stays whatever happens.
    """
    folder = root + plan.slot + "/"
    if not plan.is_there:
        if plan.clears_state:
            session.replace(root + STATE, petiole_boot.encode(plan.old))
        session.remove(folder + MANIFEST)
        for path in plan.remove:
            session.remove(path)
        for path in plan.folders:
            session.make(path)
        for path in plan.copy:
            session.copy(root + plan.old + "/" + path, folder + path)
        for path in plan.send:
            session.write(folder + path, payload.slot[path], told)
        _verify(session, payload, folder)
        session.replace(folder + MANIFEST, payload.manifest)
    if plan.keeps_foreign_main:
        session.copy(root + START, root + FOREIGN_MAIN)
    for path in plan.root:
        session.replace(root + path, payload.root[path])
        if told is not None:
            told(len(payload.root[path]))
    for path in plan.absent:
        session.remove(root + path)
    if not plan.is_there:
        is_trial = is_trial and bool(plan.old)
        starts = TRIALS + 1 if is_trial else 0
        session.replace(root + STATE, petiole_boot.encode(plan.slot, plan.old, starts))


def _verify(session: Session, payload: Payload, folder: str) -> None:
    """What was written is read back before anything can start it."""
    found = _files(session.tree(folder[:-1]), folder)
    for path, data in payload.slot.items():
        if found.get(path) != (len(data), digest(data)):
            raise BoardLost(
                f"{folder}{path} is not what was sent", "try again, with a shorter cable; if it stays, the flash wears"
            )


def _root_changes(session: Session, payload: Payload, root: str) -> tuple[str, ...]:
    changed = []
    for path, data in payload.root.items():
        if session.tree(root + path).get(root + path) != (len(data), digest(data)):
            changed.append(path)
    return tuple(changed)


def _files(tree: dict[str, tuple[int, str]], folder: str) -> dict[str, tuple[int, str]]:
    """Files of a slot by path in it."""
    return {path.removeprefix(folder): found for path, found in tree.items() if found[0] >= 0}


def _size(files: dict[str, bytes], paths: tuple[str, ...]) -> int:
    return sum(len(files[path]) for path in paths)


def _below(path: str, folder: str) -> str:
    return path.removeprefix(folder + "/")


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _blocks(size: int, block: int) -> int:
    return -(-max(size, 0) // block) * block
