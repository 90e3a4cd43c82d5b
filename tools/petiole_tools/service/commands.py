"""What `petiole gateway install` and `uninstall` print."""

from __future__ import annotations

from pathlib import Path

from petiole_tools.options import Options

from . import places
from .installation import Target, install_plan, uninstall_plan
from .plan import Plan


def install(options: Options, root: Path, *, leaf_unit: bool | None, dry_run: bool) -> None:
    """Install or upgrade. CliError, ConfigError."""
    target = Target(root.absolute(), dry_run)
    target.check()
    given = options.config
    if given is not None and given.absolute() == places.CONFIG_FILE:
        given = None
    if not _carry_out(install_plan(target, given, leaf_unit), target, "everything was up to date"):
        return
    if target.is_here:
        print("the gateway runs: `systemctl status petiole-gateway`")
        print(f"next: sudo petiole --config {places.CONFIG_FILE} device add kitchen")


def uninstall(options: Options, root: Path, *, purge: bool, dry_run: bool) -> None:
    """Remove. CliError."""
    target = Target(root.absolute(), dry_run)
    target.check()
    if _carry_out(uninstall_plan(target, purge=purge), target, "nothing was there") and not purge:
        print(f"kept: {places.CONFIG_FILE.parent}, {places.STATE_DIR}; --purge removes them")


def _carry_out(plan: Plan, target: Target, unchanged: str) -> bool:
    if target.dry_run:
        print(plan.text())
        return False
    if not plan.apply(print):
        print(unchanged)
    return True
