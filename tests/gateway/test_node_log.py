"""What nodes say: all of it for whoever asks, and not too much of it for the card that the log lies on."""

from __future__ import annotations

from typing import Any

from petiole_gateway.hub.node_log import BURST, KEPT, MAX_SPEAKERS, REFILL_MS, NodeLog


class Said:
    """A logger that keeps, and the clock of whoever writes to it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.at_ms = 0
        self.log = NodeLog(self, lambda: self.at_ms, lambda: "2026-01-01T00:00:00.000Z")  # type: ignore[arg-type]

    def info(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    def error(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, "level": "error", **fields})

    def texts(self, device: str) -> list[str]:
        return [event["text"] for event in self.events if event["device"] == device]


def test_one_that_says_too_much_is_cut_short_and_how_much_is_missing_is_said() -> None:
    said = Said()
    shown: list[dict[str, Any]] = []
    said.log.publish = shown.append
    for number in range(BURST + 7):
        said.log.say("a", str(number))
    assert said.texts("a") == [str(number) for number in range(BURST)]
    said.log.say("b", "hello")
    assert said.texts("b") == ["hello"], "it is no other's fault"
    said.at_ms = REFILL_MS
    said.log.say("a", "again")
    said.log.say("a", "and again")
    assert said.events[-1] == {"event": "node_log", "device": "a", "text": "again", "unsaid": 7}
    assert len(shown) == len(said.log.lines(None)) == BURST + 10
    said.at_ms += REFILL_MS
    said.log.say("a", "later", "error")
    assert said.events[-1] == {"event": "node_log", "level": "error", "device": "a", "text": "later", "unsaid": 1}


def test_one_that_was_silent_for_long_may_say_as_much_as_at_first() -> None:
    said = Said()
    for _ in range(3):
        for number in range(BURST + 1):
            said.log.say("a", str(number))
        said.at_ms += 2 * BURST * REFILL_MS
    assert len(said.texts("a")) == 3 * BURST


def test_a_console_whose_node_is_not_known_has_its_own_limit() -> None:
    said = Said()
    for link in ("ttyACM0", "ttyACM1"):
        for number in range(BURST + 1):
            said.log.say(None, str(number), link=link)
    assert len(said.events) == 2 * BURST


def test_what_is_kept_has_an_end() -> None:
    said = Said()
    for number in range(MAX_SPEAKERS + KEPT):
        said.log.say(f"d{number}", "x")
    assert len(said.log.lines(None)) == KEPT
    assert len(said.log._speakers) == MAX_SPEAKERS
