"""Files that hold secrets: what is said when they cannot be written."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from petiole_gateway.nats.errors import ApiError
from petiole_gateway.nats.private_file import read_private, write_private


def test_a_disk_without_room_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    """Stood in for by a limit on the size of files."""
    path = tmp_path / "leaf.conf"
    write_private(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        with pytest.raises(OSError, match=r"leaf\.conf") as raised:
            write_private(path, b"the new one")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(path)
    assert read_private(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_none_keeps_its_own_name_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(OSError, match="state") as raised:
        write_private(tmp_path / "state" / "leaf.conf", b"")
    assert raised.value.filename == str(tmp_path / "state")


def test_a_server_whose_disk_is_full_is_there() -> None:
    """As nats-server 2.15 says it."""
    full = ApiError("$JS.API.CONSUMER.CREATE.UP.hub", 500, 10012, "write /x/meta.inf.tmp: no space left on device")
    assert full.hint.startswith("the disk of the server is full")
    other = ApiError("$JS.API.STREAM.CREATE.UP", 400, 10052, "invalid config")
    assert "address" not in other.hint
    assert other.hint != full.hint
