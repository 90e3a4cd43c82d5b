"""MicroPython's source as Debian has it, verified by apt with Debian's keys. Nothing of the system is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SUITE = "trixie"  # MicroPython 1.25; bookworm's 1.19 is older than what boards need
PACKAGES = ("micropython", "mbedtls")  # Debian's MicroPython is without the libraries that it brings
VARIABLE = "MICROPYTHON_SOURCE"

_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_READY = ".complete"  # in the folder of the source when all of it is there
_DOWNLOAD_S = 900.0


class CannotBuild(RuntimeError):
    """What is missing for a VM, and `hint`, what to do about it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


def source(folder: Path) -> Path:
    """The root of MicroPython's source: fetched into `folder` if it is not there yet. Needs no root.

    MICROPYTHON_SOURCE names one that is there instead, with lib/mbedtls. CannotBuild if there is none to be had.
    """
    given = os.environ.get(VARIABLE)
    if given:
        root = Path(given).resolve()
        if not (root / "lib" / "mbedtls" / "library" / "aes.c").exists() or not (root / "ports" / "unix").exists():
            raise CannotBuild(
                f"{VARIABLE}={given} is no source of MicroPython with lib/mbedtls",
                "in a clone: git submodule update --init lib/mbedtls",
            )
        return root
    root = folder / "source"
    if not (root / _READY).exists():
        _unpack(_fetch(folder / "debian"), root)
    return root


def _fetch(folder: Path) -> dict[str, Path]:
    """The original tarball of each package."""
    elsewhere = f"or name a source of MicroPython in {VARIABLE}"
    if shutil.which("apt-get") is None or not _KEYS.exists():
        raise CannotBuild("no apt-get with Debian's keys here", f"build on Debian, {elsewhere}")
    mirror = _mirror()
    if mirror is None:
        raise CannotBuild("apt knows no mirror of Debian", f"add one to /etc/apt/sources.list, {elsewhere}")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb-src [signed-by={_KEYS}] {mirror} {SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # apt's own user may not write here, where root runs this
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    for command in (["update", "--error-on=any"], ["source", "--download-only", "--only-source", *PACKAGES]):
        done = subprocess.run(
            [*apt, *command], cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no reason").splitlines()[-1]
            raise CannotBuild(f"apt-get {command[0]} failed: {said}", f"check the network, {elsewhere}")
    return {name: _newest(folder, name) for name in PACKAGES}


def _newest(folder: Path, package: str) -> Path:
    return max(folder.glob(f"{package}_*.orig.tar.*"), key=lambda path: path.stat().st_mtime)


def _mirror() -> str | None:
    """Where this system has its packages from, if it is Debian."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    for line in done.stdout.splitlines():
        words = line.split(" ")
        # Updates and security are elsewhere, or have not all packages.
        if len(words) == 3 and words[0] == "Debian" and "-" not in words[1]:
            return words[2]
    return None


def _unpack(tarballs: dict[str, Path], root: Path) -> None:
    half = root.with_name(root.name + ".new")
    shutil.rmtree(half, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    for name, into in (("micropython", half), ("mbedtls", half / "lib" / "mbedtls")):
        into.mkdir(parents=True, exist_ok=True)
        command = ["tar", "-xf", str(tarballs[name]), "-C", str(into), "--strip-components=1", "--no-same-owner"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise CannotBuild(f"tar failed: {done.stderr.strip()}", "check the disk's space")
    (half / _READY).touch()
    half.rename(root)
