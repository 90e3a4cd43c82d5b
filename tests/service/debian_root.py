"""A real systemd as process 1 of a Debian root, in namespaces of its own. Needs root, and debootstrap the first time.

The root is made once (`PETIOLE_DEBIAN_ROOT` names one that is there) and lies below an overlay, so each test begins
with a fresh one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "PETIOLE_DEBIAN_ROOT"
PACKAGES = "systemd,systemd-sysv,python3,udev"
_TOOLS = ("unshare", "nsenter", "mount", "chroot")
BOOT_S = 60.0

# The order matters: cgroups first, because the new systemd owns what is below the group it is started in.
_BOOT = """\
set -e
root=$1
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666,mode=620
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
# In a container systemd leaves that to its manager; credentials are mounted elsewhere, and have to come through.
mount --make-rshared "$root"
exec env -i container=petiole-test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --system
"""


def missing() -> str:
    """What is missing for a system here, "" if nothing is."""
    if os.geteuid() != 0:
        return "only root can start a system in namespaces"
    tools = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if tools:
        return f"no {', '.join(tools)}: install util-linux"
    if _cgroups() is None:
        return "no cgroup2 hierarchy is mounted"
    if not _has_root() and shutil.which("debootstrap") is None:
        return f"no debootstrap: install it, or name a Debian root with systemd in {VARIABLE}"
    return ""


def _cgroups() -> Path | None:
    return next(
        (p for p in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if (p / "cgroup.procs").exists()), None
    )


def _root() -> Path:
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "petiole" / "debian-bookworm"


def _has_root() -> bool:
    return (_root() / "lib" / "systemd" / "systemd").exists()


def debian_root() -> Path:
    """The root, made if it is not there; that takes some minutes and the network."""
    root = _root()
    if not _has_root():
        half = root.with_name(root.name + ".new")
        shutil.rmtree(half, ignore_errors=True)
        half.parent.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(half)]
        subprocess.run(command, check=True, capture_output=True, timeout=1200)
        half.rename(root)
    return root


class System:
    """A booted Debian. `run` runs a command in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._folder = folder
        for name in ("root", "upper", "work"):
            (folder / name).mkdir(parents=True)
        cgroups = _cgroups()
        assert cgroups is not None
        self._cgroup = cgroups / f"petiole-test-{os.getpid()}-{time.monotonic_ns()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Start it and wait until its systemd says that all is up."""
        self._cgroup.mkdir()
        enter = f'echo $$ >{self._cgroup}/cgroup.procs; exec unshare -m -p -f -C -n -u -i --kill-child sh -c "$0" "$@"'
        script = [_BOOT, "boot", str(self.root), str(debian_root()), str(self._folder)]
        log = (self._folder / "boot.log").open("wb")
        self._process = subprocess.Popen(
            ["sh", "-c", enter, *script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        self.wait_for("a process 1", self._find_init, BOOT_S)
        self.wait_for("a booted system", lambda: self.run("systemctl", "is-system-running").stdout in _UP, BOOT_S)

    def _find_init(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        if self._process.poll() is not None:
            pytest.fail((self._folder / "boot.log").read_text())
        for pid in map(int, children.read_text().split()):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                self._init = pid
                return True
        return False

    def halt(self) -> None:
        """End it with everything in it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
        end = time.monotonic() + 30
        while True:  # its processes end a moment after it
            for folder in sorted(self._cgroup.rglob("*"), reverse=True):
                if folder.is_dir():
                    _rmdir(folder)
            if _rmdir(self._cgroup) or time.monotonic() > end:
                return
            time.sleep(0.1)

    def run(self, *command: str, check: bool = False, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self._init), "-a", "-r", "sh", "-c", 'cd / && exec "$@"', "sh"]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        done = subprocess.run(
            [*enter, *command], capture_output=True, text=True, check=False, timeout=timeout_s, env=environment
        )
        if check and done.returncode != 0:
            pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}{self.journal()}")
        return done

    def journal(self) -> str:
        """What the gateway has said."""
        return self.run("journalctl", "-u", "petiole-gateway", "--no-pager", "-n", "60", "-o", "cat").stdout

    def show(self, name: str) -> str:
        """A property of the gateway's unit."""
        return self.run("systemctl", "show", "petiole-gateway", "-P", name).stdout.strip()

    def in_root(self, path: str) -> Path:
        """A path of the system as seen from here."""
        return Path(f"/proc/{self._init}/root") / path.lstrip("/")

    def outer_pid(self, inner: int) -> int:
        """The number that a process of the system has here."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            except OSError:
                continue
            numbers = lines.get("NSpid", "").split()
            if len(numbers) == 2 and numbers[1] == str(inner) and _namespace(int(numbers[0])) == _namespace(self._init):
                return int(numbers[0])
        pytest.fail(f"no process {inner} in the system")

    def wait_for(self, what: str, probe: Callable[[], Any], timeout_s: float) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = probe()
            if found:
                return found
            time.sleep(0.1)
        told = self.journal() if self._init else (self._folder / "boot.log").read_text()
        pytest.fail(f"no {what} within {timeout_s:g} s:\n{told}")


_UP = ("running\n", "degraded\n")


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _rmdir(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True
