"""News among the gateways of a site, over a connection that takes nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats_rig import RecordingLogger

from petiole_gateway.hub.ports import CommandError
from petiole_gateway.nats.connection import Connection
from petiole_gateway.nats.site_gateways import MAX_TELLING, SiteGateways


async def test_news_that_cannot_go_out_does_not_pile_up() -> None:
    began = 0
    is_free = asyncio.Event()

    class Full(Client):
        async def publish(self, *args: object, **kwargs: object) -> None:
            nonlocal began
            began += 1
            async with asyncio.timeout(30):
                await is_free.wait()

    connection = Connection(RecordingLogger())
    connection.client = Full()
    gateways = SiteGateways(connection, site="home", own="here")
    for number in range(2 * MAX_TELLING):
        gateways.tell("held", f"dev{number}")
    await asyncio.sleep(0)
    assert began == MAX_TELLING
    assert gateways.untold_total == MAX_TELLING
    is_free.set()
    while gateways._tasks:
        await asyncio.gather(*gateways._tasks)
        await asyncio.sleep(0)
    gateways.tell("held", "last")
    await asyncio.gather(*gateways._tasks)
    assert began == MAX_TELLING + 1


@pytest.mark.parametrize(
    ("headers", "data", "code"),
    [
        ({"Nats-Service-Error-Code": "404", "Nats-Service-Error": "no device x"}, b"", 404),
        ({"Nats-Service-Error-Code": "\N{SUPERSCRIPT TWO}"}, b"", 500),
        ({"Nats-Service-Error-Code": "999999"}, b"", 500),
        (None, b"{", 502),
        (None, b"[" * 900 + b"]" * 900, 502),
        (None, b"", 502),
    ],
)
async def test_an_answer_of_another_gateway_that_cannot_be_read_is_an_error_with_a_code(
    headers: dict[str, str] | None, data: bytes, code: int
) -> None:
    class Answering(Client):
        async def request(self, *args: object, **kwargs: object) -> Msg:
            return Msg(self, data=data, headers=headers)

    connection = Connection(RecordingLogger())
    connection.client = Answering()
    with pytest.raises(CommandError) as raised:
        await SiteGateways(connection, site="home", own="here").ask("other", "device.show", {"name": "x"})
    assert raised.value.code == code


async def test_news_that_is_none_is_counted_and_nobody_hears_it() -> None:
    taken: list[Callable[[Msg], Awaitable[None]]] = []

    class Subscribing(Client):
        async def subscribe(self, *args: object, **kwargs: Any) -> None:  # type: ignore[override]
            taken.append(kwargs["cb"])

    heard: list[tuple[str, str]] = []

    async def hear(kind: str, device: str) -> None:
        heard.append((kind, device))

    connection = Connection(RecordingLogger())
    connection.client = Subscribing()
    gateways = SiteGateways(connection, site="home", own="here")
    await gateways.listen(hear)
    right = {"gateway": "other", "kind": "held", "device": "a"}
    wrong: list[Any] = [{**right, "device": "a.b"}, {**right, "kind": [[]]}, {"gateway": "other"}, 1, [], None]
    for news in [*wrong, right, {**right, "gateway": "here"}]:
        await taken[0](Msg(connection.client, data=json.dumps(news).encode()))
    await taken[0](Msg(connection.client, data=b"[" * 900 + b"]" * 900))
    assert heard == [("held", "a")]
    assert gateways.unreadable_total == len(wrong) + 1
