"""Mistakes of people: each is said clearly, and nothing that was taken is lost by it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from petiole_tools.failure import CliError

from .rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, hub_size=1)
    yield rig
    await rig.stop()


async def refusal(rig: Rig) -> str:
    """What a gateway says that does not start."""
    with pytest.raises(AssertionError, match="the gateway ended with 1") as caught:
        await rig.gateway.start()
    return str(caught.value)


async def test_every_mistake_is_said_and_loses_nothing(rig: Rig) -> None:
    await rig.start({"uart-1": "uart"})
    absent = rig.gateway.said("port_unavailable")
    assert [(entry["link"], entry["reason"]) for entry in absent] == [(str(rig.port("uart-1")), "does not exist")]
    assert "plug the board in" in absent[0]["hint"]
    await rig.add_node("uart-1", "uart", seed=1)  # there it is
    await rig.add_node("udp-1", "udp", seed=2)
    await rig.accept(100)

    for name in ("a b", "a.b", "a*", "ä", "x" * 33):
        with pytest.raises(CliError, match="A-Z a-z 0-9 _ -"):
            await rig.gateway.ask("device.add", {"name": name})
    with pytest.raises(CliError, match="udp-1"):
        await rig.gateway.ask("device.add", {"name": "udp-1"})
    await rig.accept_everywhere()

    assert await rig.gateway.terminate() == 0
    settings = rig.gateway.settings
    settings.more = '[[serial]]\nport = "/dev/ttyUSB7"\nbauds = 9600\n'
    line = settings.text().split("\n").index("bauds = 9600") + 1
    said = await refusal(rig)
    assert f"petiole.toml:{line}: serial[1].bauds: there is no such setting" in said
    assert "did you mean 'baud'?" in said
    settings.more = ""

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", settings.udp_port))
        said = await refusal(rig)
        assert f"error: UDP 127.0.0.1:{settings.udp_port}: Address already in use" in said
        assert "hint: is another gateway running?" in said

    await rig.gateway.start()
    await rig.accept_everywhere()
    verdict = await rig.verdict()
    assert not verdict.problems, "\n".join(verdict.problems)
