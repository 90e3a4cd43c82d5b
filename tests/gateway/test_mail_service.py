"""Requests to devices whatever their state, over a whole gateway with its leaf server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.aio.msg import Msg

from .real_time import until
from .whole import SITE, World


class Caller:
    """Asks over an inbox of its own and keeps listening to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._answers: asyncio.Queue[Msg] = asyncio.Queue()

    async def ask(self, device: str, command: str, arguments: Any, **headers: str) -> Msg:
        inbox = self._world.client.new_inbox()

        async def hear(message: Msg) -> None:
            await self._answers.put(message)

        await self._world.client.subscribe(inbox, cb=hear)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self._world.client.publish(
            f"dev.{SITE}.{device}.{command}", json.dumps(arguments).encode(), reply=inbox, headers=named
        )
        return await self.next()

    async def next(self) -> Msg:
        return await asyncio.wait_for(self._answers.get(), 10)


async def test_a_command_for_a_sleeper_is_queued_and_its_end_comes_to_the_same_inbox(world: World) -> None:
    node = await world.node("a", sleepy=True)
    await until(lambda: node.is_asleep)
    caller = Caller(world)
    receipt = await caller.ask("a", "led", [True], Petiole_Queue="60")
    document = json.loads(receipt.data)
    assert (receipt.headers or {})["Petiole-Queued"] == document["queued"]
    assert document["availability"] == "asleep"
    assert 590 <= document["next_wake_s"] <= 600
    await until(lambda: world.waiting("a") == 1)
    assert node.executed == []
    node.wake()
    ended = json.loads((await caller.next()).data)
    assert (ended["id"], ended["state"], ended["value"]) == (document["queued"], "delivered", {"led": [True]})
    assert node.executed == [(0, [True])]


async def test_without_the_header_the_caller_is_told_and_nothing_is_queued(world: World) -> None:
    node = await world.node("a", sleepy=True)
    await until(lambda: node.is_asleep)
    code, text = await world.command("a", "led", [True])
    assert code == 503
    assert text.startswith("a is asleep, next wake in 59") or text.startswith("a is asleep, next wake in 600")
    assert world.waiting("a") == 0


async def test_an_awake_device_answers_at_once_with_the_header_too(world: World) -> None:
    node = await world.node("a")
    assert await world.command("a", "led", [True], Petiole_Queue="60") == (0, {"led": [True]})
    assert node.executed == [(0, [True])]


@pytest.mark.parametrize(
    ("command", "arguments", "queue", "code"),
    [
        ("fly", [], "60", 404),
        ("led", ["yes"], "60", 400),
        ("led", [True], "0", 400),
        ("led", [True], "1e9", 400),
        ("led", [True], "soon", 503),
    ],
)
async def test_what_could_never_be_delivered_is_refused_at_once(
    world: World, command: str, arguments: Any, queue: str, code: int
) -> None:
    node = await world.node("a", sleepy=True)
    await until(lambda: node.is_asleep)
    assert (await world.command("a", command, arguments, Petiole_Queue=queue))[0] == code
    assert world.waiting("a") == 0


async def test_mail_survives_the_gateway(world: World) -> None:
    node = await world.node("a", sleepy=True)
    await until(lambda: node.is_asleep)
    caller = Caller(world)
    receipt = json.loads((await caller.ask("a", "led", [False], Petiole_Queue="600")).data)
    await world.stop()
    await world.start()
    assert world.waiting("a") == 1
    node.wake()
    await until(lambda: node.executed)
    await until(lambda: world.waiting("a") == 0)
    assert node.executed == [(0, [False])]
    assert receipt["queued"]
