"""What is shown of messages that should be JSON objects about devices."""

import asyncio
import json

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from petiole_tools.watching import DeviceViewer


class Shown(DeviceViewer):
    def __init__(self, device=None, count=None):
        super().__init__("frame", device, count)
        self.documents = []

    def put(self, document):
        self.documents.append(document)
        return True


def message(payload):
    return Msg(Client(), subject="local.tap.home\x1b[2J", data=payload)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{", b"5", b"null", b'"device"', b'["device"]', b"[" * 100_000])
def test_what_is_no_object_is_said_and_what_follows_is_shown(payload, capsys):
    async def run():
        shown = Shown(count=1)
        await shown.receive(message(payload))
        assert not shown.done.is_set()
        await shown.receive(message(b'{"device": "kitchen"}'))
        await asyncio.wait_for(shown.watched(asyncio.Event().wait()), 10)
        return shown.documents

    assert asyncio.run(run()) == [{"device": "kitchen"}]
    told = capsys.readouterr().err
    assert "local.tap.home" in told
    assert "not a frame" in told
    assert "\x1b" not in told


def test_another_device_is_neither_shown_nor_counted():
    async def run():
        shown = Shown("kitchen", count=1)
        for device in ("cellar", None, "kitchen", "kitchen"):
            await shown.receive(message(json.dumps({"device": device}).encode()))
        return shown.documents

    assert asyncio.run(run()) == [{"device": "kitchen"}]
