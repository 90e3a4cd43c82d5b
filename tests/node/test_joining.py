"""A node joins, publishes and is commanded, over each kind of link, on both runtimes."""

import pytest

from .conftest import Start
from .peer import Peer

RUNTIMES = ("micropython", "cpython")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["uart", "console", "udp"])
async def test_a_node_joins_and_publishes_over_each_link(start: Start, peer: Peer, kind: str, runtime: str) -> None:
    await start(kind, runtime=runtime, options={"period_s": 0.05})
    await peer.joined()
    assert [entry[1] for entry in peer.manifest["ch"]] == ["temperature", "humidity", "door", "counter"]
    await peer.wait(lambda: len(peer.values("temperature")) >= 5 and len(peer.live) >= 3)
    assert all(isinstance(value, (int, float)) for value in peer.values("temperature"))
    assert await peer.command("add", [1, 2.5]) == (0, 3.5)
    assert peer.join_s < 0.5  # one round trip, not the next time that something was due


async def test_an_idle_node_answers_at_once(start: Start, peer: Peer) -> None:
    await start("console", options={"period_s": 3600})
    await peer.wait(lambda: bool(peer.joins))
    # Nothing in the node is due for seconds; the request for its manifest alone makes it speak.
    await peer.wait(lambda: bool(peer.manifest), timeout_s=0.6)
    for _ in range(5):
        peer.manifest = {}
        peer.ask_manifest()
        await peer.wait(lambda: bool(peer.manifest), timeout_s=0.6)
