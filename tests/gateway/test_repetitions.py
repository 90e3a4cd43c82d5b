"""A warning that repeats itself is said now and then."""

import json
import subprocess
import sys
from typing import Any

import pytest
from structlog import DropEvent

from petiole_gateway import repetitions
from petiole_gateway.repetitions import FREE, MAX_KNOWN, MAX_PERIOD_S, PERIOD_S, Repetitions


class Rig:
    """A log and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = Repetitions(lambda: self.now)
        self.lines: list[tuple[float, dict[str, Any]]] = []

    def say(self, level: str = "warning", **event: Any) -> bool:
        try:
            self.lines.append((self.now, dict(self.log(None, level, event))))
        except DropEvent:
            return False
        return True

    def every(self, pause_s: float, until_s: float, **event: Any) -> None:
        while self.now < until_s:
            self.say(**event)
            self.now += pause_s


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_repeated_four_times_a_second_for_a_day_is_a_page_of_the_log(rig: Rig) -> None:
    rig.every(0.25, 86_400, event="nats_error", error="refused")
    assert len(rig.lines) < FREE + 35
    assert [event.get("repeated") for _, event in rig.lines[: FREE + 1]] == [None] * FREE + [235]
    assert len(rig.lines) + sum(event.get("repeated", 0) for _, event in rig.lines) > 4 * (86_400 - MAX_PERIOD_S)
    pauses = [later - at for (at, _), (later, _) in zip(rig.lines[FREE:], rig.lines[FREE + 1 :], strict=False)]
    assert max(pauses) <= MAX_PERIOD_S + 0.25


def test_what_a_person_does_by_hand_is_said_each_time(rig: Rig) -> None:
    rig.every(PERIOD_S / FREE, 3600, event="port_lost", link="/dev/ttyACM0")
    assert len(rig.lines) == 3600 / (PERIOD_S / FREE)
    assert not any("repeated" in event for _, event in rig.lines)


def test_only_the_same_words_are_a_repetition_and_news_are_no_warnings(rig: Rig) -> None:
    for number in range(100):
        assert rig.say(event="port_lost", link=f"/dev/ttyACM{number}")
        assert rig.say("info", event="device_joined", device="kitchen")
        rig.say(event="nats_error", error="refused")
    assert sum(event["event"] == "nats_error" for _, event in rig.lines) == FREE


def test_after_a_quiet_time_it_is_news_again(rig: Rig) -> None:
    rig.every(0.25, 7200, event="nats_error", error="refused")
    rig.now += 2 * MAX_PERIOD_S
    del rig.lines[:]
    assert all(rig.say(event="nats_error", error="refused") for _ in range(FREE))
    assert rig.lines[0][1]["repeated"] > 0, "of those before"
    assert not rig.say(event="nats_error", error="refused")


def test_a_thousand_different_warnings_are_remembered_and_no_more(rig: Rig) -> None:
    for number in range(3 * MAX_KNOWN):
        assert rig.say(event="device_unreadable", name=str(number))
    assert len(rig.log._said) == MAX_KNOWN
    for _ in range(2 * FREE):
        rig.say(event="device_unreadable", name=str(3 * MAX_KNOWN - 1))
    assert len(rig.lines) == 3 * MAX_KNOWN + FREE - 1


def test_the_log_of_a_gateway_goes_through_it() -> None:
    says = (
        "from petiole_gateway.log import configure; logger = configure('info', 'json')\n"
        "for number in range(50): logger.warning('nats_error', error='refused'); logger.info('step', number=1)"
    )
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True, timeout=30)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert (events.count("nats_error"), events.count("step")) == (repetitions.FREE, 50)
