"""What the hub's credentials allow, and above all what they do not."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats_rig import Fleet, Rig

from petiole_gateway.nats.connection import connect
from petiole_gateway.nats.errors import ConfigError, KeyFileError, NatsError, SecurityError
from petiole_gateway.nats.hub_config import HubOperator, site_permissions


def test_an_operator_is_kept_in_its_folder(tmp_path: Path) -> None:
    first = HubOperator.open(tmp_path / "operator")
    again = HubOperator.open(tmp_path / "operator")
    assert first.fleet_account == again.fleet_account
    for path in (tmp_path / "operator").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    creds = again.mint_site("site1", tmp_path / "site1.creds")
    assert stat.S_IMODE(creds.stat().st_mode) == 0o600
    claims = creds.read_text().splitlines()[1].split(".")[1]
    nats = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["nats"]
    assert nats["allowed_connection_types"] == ["LEAFNODE"]
    assert nats["issuer_account"] == first.fleet_account
    for subject in nats["pub"]["allow"] + nats["sub"]["allow"]:
        assert subject not in {">", "$JS.>", "$JS.API.>"}
    (tmp_path / "operator" / "fleet.seed").chmod(0o640)
    with pytest.raises(KeyFileError, match="others may read"):
        HubOperator.open(tmp_path / "operator")
    with pytest.raises(ConfigError):
        site_permissions("a.>")


async def test_site_credentials_are_refused_to_an_ordinary_client(rig: Rig) -> None:
    await rig.start()
    with pytest.raises(SecurityError):
        await connect(rig.hub.urls, logger=rig.logger, credentials=rig.folder / "hub" / "site1.creds", timeout_s=5)


async def test_a_site_reaches_its_own_subjects_only(rig: Rig) -> None:
    await rig.start()
    await rig.store(Fleet(1))
    await rig.source()
    await rig.linked()
    hub, leaf = rig.hub_connection.client, rig.connection.client

    async def answer(message: object) -> None:
        await message.respond(b"pong")  # type: ignore[attr-defined]

    await leaf.subscribe("dev.*.d1.ping", cb=answer)
    await leaf.subscribe("gw.*.info", cb=answer)
    seen = await hub.subscribe(">")
    await leaf.flush()
    await hub.flush()
    assert await _asked(hub, "dev.site1.d1.ping") == b"pong"
    assert await _asked(hub, "gw.site1.info") == b"pong"
    for subject in ("dev.site2.d1.ping", "gw.site2.info"):
        assert await _asked(hub, subject) is None, subject
    for subject in (
        "up.site1.d1.t",
        "up.site2.d1.t",
        "live.site2.d1.t",
        "down.site1.d1",
        "mail.x",
        "local.x",
        "dlv.site2.UP",
    ):
        await leaf.publish(subject, b"forbidden")
    await leaf.publish("live.site1.d1.t", b"allowed")
    await leaf.flush()
    while (message := await seen.next_msg(5)).data != b"allowed":
        assert message.data != b"forbidden", message.subject
    for call in ("$JS.hub.API.STREAM.INFO.UP", "$JS.hub.API.STREAM.DELETE.UP", "$JS.site2.API.INFO"):
        assert await _asked(leaf, call) is None, call


async def test_a_hub_cannot_administer_a_leaf_through_its_link(rig: Rig) -> None:
    await rig.start()
    await rig.store(Fleet(1))
    await rig.linked()
    for call in ("STREAM.INFO.UP", "STREAM.PURGE.UP", "STREAM.DELETE.UP", "CONSUMER.DELETE.UP.hub"):
        assert await _asked(rig.hub_connection.client, f"$JS.site1.API.{call}") is None, call


async def test_an_unreachable_server_is_a_typed_error(rig: Rig) -> None:
    with pytest.raises(NatsError) as caught:
        await connect("nats://127.0.0.1:1", logger=rig.logger, timeout_s=1)
    assert caught.value.hint


async def _asked(client: object, subject: str) -> bytes | None:
    """The answer, or None if there is none within a moment; forbidden requests are dropped silently."""
    for _ in range(10):
        try:
            return bytes((await client.request(subject, b"", timeout=0.15)).data)  # type: ignore[attr-defined]
        except (NoRespondersError, NatsTimeout):
            continue
    return None
