# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole hub`: the servers that sites report to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

app = typer.Typer(
    help="Set up a hub of NATS servers, and sites at it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("petiole hub init myhub --name acme --servers 3", "petiole hub site myhub cabin"),
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the hub: keys, configurations, credentials.")]


@app.command(
    epilog=examples(
        "petiole hub init myhub --name acme",
        "petiole hub init myhub --name acme --servers 3 --host n1.example.com --host n2.example.com"
        " --host n3.example.com",
    )
)
def init(
    context: typer.Context,
    folder: Folder,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the operator.")] = "petiole",
    servers: Annotated[int, typer.Option(metavar="1|3", help="How many servers share the work.")] = 1,
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Host of each server, in order; else all are on this one.")
    ] = None,
    store_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where each server stores its streams, on its host.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate for clients and leafs.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key.")] = None,
) -> None:
    """Make keys, server configurations and application credentials in DIR.

    DIR is all there is of the hub's identity: keep it safe, and keep a copy.
    """
    from petiole_tools import hub_folder

    hub_folder.init(options_of(context), folder, name, servers, host or [], store_dir, tls_cert, tls_key)


@app.command(
    epilog=examples("petiole hub site myhub cabin", "petiole hub site myhub cabin --offline"),
)
def site(
    context: typer.Context,
    folder: Folder,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Name of the site.")],
    renew: Annotated[
        bool, typer.Option("--renew", help="New credentials, though there are some; those stay good, too.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only write the credentials; the hub need not run.")
    ] = False,
) -> None:
    """Make the credentials of one site, and let the running hub take its readings.

    The credentials open leaf connections only and reach that site's subjects only.
    """
    from petiole_tools import hub_folder

    run(hub_folder.add_site(options_of(context), folder, site, renew=renew, offline=offline))
