"""What nodes have recorded against what the hub's stream holds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import Error as JetStreamError

Name = tuple[int, int]  # boot, number
READINGS = "up.*.*.*"  # a site's own empty messages have three tokens


@dataclass(frozen=True, slots=True)
class Accepted:
    """A line of a node's file. Times in ms since 1970."""

    name: Name
    taken: int
    returned: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of the hub's stream."""

    device: str
    name: Name
    sequence: int
    at: int
    stream_sequence: int


def read_accepted(path: Path) -> list[Accepted]:
    """A node's file; a last line that was cut off by a kill is none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().split("\n")[:-1]:
        boot, number, taken, returned = map(int, line.split())
        found.append(Accepted((boot, number), taken, returned))
    return found


async def read_stream(client: Client) -> list[Stored]:
    """All readings in the stream UP, in its order. Read again when the cluster was in the middle of an election."""
    for _ in range(10):
        try:
            return await _read_stream(client)
        except (NatsTimeout, JetStreamError):
            continue
    raise AssertionError("the hub's stream cannot be read")


async def _read_stream(client: Client) -> list[Stored]:
    jetstream = client.jetstream(timeout=5)
    found: list[Stored] = []
    if not (await jetstream.stream_info("UP", subjects_filter=READINGS)).state.subjects:
        return found
    subscription = await jetstream.subscribe(READINGS, stream="UP", ordered_consumer=True)
    try:
        while True:
            message = await subscription.next_msg(5)
            document = json.loads(message.data)
            boot, number, _ = document["value"]
            assert message.headers is not None
            assert int(message.headers["Petiole-Sequence"]) == document["sequence"]
            at = round(datetime.fromisoformat(document["at"]).timestamp() * 1000)
            place = message.metadata.sequence.stream
            found.append(Stored(document["device"], (boot, number), document["sequence"], at, place))
            if message.metadata.num_pending == 0:
                return found
    finally:
        await subscription.unsubscribe()


@dataclass
class Verdict:
    """Everything that is wrong, in words; the numbers for a summary."""

    accepted: int = 0
    stored: int = 0
    lost: int = 0
    duplicates: int = 0
    devices: int = 0
    late_ms: int = 0  # worst distance of a reading's time from when it was taken
    back_ms: int = 0  # worst step back of the times of one device
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted}, stored {self.stored}, lost {self.lost}, duplicates {self.duplicates}, "
            f"devices {self.devices}, times within {self.late_ms} ms, steps back at most {self.back_ms} ms"
        )


def compare(
    accepted: dict[str, list[Accepted]],
    stored: list[Stored],
    *,
    window: tuple[int, int],
    tolerance_ms: int,
) -> Verdict:
    """`window`: when the run began and ended, ms since 1970. `tolerance_ms`: how far a time may be off: the longest way
    over a node's link, and what a busy machine adds."""
    verdict = Verdict(accepted=sum(map(len, accepted.values())), stored=len(stored), devices=len(accepted))
    per_device: dict[str, list[Stored]] = defaultdict(list)
    for entry in stored:
        per_device[entry.device].append(entry)
    for device in sorted(set(accepted) | set(per_device)):
        _compare_device(verdict, device, accepted.get(device, []), per_device[device], window, tolerance_ms)
    return verdict


def _compare_device(
    verdict: Verdict,
    device: str,
    accepted: list[Accepted],
    stored: list[Stored],
    window: tuple[int, int],
    tolerance_ms: int,
) -> None:
    def wrong(what: str) -> None:
        verdict.problems.append(f"{device}: {what}")

    times = Counter(entry.name for entry in stored)
    lost = [entry for entry in accepted if entry.name not in times]
    twice = [name for name, count in times.items() if count > 1]
    verdict.lost += len(lost)
    verdict.duplicates += sum(times[name] - 1 for name in twice)
    if lost:
        wrong(f"{len(lost)} accepted readings are missing: {[entry.name for entry in lost[:5]]}")
    if twice:
        wrong(f"{len(twice)} readings are there several times: {twice[:5]}")
    for before, after in pairwise(stored):
        if after.sequence <= before.sequence:
            wrong(f"sequence {after.sequence} follows {before.sequence} at {after.stream_sequence} of the stream")
        if after.name <= before.name:
            wrong(f"reading {after.name} follows {before.name} at {after.stream_sequence} of the stream")
        verdict.back_ms = max(verdict.back_ms, before.at - after.at)
        if after.at < before.at - tolerance_ms:
            wrong(f"the time of {after.name} is {before.at - after.at} ms before that of {before.name}")
    known = {entry.name: entry for entry in accepted}
    for entry in stored:
        if not window[0] - tolerance_ms <= entry.at <= window[1] + tolerance_ms:
            wrong(f"the time of {entry.name} is outside of the run")
        line = known.get(entry.name)
        if line is None:
            continue
        off = abs(entry.at - line.taken)
        verdict.late_ms = max(verdict.late_ms, off)
        if off > tolerance_ms:
            wrong(f"the time of {entry.name} is {entry.at - line.taken} ms off")
