"""News among the gateways of a site, over a connection that takes nothing."""

import asyncio

from nats.aio.client import Client

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

    gateways = SiteGateways(Full(), site="home", own="here")
    for number in range(2 * MAX_TELLING):
        gateways.tell("held", f"dev{number}")
    await asyncio.sleep(0)
    assert began == MAX_TELLING
    is_free.set()
    while gateways._tasks:
        await asyncio.gather(*gateways._tasks)
        await asyncio.sleep(0)
    gateways.tell("held", "last")
    await asyncio.gather(*gateways._tasks)
    assert began == MAX_TELLING + 1
