"""Build the Debian package: `python -m petiole_tools.debian_package FOLDER` (`make deb`).

It carries a Python environment of its own in /usr/lib/petiole, because Debian's Python belongs to Debian (PEP 668),
and is for the architecture and the Python of the machine that builds it. Needs dpkg-deb and Debian's own python3 with
python3-venv.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from email.utils import formatdate
from pathlib import Path

from petiole_gateway.settings.example import example
from petiole_tools.failure import CliError, explain
from petiole_tools.service import places
from petiole_tools.service.udev import udev_rules
from petiole_tools.service.unit import gateway_unit, leaf_server_unit

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = Path("/usr/bin/python3")
PREFIX = Path("/usr/lib/petiole")
PROGRAM = Path("/usr/bin/petiole")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "firmware", "gateway", "tools", "boards")
SHARED = Path("/usr/share/petiole")
# What other programs read: Grafana, Prometheus and Wireshark.
SHARED_FILES = {
    "grafana/petiole.json": "gateway/grafana/petiole.json",
    "prometheus/alerts.yml": "gateway/grafana/alerts.yml",
    "wireshark/petiole.lua": "tools/wireshark/petiole.lua",
}
_WITH_COMPILER = ("amd64", "arm64")  # what PyPI has MicroPython's compiler for
MAINTAINER = "petiole maintainers <maintainers@petiole.invalid>"
MARK = "# Of the Debian package petiole."
_PROGRAM = f"""\
#!/bin/sh
# petiole with the settings of this machine's gateway, unless others are named.
PETIOLE_CONFIG="${{PETIOLE_CONFIG-{places.CONFIG_FILE}}}"
export PETIOLE_CONFIG
exec {PREFIX}/bin/petiole "$@"
"""
_CONTROL = """\
Package: petiole
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size_kib}
Depends: python3 (>= {python}~), python3 (<< {next_python}~), libc6
Recommends: udev
Section: net
Priority: optional
Description: gateway between the smallest devices and a NATS cluster
{description}
"""
_DESCRIPTION = (
    "Nodes on ESP32 and Raspberry Pi Pico speak to this gateway over serial ports and Wi-Fi, encrypted; it stores "
    "their readings in a NATS leaf server beside it, which brings them to a NATS cluster exactly once and in order."
)


def build(folder: Path) -> Path:
    """The package's file in `folder`. CliError."""
    for tool in ("dpkg-deb", "dpkg"):
        if shutil.which(tool) is None:
            raise CliError(f"there is no {tool}", "build on Debian or Raspberry Pi OS: sudo apt install dpkg")
    if not SYSTEM_PYTHON.exists():
        raise CliError(f"there is no {SYSTEM_PYTHON}", "sudo apt install python3 python3-venv")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    architecture = _output("dpkg", "--print-architecture")
    stage = folder / "deb"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    python = _environment(stage, architecture)
    _system_files(stage, version)
    _control(stage, version, architecture, python)
    package = folder / f"petiole_{version}_{architecture}.deb"
    _output("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(stage), str(package))
    shutil.rmtree(stage)
    return package


def _environment(stage: Path, architecture: str) -> tuple[int, int]:
    """An environment that believes to be in its later place; the version of its Python."""
    place = stage / PREFIX.relative_to("/")
    _output(str(SYSTEM_PYTHON), "-m", "venv", "--without-pip", str(place))
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    extra = "[flash]" if architecture in _WITH_COMPILER else ""
    with tempfile.TemporaryDirectory() as copy:  # a build in the sources would take along what an earlier one left
        for name in SOURCES:
            source, target = ROOT / name, Path(copy) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, target)
        _output(*pip, "install", "--quiet", "--no-compile", "--no-warn-script-location", f"{copy}{extra}")
    for script in (place / "bin").iterdir():
        if script.is_symlink() or b"\0" in script.read_bytes()[:100]:
            continue
        if script.name.lower().startswith("activate"):
            script.unlink()  # it is no environment to work in
        else:
            script.write_text(script.read_text().replace(str(place), str(PREFIX)))
    (place / "pyvenv.cfg").write_text(f"home = {SYSTEM_PYTHON.parent}\ninclude-system-site-packages = false\n")
    for leftover in place.rglob("direct_url.json"):
        leftover.unlink()  # where it was built concerns nobody
    shutil.rmtree(place / "include", ignore_errors=True)
    for folder in list(place.rglob("__pycache__")):
        shutil.rmtree(folder)
    major, minor = _output(str(SYSTEM_PYTHON), "-c", "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def _system_files(stage: Path, version: str) -> None:
    state = f'state_dir = "{places.STATE_DIR}"  # the service\'s; systemd makes it\n\n'
    documents = Path("/usr/share/doc/petiole")
    changes = (
        f"petiole ({version}) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
        f" -- {MAINTAINER}  {formatdate(_changed_at(), localtime=True)}\n"
    ).encode()
    files: dict[Path, tuple[bytes, int]] = {
        PROGRAM: (_PROGRAM.encode(), 0o755),
        places.PACKAGED_UNIT_FILE: (gateway_unit(PREFIX / "bin" / "petiole", mark=MARK).encode(), 0o644),
        # Not enabled: it is for who wants it.
        places.PACKAGED_UNIT_FILE.with_name(places.LEAF_UNIT): (
            leaf_server_unit(PREFIX / "bin" / "petiole", mark=MARK).encode(),
            0o644,
        ),
        Path("/lib/udev/rules.d") / places.UDEV_FILE.name: (udev_rules(MARK).encode(), 0o644),
        places.CONFIG_FILE: ((state + example()).encode(), 0o644),
        documents / "copyright": ((ROOT / "packaging" / "debian" / "copyright").read_bytes(), 0o644),
        documents / "changelog.gz": (gzip.compress(changes, mtime=0), 0o644),
        documents / "CHANGELOG.md.gz": (gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0), 0o644),
    }
    files |= {SHARED / name: ((ROOT / source).read_bytes(), 0o644) for name, source in SHARED_FILES.items()}
    (stage / places.CREDENTIALS_DIR.relative_to("/")).mkdir(parents=True)
    for path, (content, mode) in files.items():
        target = stage / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)


