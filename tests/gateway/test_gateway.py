"""The whole gateway: its leaf server, nodes on UDP, and clients on NATS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import urllib.request
from pathlib import Path

import nats.micro
import pytest
from nats.aio.msg import Msg
from nats.micro.request import Request

from petiole_gateway.app import Gateway
from petiole_gateway.hub.ports import Busy
from petiole_gateway.links.udp import UdpError
from petiole_gateway.nats.uplink_lane import Uplink
from petiole_gateway.nats.uplinks import StoreUplinks

from .memory import NullLogger
from .real_time import until
from .whole import SITE, World


async def test_readings_are_in_the_leafs_stream_exactly_once_and_in_order(world: World) -> None:
    nodes = {name: await world.node(name, seed=seed) for seed, name in enumerate(("a", "b"), 1)}
    for node in nodes.values():
        node.publish(*range(100))
    await until(lambda: all(node.is_empty for node in nodes.values()))
    stored = await world.stored()
    for name in nodes:
        assert [entry[1:] for entry in stored if entry[0] == name] == [(n + 1, n) for n in range(100)]
    assert all(sum(1 for e in node.events if e[0] == "durable") == 100 for node in nodes.values())


async def test_a_gateway_that_says_that_it_runs_is_asked_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    gateway = Gateway(world.config, NullLogger())
    await gateway.start()
    try:
        leaf = json.loads((world.config.leaf_dir / "leaf.json").read_text())
        # Nothing else runs in this loop meanwhile, so what the server knows now it knew when the start was over.
        with urllib.request.urlopen(f"{leaf['monitor_url']}/connz?subs=1", timeout=20) as answer:  # noqa: ASYNC210
            known = {each for entry in json.load(answer)["connections"] for each in entry.get("subscriptions_list", ())}
        assert known >= {f"gw.{SITE}.status", f"gw.{SITE}.device.add", f"dev.{SITE}.*.*"}
    finally:
        await gateway.stop()


async def test_commands_get_results_or_every_code(world: World) -> None:
    node = await world.node("a")
    node.handlers[1] = lambda arguments: (500, "out of paper")
    assert await world.command("a", "led", [True]) == (0, {"led": [True]})
    assert await world.command("a", "led", {"on": False}) == (0, {"led": {"on": False}})
    assert await world.command("a", "slow") == (500, "out of paper")
    code, text = await world.command("a", "led", ["yes"])
    assert (code, text) == (400, "on is true or false, got 'yes'")
    assert (await world.command("a", "fly"))[0] == 404
    assert (await world.command("nobody", "led"))[0] == 404
    reply = await world.client.request(f"dev.{SITE}.a.led", b"{not json", timeout=5)
    assert (reply.headers or {})["Nats-Service-Error-Code"] == "400"
    del node.handlers[1]
    assert await world.command("a", "slow", Petiole_Timeout="0.2") == (408, "a did not answer within 0.2 s")
    for odd in ("nan", "-5", "much"):
        assert (await world.command("a", "led", [True], Petiole_Timeout=odd))[0] == 0
    # The node is still at it, so one of the next eight would be too many for it. Its answer comes late and is nobody's.
    node.endpoint.reply(*node.endpoint.executing, 0, None)
    node.pump()
    open_commands = [asyncio.create_task(world.command("a", "slow", Petiole_Timeout="30")) for _ in range(8)]
    await until(lambda: len(node.endpoint.executing) == 8)
    assert (await world.command("a", "slow"))[0] == 429
    assert (await world.command("a", "led", ["x" * 5000]))[0] == 400, "it is no boolean, however long"
    await world.ask("device.remove", {"name": "a"})
    assert {code for code, _ in await asyncio.gather(*open_commands)} == {503}
    await world.ask("device.add", {"name": "c"})
    assert await world.command("c", "led", [True]) == (503, "c has not joined")


async def test_nodes_ask_services(world: World) -> None:
    node = await world.node("a")

    async def handle(request: Request) -> None:
        asked = json.loads(request.data)
        if asked == "fail":
            await request.respond_error("422", "nothing can be done")
        elif asked == "odd":
            await request.respond_error("\N{SUPERSCRIPT TWO}", "odd code")
        elif asked == "text":
            await request.respond(b"plain")
        elif asked == "bytes":
            await request.respond(b"\xff\x00")
        elif asked == "deep":
            await request.respond(b"[" * 100_000)
        elif asked != "nothing":
            await request.respond(json.dumps({"asked": asked}).encode())

    service = await nats.micro.add_service(world.client, name="oracle", version="1.0.0")
    await service.add_endpoint(name="ask", subject="oracle.ask", handler=handle)
    await world.subscribed()
    assert await node.ask("oracle.ask", {"n": 1}) == (0, {"asked": {"n": 1}})
    assert await node.ask("oracle.ask", "fail") == (422, "nothing can be done")
    assert await node.ask("oracle.ask", "odd") == (500, "odd code")
    assert await node.ask("oracle.ask", "text") == (0, "plain")
    assert await node.ask("oracle.ask", "bytes") == (0, b"\xff\x00")
    assert (await node.ask("oracle.ask", "deep"))[0] in (0, 413)
    assert (await node.ask("nobody.home"))[0] == 404
    assert (await node.ask("$JS.API.INFO"))[0] == 403
    # The node and the gateway lose patience at the same moment; on a busy machine either is first.
    given_up = await node.ask("oracle.ask", "nothing", timeout_ms=300)
    assert given_up in (("failed", "timed_out"), (408, "no answer on oracle.ask within 0.3 s"))


async def test_a_service_that_is_slow_is_given_up_by_the_gateway(world: World) -> None:
    node = await world.node("a")

    async def ignore(message: object) -> None:
        heard.set()

    heard = asyncio.Event()
    await world.client.subscribe("slow.one", cb=ignore)
    await world.subscribed()
    # The node's own patience is longer than what it asks of the gateway: only then is it told.
    item = node.endpoint.request("slow.one", None, 200, 0)
    item.expires_at = 1 << 60
    node.pump()
    await until(heard.is_set)
    await until(lambda: any(e[0] == "reply" and e[1] is item and e[2] == 408 for e in node.events))


async def test_the_gateway_is_found_and_described_as_a_service(world: World) -> None:
    ping = json.loads((await world.request("$SRV.PING.petiole-gateway")).data)
    assert ping["metadata"] == {"site": SITE}
    info = json.loads((await world.request("$SRV.INFO.petiole-gateway")).data)
    subjects = {endpoint["subject"] for endpoint in info["endpoints"]}
    assert {f"dev.{SITE}.*.*", f"gw.{SITE}.status", f"gw.{SITE}.device.add"} <= subjects


async def test_administration_says_what_is_there(world: World) -> None:
    node = await world.node("a")
    node.publish(1)
    await until(lambda: node.is_empty)
    shown = await world.ask("device.show", {"name": "a"})
    assert (shown["state"], shown["link"], shown["durable_sequence"]) == ("online", "udp", 1)
    assert shown["channels"][0] == {"number": 0, "name": "temperature", "unit": "Cel", "type": "f", "period_s": 60}
    status = await world.ask("status")
    assert status["devices"] == {"total": 1, "online": 1}
    assert status["store"]["stored_total"] == 1
    assert status["store"]["not_at_hub"] is None, "this site has no hub"
    assert status["frames"]["down"] >= 3
    [udp] = status["links"]
    assert udp["frames"] == {"up": status["frames"]["up"], "down": status["frames"]["down"], "dropped": 0}
    for method, arguments in (
        ("device.show", {}),
        ("device.show", [1]),
        ("device.add", {"name": "a b"}),
        ("device.add", {"name": "b", "key": "00"}),
        ("device.add", {"name": "b", "key": 5}),
        ("tap", {"for_s": True}),
        ("tap", {"for_s": -1}),
    ):
        assert (await world.ask(method, arguments))["code"] == 400, (method, arguments)
    assert (await world.ask("device.show", {"name": "z"}))["code"] == 404
    assert (await world.ask("device.add", {"name": "a"}))["code"] == 409


@pytest.mark.parametrize("is_doubtful", [True, False])
async def test_a_clock_that_nobody_has_set_is_marked(world: World, is_doubtful: bool) -> None:
    world.trust_clock(not is_doubtful)
    node = await world.node("a")
    seen: list[dict[str, object]] = []

    async def see(message: Msg) -> None:
        seen.append(json.loads(message.data))

    await world.client.subscribe(f"*.{SITE}.a.temperature", cb=see)
    await world.subscribed()
    node.publish(1)
    node.endpoint.publish(0, 2, 0, False)
    node.pump()
    await until(lambda: len(seen) == 2)
    assert [entry.get("clock") for entry in seen] == ["unsynchronised" if is_doubtful else None] * 2
    assert (await world.ask("status"))["clock"] == ("unsynchronised" if is_doubtful else "synchronised")


async def test_a_tap_shows_frames_and_ends(world: World) -> None:
    node = await world.node("a")
    seen: list[dict[str, object]] = []

    async def see(message: object) -> None:
        seen.append(json.loads(message.data))  # type: ignore[attr-defined]

    answer = await world.ask("tap", {"for_s": 2.0})
    await world.client.subscribe(answer["subject"], cb=see)
    await world.subscribed()
    node.publish(21.5)
    await until(lambda: any(entry["records"] for entry in seen))
    await until(lambda: world.gateway.hub.tap.publish is None)
    assert any("READING" in str(entry["records"]) for entry in seen)


async def test_a_device_key_is_on_disk_before_it_is_handed_out(world: World) -> None:
    before = world.gateway.store.metrics.barrier_total
    await world.ask("device.add", {"name": "a"})
    assert world.gateway.store._barrier.barrier_total > before


async def test_what_the_store_has_already_makes_the_hub_ask_again(world: World) -> None:
    store = world.gateway.store
    store.submit(Uplink("z", 5, f"up.{SITE}.z.ch0", b"by another gateway"))
    with pytest.raises(Busy) as raised:
        StoreUplinks(store).submit("z", 5, "ch0", b"the same")
    assert 0 < raised.value.retry_after_s < 1


async def test_a_restart_keeps_sessions_and_loses_nothing(world: World) -> None:
    node = await world.node("a")
    sent = 0
    for _ in range(3):
        node.publish(*range(sent, sent + 20))
        sent += 20
        await until(lambda: len(node.endpoint.outbox.items) < 20)
        node.publish(*range(sent, sent + 20))  # on their way while it stops
        sent += 20
        await world.stop()
        await world.start()
    await until(lambda: node.is_empty)
    assert await world.stored() == [("a", number + 1, number) for number in range(sent)]
    assert node.endpoint.joins_total == 1
    assert node.endpoint.session is not None
    assert node.endpoint.session.send_counter < 256, "an orderly restart skips no counters"
    node.publish(sent)  # it is heard of in this run
    await until(lambda: node.is_empty)
    assert await world.command("a", "led", [True]) == (0, {"led": [True]})


async def test_readings_that_came_before_the_stop_are_acknowledged(world: World) -> None:
    node = await world.node("a")
    node.publish(*range(8))
    await until(lambda: world.gateway.store.metrics.submitted_total == 8)
    await world.stop()
    await until(lambda: node.is_empty, 5)
    assert not world.logger.events("uplinks_not_drained")


async def test_open_commands_are_told_that_the_gateway_stops(world: World) -> None:
    node = await world.node("a")
    asked = asyncio.create_task(world.command("a", "slow", Petiole_Timeout="30"))
    await until(lambda: node.executed)
    await world.gateway.stop()
    assert await asked == (503, "a: the gateway stops")


async def test_a_gateway_that_was_not_stopped_goes_on_with_a_counter_floor(world: World) -> None:
    node = await world.node("a")
    node.publish(*range(10))
    await until(lambda: node.is_empty)
    device = world.gateway.hub.device("a")
    await until(lambda: device.current is not None and device.current.is_stored)
    world.gateway.hub._downlinks.store_all = _nothing  # type: ignore[method-assign]  # as after kill -9
    await world.stop()
    await world.start()
    node.publish(*range(10, 20))
    await until(lambda: node.is_empty)
    assert [number for _, number, _ in await world.stored()] == list(range(1, 21))
    assert node.endpoint.joins_total == 1
    assert node.endpoint.session is not None
    assert node.endpoint.session.send_counter > 256


async def test_a_device_is_asked_at_once_after_the_gateway_was_killed(world: World) -> None:
    node = await world.node("a")
    device = world.gateway.hub.device("a")
    await until(lambda: device.current is not None and device.current.stored_place is not None)
    world.gateway.hub._downlinks.store_all = _nothing  # type: ignore[method-assign]  # as after kill -9
    await world.stop()
    await world.start()
    heard = world.gateway.hub.device("a").current
    assert heard is not None
    assert not heard.is_heard, "it speaks of itself after 30 s"
    assert await world.command("a", "led", [True]) == (0, {"led": [True]})
    assert node.endpoint.joins_total == 1
    assert node.executed == [(0, [True])]


async def _nothing() -> None: ...


async def test_after_an_unclean_boot_nodes_join_by_themselves(world: World) -> None:
    node = await world.node("a")
    node.publish(1)
    await until(lambda: node.is_empty)
    await world.stop()
    marker = world.config.state_dir / "uplink-boot.json"
    marker.write_text(json.dumps({"clean": False, "boot": "another"}))
    await world.start()
    node.publish(2)
    await until(lambda: node.is_empty)
    assert node.endpoint.joins_total == 2
    assert [value for _, _, value in await world.stored()] == [1, 2]


async def test_a_leaf_server_that_is_killed_costs_nothing(world: World) -> None:
    node = await world.node("a")
    leaf = world.gateway.leaf
    assert leaf is not None
    killed: set[int | None] = {None}
    for round_ in range(3):
        node.publish(*range(round_ * 20, round_ * 20 + 20))
        pid = leaf.pid
        assert pid is not None
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: leaf.pid not in killed)
    await until(lambda: node.is_empty)
    await until(lambda: world.client.is_connected)
    assert await world.stored() == [("a", number + 1, number) for number in range(60)]
    await until(lambda: world.gateway.connection.is_connected)
    assert await world.command("a", "led", [True]) == (0, {"led": [True]})
    assert node.endpoint.joins_total == 1
    assert not world.logger.events("task_failed")


async def test_rubbish_on_the_socket_is_counted_and_disturbs_nobody(world: World) -> None:
    node = await world.node("a")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(300):
            sock.sendto(bytes([number & 0xFF]) * (number % 280), ("127.0.0.1", world.udp_port))
    node.publish(1)
    await until(lambda: node.is_empty)
    await until(lambda: sum(world.gateway.hub.traffic.dropped.values()) >= 200)
    status = await world.ask("status")
    assert {"oversize", "unknown_type", "empty"} <= set(status["dropped"])


async def test_a_port_that_is_taken_ends_the_start_before_anything_runs(world: World) -> None:
    second = Gateway(
        world.config.model_copy(update={"state_dir": world.config.state_dir / "second"}), logger := NullLogger()
    )
    with pytest.raises(UdpError) as raised:
        await second.start()
    assert raised.value.hint
    assert second.leaf is None
    assert not logger.events("gateway_started")


async def test_a_start_that_fails_leaves_nothing_running(world: World, tmp_path: Path) -> None:
    node = await world.node("a")
    await world.stop()
    key = world.config.state_dir / "registry.key"
    right = key.read_bytes()
    key.write_bytes(bytes(32))
    gateway = Gateway(world.config, NullLogger())
    with pytest.raises(Exception, match="key"):
        await gateway.start()
    assert gateway.leaf is not None
    assert gateway.leaf.pid is None
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others == set()
    key.write_bytes(right)
    await world.start()
    node.publish(1)
    await until(lambda: node.is_empty)
