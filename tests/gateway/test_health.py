"""What is wrong with a gateway, judged from what it says of itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from petiole_gateway.monitoring.health import BACKLOG, ERROR, LEAF_GRACE_S, STORE_GRACE_S, judge, span

GOOD: dict[str, Any] = {
    "site": "barn",
    "clock": "synchronised",
    "leaf": {"embedded": True, "connected": True, "away_s": 0.0, "hub_configured": True, "hub_link_up": True},
    "store": {"healthy": True, "not_at_hub": 3, "barrier_failed_total": 0},
    "links": [{"name": "udp", "open": True}, {"name": "/dev/ttyUSB0", "problem": None}],
}


def with_(part: str, **changes: Any) -> dict[str, Any]:
    return {**GOOD, part: {**GOOD[part], **changes}}


def codes(status: dict[str, Any], *stalled: str) -> list[str]:
    return [finding.code for finding in judge(status, stalled).findings]


def test_a_gateway_that_is_well_lives_and_is_ready() -> None:
    health = judge(GOOD)
    assert (health.findings, health.is_live, health.is_ready, health.line) == ((), True, True, "")
    assert health.document() == {"live": True, "ready": True, "findings": []}


def test_what_an_older_gateway_does_not_say_is_taken_for_good() -> None:
    assert judge({}).findings == ()
    assert judge({"leaf": {}, "store": None, "links": None}).findings == ()


@pytest.mark.parametrize(
    ("status", "code", "is_live", "is_ready"),
    [
        (with_("leaf", connected=False, away_s=2.0), "leaf_away", True, False),
        (with_("leaf", connected=False, away_s=LEAF_GRACE_S + 1), "leaf_gone", False, False),
        (with_("leaf", hub_link_up=False), "hub_link_down", True, True),
        (with_("store", not_at_hub=BACKLOG + 1), "backlog", True, True),
        (with_("store", healthy=False), "store_refuses", True, False),
        (with_("store", waiting_s=STORE_GRACE_S + 1, pending=3), "store_refuses", True, False),
        (with_("leaf", write_problem="UP: no space left on device"), "store_refuses", True, False),
        (with_("store", barrier_failed_total=1), "disk_errors", True, True),
        ({**GOOD, "clock": "unsynchronised"}, "clock_doubtful", True, True),
        ({**GOOD, "links": [{"name": "/dev/ttyUSB0", "problem": "busy"}]}, "port_closed", True, True),
        (
            {**GOOD, "links": [{"name": "/dev/ttyUSB0", "problem": None, "state": "released", "released_for_s": 90.0}]},
            "port_released",
            True,
            True,
        ),
    ],
)
def test_each_trouble_has_its_code_and_says_whether_a_restart_helps(
    status: dict[str, Any], code: str, is_live: bool, is_ready: bool
) -> None:
    health = judge(status)
    assert codes(status) == [code]
    assert (health.is_live, health.is_ready) == (is_live, is_ready)
    assert health.line == health.findings[0].problem
    assert all(text and "\n" not in text for each in health.findings for text in (each.problem, each.hint))


def test_a_disk_that_is_full_is_told_once_and_how_it_goes_on() -> None:
    status = {
        **with_("leaf", write_problem="UP: no space left on device"),
        "store": {"healthy": False, "waiting_s": 99},
    }
    [found] = judge(status).findings
    assert found.problem == "the leaf server cannot write: UP: no space left on device"
    assert "make room" in found.hint
    assert codes(with_("store", waiting_s=STORE_GRACE_S - 1, pending=3)) == []


def test_a_hub_that_refuses_the_site_is_not_waited_for() -> None:
    away = judge(with_("leaf", hub_link_up=False)).findings[0]
    assert "catches up by itself" in away.hint
    refused = judge(with_("leaf", hub_link_up=False, hub_refusal="Authorization Violation")).findings[0]
    assert refused.code == away.code
    assert refused.problem.endswith("; the hub says: Authorization Violation")
    assert "hub_credentials" in refused.hint
    assert "by itself" not in refused.hint


def test_a_path_is_said_once() -> None:
    link = {"name": "/dev/ttyUSB0", "problem": "/dev/ttyUSB0: does not exist"}
    assert judge({**GOOD, "links": [link]}).line == "/dev/ttyUSB0: does not exist"
    link = {"name": "usb:E66", "problem": "/dev/ttyUSB0: does not exist"}
    assert judge({**GOOD, "links": [link]}).line == "usb:E66: /dev/ttyUSB0: does not exist"


def test_work_that_does_not_go_on_is_cured_by_a_restart() -> None:
    health = judge(GOOD, ["the event loop"])
    assert codes(GOOD, "the event loop") == ["stalled"]
    assert not health.is_live
    assert not health.is_ready


def test_errors_come_before_warnings() -> None:
    status = {**with_("store", healthy=False), "clock": "unsynchronised"}
    status["links"] = [{"name": "/dev/ttyUSB0", "problem": "busy"}]
    found = judge(status).findings
    assert [each.severity == ERROR for each in found] == [True, False, False]


def test_a_link_that_is_down_says_since_when_and_what_waits() -> None:
    at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    [finding] = judge(with_("leaf", hub_link_up=False, hub_link_changed_at=at)).findings
    assert finding.problem == "the link to the hub is down since 5 min, 3 readings wait"
    assert "since" not in judge(with_("leaf", hub_link_up=False, hub_link_changed_at="x")).line


def test_a_leaf_that_is_away_is_one_finding_not_three() -> None:
    assert codes(with_("leaf", connected=False, away_s=1.0, hub_link_up=False)) == ["leaf_away"]


def test_durations_are_told_in_their_largest_sensible_unit() -> None:
    assert [span(value) for value in (-1, 119, 120, 7199, 7200, 200_000)] == [
        "0 s", "119 s", "2 min", "120 min", "2 h", "2 d",
    ]  # fmt: skip
