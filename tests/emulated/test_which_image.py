"""Which image these tests take, and what they say of one that they cannot."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from .conftest import FROZEN, STOCK, WHAT, WHERE, checked_image

RP2040 = 0xE48BFF56


def uf2(family: int, content: bytes = b"") -> bytes:
    """A file of as many blocks as it takes."""
    pieces = [content[start : start + 256] for start in range(0, max(len(content), 1), 256)]
    blocks = []
    for number, piece in enumerate(pieces):
        address = 0x10000000 + 256 * number
        head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, address, 256, number, len(pieces), family)
        blocks.append((head + piece).ljust(508, b"\0") + struct.pack("<I", 0x0AB16F30))
    return b"".join(blocks)


@pytest.mark.parametrize("given", [STOCK, FROZEN])
def test_without_an_image_they_are_skipped_and_say_where_one_is(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for named in (None, ""):
        monkeypatch.delenv(given, raising=False)
        if named is not None:
            monkeypatch.setenv(given, named)
        with pytest.raises(pytest.skip.Exception, match=f"no {WHAT[given]} was named: make flash-emulated ") as skipped:
            checked_image(given)
        assert str(skipped.value).endswith(WHERE[given])


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
    for given in (STOCK, FROZEN):
        monkeypatch.setenv(given, str(path))
        with pytest.raises(pytest.fail.Exception, match=words) as failed:
            checked_image(given)
        assert WHERE[given] in str(failed.value)


def test_an_image_of_this_chip_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.uf2"
    path.write_bytes(uf2(RP2040))
    monkeypatch.setenv(STOCK, str(path))
    assert checked_image(STOCK) == path


def test_an_image_that_is_to_have_the_firmware_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.uf2"
    monkeypatch.setenv(FROZEN, str(path))
    path.write_bytes(uf2(RP2040))
    with pytest.raises(pytest.fail.Exception, match="no firmware of petiole is frozen into it"):
        checked_image(FROZEN)
    path.write_bytes(uf2(RP2040, bytes(250) + b"petiole_node"))  # of which a part is in the next block
    assert checked_image(FROZEN) == path
