# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole gateway`: the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petiole_tools.commands.shared import examples, options_of, run

app = typer.Typer(
    help="Run the gateway between nodes and NATS.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("petiole gateway run"),
)


@app.command(
    "run",
    epilog=examples(
        "petiole gateway run",
        "petiole gateway run --config /etc/petiole/petiole.toml",
        "petiole gateway run --serial usb:E6614103E72B502C --serial '/dev/ttyUSB*'",
        "petiole gateway run --site cabin --hub nats-leaf://hub.example.com --hub-creds cabin.creds",
    ),
)
def run_gateway(
    context: typer.Context,
    serial: Annotated[
        list[str] | None,
        typer.Option(metavar="PORT", help="A serial port: usb:<serial number>, a path or a pattern; several times."),
    ] = None,
    udp: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen for nodes; 'off' for nowhere.")
    ] = None,
    hub: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Leaf address of the hub; several times for its servers.")
    ] = None,
    hub_creds: Annotated[Path | None, typer.Option(metavar="FILE", help="Credentials of this site at the hub.")] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where /metrics and /healthz are; 'off' for nowhere.")
    ] = None,
    leaf_unit: Annotated[
        bool, typer.Option("--leaf-unit", help="The leaf server is a service of its own: wait for it, start none.")
    ] = False,
    log_level: Annotated[
        str | None,
        typer.Option(envvar="PETIOLE_LOG_LEVEL", metavar="LEVEL", help="debug, info, warning or error."),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(envvar="PETIOLE_LOG_FORMAT", metavar="FORMAT", help="text, json, journal or auto."),
    ] = None,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    It works with no settings at all: nodes reach it on UDP port 6363, and it starts its own NATS leaf server. What is
    given here replaces the same setting of the settings file. A port may have its speed and framing behind it:
    /dev/ttyUSB0,921600 or /dev/ttyACM0,console.
    """
    from petiole_tools.gateway_process import run_gateway as serve

    overrides: dict[str, Any] = {}
    if serial:
        overrides["serial"] = [serial_port(text) for text in serial]
    if udp is not None:
        overrides["udp"] = {"enabled": False} if udp == "off" else {"enabled": True, "listen": udp}
    if metrics is not None:
        overrides["metrics"] = {"enabled": False} if metrics == "off" else {"enabled": True, "listen": metrics}
    if hub or hub_creds:
        overrides["nats"] = {"hub": hub or []} | ({"hub_credentials": str(hub_creds.absolute())} if hub_creds else {})
    if leaf_unit:
        overrides.setdefault("nats", {})["leaf_unit"] = True
    log = {"level": log_level, "format": log_format}
    if any(log.values()):
        overrides["log"] = {name: value for name, value in log.items() if value}
    run(serve(options_of(context).settings(overrides)))


@app.command("leaf", epilog=examples("petiole gateway leaf --config /etc/petiole/gateway.toml"))
def leaf(context: typer.Context) -> None:
    """Be the leaf server of a gateway that has the same settings, for a service of its own.

    This process becomes nats-server; `petiole gateway run --leaf-unit` waits for it. The store is the one that the
    gateway's own server has, so either may run it, one at a time.
    """
    from petiole_tools.gateway_process import run_leaf

    run(run_leaf(options_of(context).settings({})))


def serial_port(text: str) -> dict[str, Any]:
    """`PORT[,BAUD][,FRAMING]` as an entry of the settings."""
    port, *rest = text.split(",")
    entry: dict[str, Any] = {"port": port}
    for word in rest:
        entry["baud" if word.isdigit() else "framing"] = int(word) if word.isdigit() else word
    return entry


Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Only write files, below DIR: for an image.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print every file and command, and change nothing.")]


@app.command(
    "install",
    epilog=examples(
        "sudo petiole gateway install",
        "petiole gateway install --dry-run",
        "sudo petiole gateway install --config gateway.toml",
        "sudo petiole gateway install --leaf-unit",
    ),
)
def install(
    context: typer.Context,
    leaf_unit: Annotated[
        bool | None,
        typer.Option(
            "--leaf-unit/--no-leaf-unit",
            help="The leaf server is a service of its own, petiole-leaf, or the gateway's again; left out: as it is.",
            show_default=False,
        ),
    ] = None,
    root: Root = Path("/"),
    dry_run: DryRun = False,
) -> None:
    """Make the gateway a service of systemd, or bring it up to date.

    With --config the service gets these settings and the credentials that they name; else it keeps those in
    /etc/petiole/gateway.toml, or begins with an example. Only what differs is written; the service is restarted.
    """
    from petiole_tools.service import commands

    commands.install(options_of(context), root, leaf_unit=leaf_unit, dry_run=dry_run)


@app.command(
    "uninstall",
    epilog=examples("sudo petiole gateway uninstall", "sudo petiole gateway uninstall --purge"),
)
def uninstall(
    context: typer.Context,
    purge: Annotated[bool, typer.Option("--purge", help="Remove settings, keys, devices and readings, too.")] = False,
    root: Root = Path("/"),
    dry_run: DryRun = False,
) -> None:
    """Remove the service. What it has stored stays, unless --purge is given."""
    from petiole_tools.service import commands

    commands.uninstall(options_of(context), root, purge=purge, dry_run=dry_run)


PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Its first line is the password. Else PETIOLE_BACKUP_PASSWORD.")
]


@app.command("backup", epilog=examples("petiole gateway backup kitchen.backup"))
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    password_file: PasswordFile = None,
) -> None:
    """Write devices, keys, settings and last sequence numbers of the running gateway to one encrypted file.

    Readings are not in it: they are the hub's.
    """
    from petiole_tools import backup as backups

    run(backups.backup(options_of(context), file, password_file))


@app.command(
    "restore",
    epilog=examples(
        "petiole gateway restore kitchen.backup",
        "petiole --server nats://hub.example.com --creds application.creds gateway restore kitchen.backup",
    ),
)
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    password_file: PasswordFile = None,
    settings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write settings and credentials of the backup there, and restore for them."),
    ] = None,
    trust_clock: Annotated[
        bool, typer.Option("--trust-clock", help="This machine's clock is right, though no time source has set it.")
    ] = False,
) -> None:
    """Put a backup into a new gateway, before it is started.

    The old gateway must be gone. Nodes join anew with their next frame and go on. With --server and --creds of the
    hub it is asked for the last reading of each device, so that none comes twice.
    """
    from petiole_tools import backup as backups

    run(backups.restore(options_of(context), file, password_file, settings, trust_clock=trust_clock))
