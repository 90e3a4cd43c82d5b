"""What `petiole status` says of a hub of several servers."""

from typing import Any

from petiole_tools.findings import findings


def hub(**stream: Any) -> dict[str, Any]:
    row = {"name": "UP", "replicas": 3, "leader": "hub1", "behind": [], **stream}
    return {
        "seen_from": {"is_hub": True},
        "sites": ["barn"],
        "gateways": [{"site": "barn"}],
        "links": [],
        "streams": [row],
        "devices": [],
        "mailboxes": {},
    }


def test_a_hub_without_a_majority_is_named_and_not_its_sites() -> None:
    [found] = findings(hub(leader=None, behind=["hub1", "hub3"]))
    assert found["severity"] == "error"
    assert found["problem"] == "stream UP has no leader, the hub takes nothing: hub1, hub3 away"
    assert "more than half" in found["hint"]


def test_a_site_that_a_hub_with_a_leader_does_not_take_is_named() -> None:
    problems = [each["problem"] for each in findings(hub(behind=["hub2"]))]
    assert problems == ["the hub takes no readings of site barn", "stream UP: hub2 is behind or away"]


def test_a_hub_of_one_server_needs_no_leader() -> None:
    [found] = findings(hub(replicas=1, leader=None))
    assert found["problem"] == "the hub takes no readings of site barn"
