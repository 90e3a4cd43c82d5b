"""A power cut has torn the server's files of the consumer through which the hub takes the readings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nats_rig import SITE, Fleet, Rig, assert_once_and_in_order

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.consumer_state import remove_consumer_state
from petiole_gateway.nats.errors import ConsumerStateError
from petiole_gateway.nats.publisher import Publisher
from petiole_gateway.nats.streams import PROBES
from petiole_gateway.nats.subjects import HUB_CONSUMER, UPLINK_STREAM, probe_subject
from petiole_gateway.nats.uplink_admission import StoreMetrics
from petiole_gateway.nats.uplink_eviction import StoreSpace
from petiole_gateway.nats.uplink_store import UplinkStore
from petiole_gateway.nats.uplink_stream import UplinkStream

MEBIBYTE = 1024 * 1024


def state_file(store_dir: Path) -> Path:
    """What the server writes of that consumer again and again, without waiting for the disk."""
    (found,) = store_dir.glob(f"jetstream/*/streams/{UPLINK_STREAM}/obs/{HUB_CONSUMER}/o.dat")
    return found


def tear(file: Path, damage: str) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes(len(content)) if damage == "zeros" else content[: len(content) // 2])


async def torn(rig: Rig, store: UplinkStore, damage: str) -> None:
    """The machine goes down, and comes back with a torn file."""
    await rig.crash_store(store)
    await rig.connection.close()
    await rig.leaf.stop()
    tear(state_file(rig.leaf.store_dir), damage)
    await rig.leaf.start()


@pytest.mark.parametrize("burn", [True, False])
@pytest.mark.parametrize("damage", ["zeros", "half"])
async def test_the_consumer_is_made_anew_and_the_hub_gets_everything_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, damage: str, burn: bool
) -> None:
    """Some readings are at the hub, some are not, and some come after. `burn`: the machine was down, else only the
    server."""
    fleet = Fleet(10)
    await rig.start()
    store = await rig.store_at_hub(fleet, 20)
    rig.proxy.cut()
    await fleet.send(store, 30)
    await fleet.all_durable(store)
    await torn(rig, store, damage)
    if burn:
        monkeypatch.setattr("petiole_gateway.nats.uplink_recovery.boot_id", lambda: "another boot")
    store = await rig.store(fleet)
    assert store.metrics.consumers_renewed_total == 1
    assert (store.metrics.burnt_total > 0) == burn
    assert rig.logger.seen("consumer_files_removed")
    rig.proxy.restore()
    await fleet.send(store, 20)
    await fleet.all_durable(store)
    assert_once_and_in_order(await rig.at_hub(fleet), fleet)


async def test_it_is_said_what_to_do_where_it_is_not_known_where_the_files_are(rig: Rig) -> None:
    fleet = Fleet(2)
    await rig.start(with_hub=False)
    store = await rig.store(fleet)
    await fleet.send(store, 5)
    await fleet.all_durable(store)
    await torn(rig, store, "zeros")
    rig.connection = await rig.connect_leaf()
    api = JetStreamApi(rig.connection.client)
    metrics = StoreMetrics()
    stream = UplinkStream(
        api,
        Publisher(rig.connection),
        site=SITE,
        state_dir=rig.folder / "state",
        store_dir=None,
        space=StoreSpace(MEBIBYTE),
        metrics=metrics,
        logger=rig.logger,
        with_hub=True,
        burn_count=500,
    )
    for _ in range(3):
        with pytest.raises(ConsumerStateError, match="store_dir does not say") as raised:
            await stream.open()
        assert f"streams/{UPLINK_STREAM}/obs/{HUB_CONSUMER}" in raised.value.hint
    assert metrics.consumers_renewed_total == 0
    info = await api.stream_info(UPLINK_STREAM, subjects_filter=">")
    assert info is not None
    found = info["state"]["subjects"]
    assert found.pop(probe_subject(SITE), 0) <= PROBES, "attempts pile up in the stream"
    assert sum(found.values()) == 10, "and no reading is gone"


def test_nothing_is_removed_while_it_is_not_certain_what(tmp_path: Path) -> None:
    """A server of one's own may have several accounts with such a stream."""
    with pytest.raises(ConsumerStateError, match="0 folders"):
        remove_consumer_state(tmp_path, "UP", "hub")
    folders = [tmp_path / "jetstream" / account / "streams/UP/obs/hub" for account in ("A", "B")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "o.dat").write_bytes(b"")
    with pytest.raises(ConsumerStateError, match="2 folders"):
        remove_consumer_state(tmp_path, "UP", "hub")
    assert all((folder / "o.dat").exists() for folder in folders)
    shutil.rmtree(tmp_path / "jetstream/B")
    # A server's folder as it is in its settings, and as it is on disk.
    assert remove_consumer_state(tmp_path / "jetstream", "UP", "hub") == folders[0]
    folders[0].mkdir()
    assert remove_consumer_state(tmp_path, "UP", "hub") == folders[0]
    assert not folders[0].exists()


def test_files_that_cannot_be_removed_are_named(tmp_path: Path) -> None:
    file = tmp_path / "jetstream/A/streams/UP/obs/hub"
    file.parent.mkdir(parents=True)
    file.write_text("no folder")
    with pytest.raises(ConsumerStateError, match=f"{file}: Not a directory"):
        remove_consumer_state(tmp_path, "UP", "hub")
    assert file.exists()
