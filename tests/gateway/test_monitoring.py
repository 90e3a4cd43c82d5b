"""`/metrics`, `/healthz` and `/readyz` of a whole gateway, and what slow or hostile clients can do to them."""

import asyncio
import json
import math
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from petiole_gateway.app import Gateway
from petiole_gateway.durations import Durations
from petiole_gateway.monitoring import http_endpoint
from petiole_gateway.monitoring.http_endpoint import MAX_CONNECTIONS, MAX_HEAD, Answer, EndpointError, HttpEndpoint
from petiole_gateway.settings.config import MetricsConfig

from .memory import NullLogger
from .real_time import until
from .whole import World

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    """Every sample by name and labels; the parser is Prometheus' own for Python."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, f"{family.name} has no HELP"
        assert family.type != "unknown", f"{family.name} has no TYPE"
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} comes twice"
            found[key] = sample.value
    return found


async def fetch(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


async def ended(reader: asyncio.StreamReader) -> None:
    """The other end has closed the connection, in whichever way, and said nothing."""
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""


class Watched(World):
    def __init__(self, folder: Path, **metrics: Any) -> None:
        super().__init__(folder)
        section = {"enabled": True, "listen": "127.0.0.1:0", **metrics}
        self.config = self.config.model_copy(update={"metrics": MetricsConfig.model_validate(section)})

    @property
    def http_port(self) -> int:
        assert self.gateway.monitoring is not None
        return self.gateway.monitoring.endpoint.port

    async def metrics(self) -> Samples:
        status, headers, body = await fetch(self.http_port, "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return parsed(body.decode())

    async def page(self) -> Samples:
        """Not the one of a moment ago."""
        assert self.gateway.monitoring is not None
        self.gateway.monitoring._exposition._made_at = -math.inf
        return await self.metrics()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Watched]:
    world = Watched(tmp_path, per_device=True)
    try:
        await world.start()
        world.trust_clock(True)
        yield world
    finally:
        await world.end()


async def test_what_a_gateway_does_is_seen_in_its_metrics(world: Watched) -> None:
    before = await world.metrics()
    node = await world.node("kitchen")
    node.publish(1, 2, 3)
    await until(lambda: node.is_empty)
    node._sock.send(b"\x00noise")
    await until(lambda: bool(world.gateway.hub.traffic.dropped))
    after = await world.page()

    def grew(name: str, **labels: str) -> float:
        key = (f"petiole_gateway_{name}", tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert grew("store_submitted_total") == 3
    assert grew("store_durable_total") == 3
    assert grew("joins_total") == 1
    assert grew("frames_total", direction="up", type="JOIN_REQUEST") >= 1
    assert grew("frames_total", direction="down", type="JOIN_ACCEPT") >= 1
    assert grew("frames_total", direction="up", type="DATA") >= 1
    assert grew("frames_dropped_total", reason="unknown_type") == 1
    assert grew("link_frames_dropped_total", link="udp") == 1
    assert grew("devices", state="online") == 1
    assert grew("sessions", state="current") == 1
    assert grew("store_barrier_seconds_count") >= 1
    assert grew("store_barrier_seconds_bucket", le="+Inf") == grew("store_barrier_seconds_count")
    assert grew("device_frames_total", device="kitchen") >= 2
    assert grew("device_state", device="kitchen", state="online") == 1
    assert grew("store_pending") == 0
    for name in ("live", "ready", "leaf_connected", "store_healthy", "clock_synchronised"):
        assert after[f"petiole_gateway_{name}", ()] == 1, name
    assert after["process_resident_memory_bytes", ()] > 1e6
    assert after["petiole_leaf_process_resident_memory_bytes", ()] > 1e6
    assert after["petiole_gateway_leaf_disk_written_bytes_total", ()] >= 0
    [about] = [dict(labels) for name, labels in after if name == "petiole_gateway_info"]
    assert about["site"] == world.config.site


async def test_the_page_is_what_promtool_asks_for(world: Watched) -> None:
    await world.node("kitchen")
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt install prometheus")
    _, _, body = await fetch(world.http_port, "/metrics")
    command = [promtool, "check", "metrics"]
    done = await asyncio.to_thread(subprocess.run, command, input=body, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


async def test_names_follow_the_conventions_of_prometheus(world: Watched) -> None:
    _, _, body = await fetch(world.http_port, "/metrics")
    for family in text_string_to_metric_families(body.decode()):
        assert family.name.startswith(("petiole_gateway_", "petiole_leaf_process_", "process_")), family.name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), family.name
        else:
            assert not family.name.endswith("_total"), family.name
        assert not any(unit in family.name for unit in ("_ms", "_milli", "_kb", "_percent")), family.name


async def test_health_says_what_is_wrong_and_what_to_do(world: Watched) -> None:
    status, headers, body = await fetch(world.http_port, "/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"live": True, "ready": True, "findings": []}
    world.trust_clock(False)
    status, _, body = await fetch(world.http_port, "/readyz")
    assert status == 200, "readings are taken all the same"
    [finding] = json.loads(body)["findings"]
    assert (finding["code"], finding["severity"]) == ("clock_doubtful", "warning")
    assert finding["hint"]
    assert (await world.page())["petiole_gateway_problems", (("code", "clock_doubtful"), ("severity", "warning"))] == 1


async def test_a_gateway_whose_leaf_is_gone_is_not_ready_and_later_not_alive(
    world: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = world.gateway.leaf
    assert leaf is not None
    await leaf.stop()
    await until(lambda: not world.gateway.connection.is_connected)
    status, _, body = await fetch(world.http_port, "/readyz")
    assert status == 503
    assert json.loads(body)["findings"][0]["code"] == "leaf_away"
    assert (await fetch(world.http_port, "/healthz"))[0] == 200, "it may come back by itself"
    samples = await world.page()
    assert samples["petiole_gateway_ready", ()] == 0
    assert samples["petiole_gateway_leaf_connected", ()] == 0
    monkeypatch.setattr("petiole_gateway.monitoring.health.LEAF_GRACE_S", -1.0)
    status, _, body = await fetch(world.http_port, "/healthz")
    assert status == 503
    assert json.loads(body)["findings"][0]["code"] == "leaf_gone"


async def test_work_that_stands_still_is_told_to_probes(world: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        async def stall(self) -> str:
            return "the store stands still with 5 readings"

    # The gateway's own first look is over; its next one is in 15 s.
    await until(lambda: sum(world.gateway.status.lag.counts) > 0)
    monkeypatch.setattr(world.gateway, "parts", lambda: [Stuck()])
    watch = asyncio.create_task(world.gateway.status.watch())
    await until(lambda: bool(world.gateway.status.stalled))
    watch.cancel()
    status, _, body = await fetch(world.http_port, "/healthz")
    assert status == 503
    [finding] = json.loads(body)["findings"]
    assert (finding["code"], finding["problem"]) == ("stalled", "the store stands still with 5 readings")


async def test_without_the_setting_nothing_listens_and_nothing_is_loaded(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        await world.start()
        assert world.gateway.monitoring is None
    finally:
        await world.end()


async def test_devices_are_labels_only_where_the_settings_say_so(tmp_path: Path) -> None:
    world = Watched(tmp_path)
    try:
        await world.start()
        await world.node("kitchen")
        assert not [key for key in await world.page() if "device" in dict(key[1])]
    finally:
        await world.end()


async def test_devices_beyond_the_bound_are_counted_and_not_labelled(
    world: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petiole_gateway.monitoring.metrics.MAX_DEVICES", 2)
    for name in ("a", "b", "c"):
        await world.gateway.hub.add_device(name)
    samples = await world.page()
    labels = {dict(key[1])["device"] for key in samples if "device" in dict(key[1])}
    assert labels == {"a", "b"}
    assert samples["petiole_gateway_devices_without_metrics", ()] == 1


async def test_an_address_that_is_taken_is_an_error_with_a_hint_and_ends_the_start(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    world = Watched(tmp_path, listen=f"127.0.0.1:{port}")
    try:
        gateway = Gateway(world.config, NullLogger())
        with pytest.raises(EndpointError, match="address already in use") as error:
            await gateway.start()
        assert "[metrics] listen" in error.value.hint
    finally:
        taken.close()
        await taken.wait_closed()


# The endpoint alone -----------------------------------------------------------------------------------------


@pytest.fixture
async def endpoint() -> AsyncIterator[HttpEndpoint]:
    async def broken() -> Answer:
        raise RuntimeError("a defect")

    async def fine() -> Answer:
        return Answer(b"fine", "text/plain")

    async def big() -> Answer:
        return Answer(b"x" * 50_000_000, "text/plain")

    endpoint = HttpEndpoint({"/ok": fine, "/broken": broken, "/big": big}, NullLogger())
    await endpoint.open("127.0.0.1", 0)
    yield endpoint
    await endpoint.close()


async def test_a_page_by_get_and_its_head_by_head(endpoint: HttpEndpoint) -> None:
    status, headers, body = await fetch(endpoint.port, "/ok?name=value")
    assert (status, headers["Content-Length"], body) == (200, "4", b"fine")
    status, headers, body = await fetch(endpoint.port, "/ok", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "4", b"")
    assert endpoint.refused_total == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /none HTTP/1.1\r\n\r\n", 404),
        (b"POST /ok HTTP/1.1\r\n\r\n", 405),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
        (b"GET ok HTTP/1.1\r\n\r\n", 400),
        (b"GET /ok\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /ok HTTP/1.1\r\nA: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_good_request_is_answered_counted_and_does_no_harm(
    endpoint: HttpEndpoint, request_: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(request_)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert endpoint.refused_total == 1
    assert (await fetch(endpoint.port, "/ok"))[0] == 200


async def slow_clients(endpoint: HttpEndpoint) -> list[asyncio.StreamWriter]:
    """As many as there may be: all but one say nothing, and that one reads nothing of what it asks for."""
    writers = [(await asyncio.open_connection("127.0.0.1", endpoint.port))[1] for _ in range(MAX_CONNECTIONS)]
    writers[-1].write(b"GET /big HTTP/1.1\r\n\r\n")
    return writers


async def test_slow_clients_are_as_many_as_there_may_be(
    endpoint: HttpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_endpoint, "EXCHANGE_S", 3600.0)  # nobody is too slow for that
    writers = await slow_clients(endpoint)
    await until(lambda: len(endpoint._open) == MAX_CONNECTIONS)
    beyond, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    await ended(beyond)
    assert (endpoint.refused_total, len(endpoint._open)) == (1, MAX_CONNECTIONS)
    for each in (*writers, writer):
        each.transport.abort()
    await until(lambda: not endpoint._open)
    assert (await fetch(endpoint.port, "/ok"))[0] == 200


async def test_slow_clients_hold_neither_the_endpoint_nor_its_memory(
    endpoint: HttpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_endpoint, "EXCHANGE_S", 0.5)
    writers = await slow_clients(endpoint)
    await until(lambda: endpoint.refused_total == MAX_CONNECTIONS and not endpoint._open)
    assert (await fetch(endpoint.port, "/ok"))[0] == 200
    for each in writers:
        each.close()


async def test_closing_ends_what_is_open(endpoint: HttpEndpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    await until(lambda: len(endpoint._open) == 1)
    await asyncio.wait_for(endpoint.close(), 2)
    await ended(reader)
    writer.close()


def test_durations_are_counted_in_cumulative_buckets() -> None:
    durations = Durations((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        durations.add(seconds)
    assert durations.cumulative() == [("0.1", 2), ("1", 3), ("+Inf", 4)]
    assert durations.sum_s == pytest.approx(3.65)