def _changed_at() -> float:
    """The same for the same sources."""
    return (ROOT / "CHANGELOG.md").stat().st_mtime


def _control(stage: Path, version: str, architecture: str, python: tuple[int, int]) -> None:
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    for path in stage.rglob("*"):
        if not path.is_symlink():  # whatever the umask of who builds it
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    control = stage / "DEBIAN"
    control.mkdir()
    size_kib = sum(path.stat().st_size for path in files) // 1024
    description = "\n".join(f" {line}" for line in textwrap.wrap(_DESCRIPTION, 78))
    text = _CONTROL.format(
        maintainer=MAINTAINER,
        version=version,
        architecture=architecture,
        size_kib=size_kib,
        python=f"{python[0]}.{python[1]}",
        next_python=f"{python[0]}.{python[1] + 1}",
        description=description,
    )
    (control / "control").write_text(text)
    (control / "conffiles").write_text(f"{places.CONFIG_FILE}\n")
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files)  # noqa: S324 - dpkg's format
    (control / "md5sums").write_text("".join(line for line in sums if not line.endswith(" etc/petiole/gateway.toml\n")))
    for name in ("postinst", "prerm", "postrm"):
        shutil.copy(ROOT / "packaging" / "debian" / name, control / name)
        (control / name).chmod(0o755)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise CliError(f"`{' '.join(command[:4])} …` failed with code {done.returncode}", "see above", told[-8:])
    return done.stdout.strip()


def main() -> int:
    """0, or 1 after an `error:` and a `hint:` line."""
    try:
        print(build(Path(sys.argv[1]).absolute()))
    except Exception as error:
        failure = explain(error)
        print("\n".join([f"error: {failure.problem}", *failure.more, f"hint: {failure.hint}"]), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
