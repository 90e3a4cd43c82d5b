"""Documents on the leaf, sealed under a key that is not in NATS."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Any

import pytest
from nats_rig import Rig

from petiole_gateway.hub.ports import Busy
from petiole_gateway.nats.errors import ConfigError, KeyExistsError, KeyFileError, WrongKeyError
from petiole_gateway.nats.records import BucketRecords
from petiole_gateway.nats.registry_backup import DamagedRegistryError, collect
from petiole_gateway.nats.sealed_bucket import PlainBucket, SealedBucket


async def opened(rig: Rig, bucket: str = "devices", key_file: str = "sealing.key") -> SealedBucket:
    sealed = SealedBucket(rig.connection.client, bucket, rig.folder / key_file)
    await sealed.open()
    return sealed


@pytest.mark.parametrize("kind", ["plain", "sealed"])
async def test_a_bucket_keeps_documents(rig: Rig, kind: str) -> None:
    await rig.start(with_hub=False)
    bucket = PlainBucket(rig.connection.client, "things")
    if kind == "sealed":
        bucket = SealedBucket(rig.connection.client, "things", rig.folder / "sealing.key")
    await bucket.open()
    assert await bucket.get("a") is None
    assert await bucket.items() == {}
    await bucket.put("a", {"x": 1})
    await bucket.put("a", {"x": 2})
    await bucket.create("b", {"y": "ü"})
    with pytest.raises(KeyExistsError):
        await bucket.create("b", {})
    assert await bucket.get("a") == {"x": 2}
    assert await bucket.items() == {"a": {"x": 2}, "b": {"y": "ü"}}
    await bucket.delete("b")
    await bucket.delete("never")
    assert await bucket.get("b") is None
    assert await bucket.items() == {"a": {"x": 2}}
    await bucket.create("b", {"again": True})
    for key in ("", "a.b", "*", "x" * 33):
        with pytest.raises(ConfigError):
            await bucket.get(key)


async def test_sealed_values_are_unreadable_in_the_store(rig: Rig) -> None:
    await rig.start(with_hub=False)
    bucket = await opened(rig)
    await bucket.put("dev1", {"key": "very-secret-value"})
    raw = await PlainBucket.__dict__["_read"](bucket, "dev1")
    assert b"very-secret-value" not in raw
    await rig.leaf.stop()
    for path in rig.leaf.store_dir.rglob("*"):
        assert not path.is_file() or b"very-secret-value" not in path.read_bytes()
    assert stat.S_IMODE((rig.folder / "sealing.key").stat().st_mode) == 0o600


async def test_a_wrong_key_file_is_named_in_the_error(rig: Rig) -> None:
    await rig.start(with_hub=False)
    await (await opened(rig)).put("dev1", {"key": 1})
    key_file = rig.folder / "sealing.key"
    good = key_file.read_bytes()
    key_file.write_bytes(os.urandom(32))
    with pytest.raises(WrongKeyError, match=r"sealing\.key") as caught:
        await opened(rig)
    assert "sealing.key" in caught.value.hint
    key_file.write_bytes(b"short")
    with pytest.raises(KeyFileError, match="5 bytes"):
        await opened(rig)
    key_file.unlink()
    with pytest.raises(KeyFileError, match="missing"):
        await opened(rig)
    assert not key_file.exists()
    key_file.write_bytes(good)
    key_file.chmod(0o644)
    with pytest.raises(KeyFileError, match="others may read"):
        await opened(rig)
    key_file.chmod(0o600)
    assert await (await opened(rig)).get("dev1") == {"key": 1}


async def test_a_value_opens_only_under_its_own_name(rig: Rig) -> None:
    await rig.start(with_hub=False)
    bucket = await opened(rig)
    await bucket.put("dev1", {"key": 1})
    raw = await bucket._read("dev1")
    assert raw is not None
    await bucket._write("dev2", raw)
    with pytest.raises(WrongKeyError):
        await bucket.get("dev2")
    await bucket._write("dev1", raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(WrongKeyError):
        await bucket.get("dev1")


async def test_a_damaged_document_keeps_no_other_from_being_read(rig: Rig) -> None:
    await rig.start(with_hub=False)
    bucket = await opened(rig)
    for name in ("dev1", "dev2", "dev3"):
        await bucket.put(name, {"name": name})
    await bucket._write("dev1", b"\x01 not sealed under anything")
    deep = "[" * 900 + "]" * 900
    await bucket._write("dev2", bucket._seal("dev2", f'{{"a":{deep}}}'.encode()))
    assert await bucket.items() == {"dev3": {"name": "dev3"}}
    assert sorted(bucket.unreadable) == ["dev1", "dev2"]
    records = BucketRecords(bucket)
    with pytest.raises(Busy):  # it is there: whoever asks must not take it for deleted
        await records.get("dev2")
    await bucket.put("dev1", {"name": "again"})
    assert set(await bucket.items()) == {"dev1", "dev3"}
    assert sorted(bucket.unreadable) == ["dev2"]


async def test_no_backup_is_made_of_a_registry_that_cannot_be_read_whole(rig: Rig) -> None:
    await rig.start(with_hub=False)
    devices, sessions = await opened(rig), await opened(rig, "sessions")
    await devices.put("dev1", {"name": "dev1", "key": "00" * 16})
    await devices._write("dev2", b"damaged")
    with pytest.raises(DamagedRegistryError) as raised:
        await collect(rig.api, "site1", devices, sessions)
    assert raised.value.names == ["dev2"]


@pytest.mark.parametrize("size", [2, 300])  # one answer holds 256
async def test_a_listing_is_whole_however_late_a_busy_server_pushes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    await rig.start(with_hub=False)
    bucket = await opened(rig)
    documents = {f"d{number}": {"number": number} for number in range(size)}
    for key, document in documents.items():
        await bucket.put(key, document)
    await bucket.delete("d1")
    del documents["d1"]
    client = rig.connection.client
    process = client._process_msg

    async def late(sid: int, subject: bytes, *rest: Any) -> None:
        # The server answers requests and pushes documents in two threads; the answers may be first.
        if subject.startswith(b"$KV."):
            await asyncio.sleep(0.02)
        await process(sid, subject, *rest)

    monkeypatch.setattr(client, "_process_msg", lambda *message: _soon(late(*message)))
    for _ in range(10):
        assert await bucket.items() == documents


async def _soon(coroutine: Any) -> None:
    asyncio.get_running_loop().create_task(coroutine)
