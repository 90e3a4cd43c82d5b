"""What the hub's credentials allow, and above all what they do not."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats_rig import SITE, Fleet, Rig, until

from petiole_gateway.nats.connection import connect
from petiole_gateway.nats.errors import ConfigError, KeyFileError, NatsError, SecurityError
from petiole_gateway.nats.hub_config import HubOperator, site_permissions
from petiole_gateway.nats.mailbox_streams import ensure_hub_mailbox
from petiole_gateway.nats.subjects import site_inbox


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


async def test_a_site_reaches_its_own_mail_only(rig: Rig) -> None:
    await rig.start()
    # As the gateway's connection: answers come under its site's inbox.
    access = rig.leaf.access
    connection = await connect(
        access.url, logger=rig.logger, user=access.user, password=access.password, inbox_prefix=site_inbox(SITE)
    )
    await until(lambda: _made(rig), "streams of mail")
    await rig.linked()
    hub, leaf = rig.hub_connection.client, connection.client
    for site in (SITE, "site2"):
        await hub.request(f"down.{site}.d.q", b"{}", timeout=5)
    own, foreign = f"$JS.hub.API.%s.DOWN_{SITE}", "$JS.hub.API.%s.DOWN_site2"
    assert await _asked(leaf, own % "STREAM.INFO") is not None
    calls = ["STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "DIRECT.GET", "STREAM.PURGE", "STREAM.DELETE"]
    calls += ["STREAM.UPDATE", "CONSUMER.CREATE", "CONSUMER.LIST"]
    forbidden = [foreign % call for call in calls]
    # Of its own stream it changes nothing but single messages. A consumer would deliver to any subject it names.
    forbidden += [own % call for call in calls[4:]] + [f"{own % 'CONSUMER.CREATE'}.c"]
    forbidden += [f"$JS.hub.API.$KV.mailbox.{each}" for each in ("site2.d.i", "site1x.d.i")]
    forbidden += ["$JS.hub.API.DIRECT.GET.KV_mailbox", "$JS.hub.API.STREAM.MSG.DELETE.KV_mailbox"]
    forbidden += ["$JS.hub.API.DIRECT.GET.KV_mailbox.$KV.mailbox.site2.d.i", f"down.{SITE}.d.q", "down.site2.d.q"]
    for call in forbidden:
        assert await _asked(leaf, call) is None, call
    for site in (SITE, "site2"):
        info = await rig.hub_api.stream_info(f"DOWN_{site}")
        assert info is not None
        assert info["state"]["messages"] == 1
        assert info["state"]["consumer_count"] == 0
    await connection.close()


async def test_a_site_cannot_roll_up_what_became_of_others_mail(rig: Rig) -> None:
    await rig.start()
    await until(lambda: _made(rig), "streams of mail")
    await rig.linked()
    await rig.hub_connection.client.request("$KV.mailbox.site2.d.i", b"theirs", timeout=5)
    client, own = rig.connection.client, f"$KV.mailbox.{SITE}.d"
    for kind in ("all", "sub"):
        await client.publish(f"$JS.hub.API.{own}.{kind}", b"{}", headers={"Nats-Rollup": kind})

    async def is_behind() -> bool:
        await client.publish(f"$JS.hub.API.{own}.last", b"{}")
        return await rig.hub_api.message_on("KV_mailbox", f"{own}.last") is not None

    await until(is_behind, "what came after them")
    assert await rig.hub_api.message_on("KV_mailbox", "$KV.mailbox.site2.d.i") is not None


async def test_a_site_hears_no_answers_and_no_mail_of_others(rig: Rig) -> None:
    await rig.start()
    await until(lambda: _made(rig), "streams of mail")
    await rig.linked()
    hub, leaf = rig.hub_connection.client, rig.connection.client
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    for subject in ("_INBOX.>", "in.>", "event.>", "$KV.>"):
        await leaf.subscribe(subject, cb=hear)
    await leaf.flush()

    async def own_heard() -> bool:
        await hub.publish(f"{site_inbox(SITE)}.x", b"first")
        return b"first" in heard

    # What the leaf asks for has reached the hub, one way or the other.
    await until(own_heard, "its own inbox")
    await hub.publish("event.site2.d.mailbox", b"secret")
    await hub.publish("_INBOX.abc", b"secret")
    await hub.publish("$KV.mailbox.site2.d.i", b"secret")
    await hub.request("down.site2.d.q", b"secret", timeout=5)
    await hub.publish(f"{site_inbox(SITE)}.x", b"last")
    await until(lambda: b"last" in heard, "the last of all")
    assert set(heard) == {b"first", b"last"}


async def test_a_site_may_be_allowed_to_send_to_another(rig: Rig) -> None:
    allowed = site_permissions(SITE, sends_to=["site2"])
    assert "down.site2.>" in allowed.publish
    assert not any("site3" in each or each in {"down.>", "down.*.>"} for each in allowed.publish)
    assert allowed.subscribe == site_permissions(SITE).subscribe
    for wrong in ("*", ">", "a.b", ""):
        with pytest.raises(ConfigError):
            site_permissions(SITE, sends_to=[wrong])


async def _made(rig: Rig) -> bool:
    await ensure_hub_mailbox(rig.hub_api, [SITE, "site2"], replicas=1)
    return True
