"""The dashboard and the alerts that come with the gateway ask for nothing that it does not have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .real_time import until
from .test_monitoring import Watched, fetch

FOLDER = Path(__file__).parents[2] / "gateway" / "grafana"
DASHBOARD = FOLDER / "petiole.json"
ALERTS = FOLDER / "alerts.yml"
# Made by the scraper, not by the gateway.
SCRAPED = {"instance", "job", "le"}


def panels() -> list[dict[str, Any]]:
    found = json.loads(DASHBOARD.read_text())["panels"]
    assert isinstance(found, list)
    return found


def queries() -> Iterator[tuple[str, str, str]]:
    """(where, query, legend) of the dashboard and of the alerts."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for block in re.split(r"(?m)^      - alert: ", ALERTS.read_text())[1:]:
        expression = re.search(r"(?m)^        expr: (.*)$", block)
        assert expression is not None, block
        used = " ".join(f"{{{{{name}}}}}" for name in re.findall(r"\$labels\.(\w+)", block))
        yield block.split("\n")[0], expression[1], used


def names_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:petiole|process)_\w+", query))


async def exposed(world: Watched) -> dict[str, set[str]]:
    """Every name that can be asked for, with its labels."""
    world.gateway.monitoring._exposition._made_at = float("-inf")  # type: ignore[union-attr]
    _, _, body = await fetch(world.http_port, "/metrics")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(body.decode()):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        labels = {name for sample in family.samples for name in sample.labels}
        for suffix in suffixes:
            found[family.name.removesuffix("_total") + suffix] = labels
    return found


async def test_every_query_uses_metrics_and_labels_that_exist(tmp_path: Path) -> None:
    world = Watched(tmp_path, per_device=True)
    try:
        await world.start()
        world.trust_clock(False)  # so that there is a problem with its labels
        node = await world.node("kitchen")
        node._sock.send(b"\x00noise")
        await until(lambda: bool(world.gateway.hub.traffic.dropped))
        world.gateway.hub.device("kitchen").count_drop("tag")
        exist = await exposed(world)
    finally:
        await world.end()
    # No serial port is open here; its label is the one of the drop counters.
    exist["petiole_gateway_link_framing_dropped_total"] |= {"link", "reason"}
    exist["petiole_gateway_link_opened_total"] |= {"link"}
    asked = 0
    for where, query, legend in queries():
        names = names_in(query)
        asked += len(names)
        assert names <= set(exist), (where, names - set(exist))
        have = set.union(SCRAPED, *(exist[name] for name in names)) if names else SCRAPED
        grouped = {
            label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(",")
        }
        filtered = {label for braces in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)=", braces)}
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert grouped | filtered | shown <= have, (where, (grouped | filtered | shown) - have)
    assert asked > 50


def test_every_query_is_promql() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt install prometheus")
    rules = [
        {"record": f"checked:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query, _) in enumerate(queries())
    ]
    document = json.dumps({"groups": [{"name": "checked", "rules": rules}]}).encode()
    # YAML is a superset of JSON.
    for text in (document, ALERTS.read_bytes()):
        done = subprocess.run(
            [promtool, "check", "rules", "--lint-fatal", "/dev/stdin"], input=text, capture_output=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_dashboard_is_whole() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert all("$instance" in target["expr"] for target in panel["targets"]), panel["title"]
