"""Which image these tests take, and what they say of one that they cannot."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from .conftest import GIVEN, WHERE, checked_image


def uf2(family: int) -> bytes:
    head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0x10000000, 256, 0, 1, family)
    return head.ljust(508, b"\0") + struct.pack("<I", 0x0AB16F30)


def test_without_an_image_they_are_skipped_and_say_where_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (None, ""):
        monkeypatch.delenv(GIVEN, raising=False)
        if given is not None:
            monkeypatch.setenv(GIVEN, given)
        with pytest.raises(pytest.skip.Exception, match=f"no MicroPython image was named: {WHERE[:20]}"):
            checked_image()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "no such file or directory"),
        (b"", "no UF2 file"),
        (b"an article about UF2", "no whole blocks of 512 bytes"),
        (bytes(512), "block 0 is none"),
        (uf2(0xE48BFF59), "another chip .family e48bff59. than the RP2040"),
    ],
)
def test_what_is_no_image_for_this_board_fails_with_its_reason(
    data: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.uf2"
    if data is not None:
        path.write_bytes(data)
    monkeypatch.setenv(GIVEN, str(path))
    with pytest.raises(pytest.fail.Exception, match=words) as failed:
        checked_image()
    assert WHERE in str(failed.value)


def test_an_image_of_this_chip_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.uf2"
    path.write_bytes(uf2(0xE48BFF56))
    monkeypatch.setenv(GIVEN, str(path))
    assert checked_image() == path
