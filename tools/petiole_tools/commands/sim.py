# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole sim`: nodes without hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples(
    "petiole sim --nodes 6",
    "petiole sim --udp 3 --loss 5% --delay 20ms --seed 7",
    "petiole sim --nodes 1 --app app.py",
    "petiole sim --fleet 500 --rate 200",
    "petiole sim --virtual --nodes 300 --days 1 --loss 5%",
    "petiole sim --uart 2 --console 1 --dir /tmp/sim  # and: petiole gateway run --serial '/tmp/sim/ttySIM*'",
)


def sim(
    context: typer.Context,
    nodes: Annotated[int | None, typer.Option(metavar="N", min=1, help="This many nodes on UDP.")] = None,
    uart: Annotated[int, typer.Option(metavar="N", min=0, help="Nodes on serial ports.")] = 0,
    console: Annotated[int, typer.Option(metavar="N", min=0, help="Nodes on USB consoles.")] = 0,
    udp: Annotated[int, typer.Option(metavar="N", min=0, help="Nodes on UDP.")] = 0,
    fleet: Annotated[
        int, typer.Option(metavar="N", min=0, help="Instead: this many light nodes in one process, on good links.")
    ] = 0,
    rate: Annotated[float, typer.Option(metavar="R", min=0.001, help="Readings a second of the whole fleet.")] = 10.0,
    loss: Annotated[str, typer.Option(metavar="SHARE", help="Frames that get lost.")] = "0",
    delay: Annotated[str, typer.Option(metavar="DURATION", help="How late frames are.")] = "0",
    duplicate: Annotated[str, typer.Option(metavar="SHARE", help="Frames that come twice.")] = "0",
    reorder: Annotated[str, typer.Option(metavar="SHARE", help="Frames that overtake others.")] = "0",
    corrupt: Annotated[str, typer.Option(metavar="SHARE", help="Frames with a wrong byte.")] = "0",
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed, the same bad link.")] = 1,
    period: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How often a node takes readings: 2s, and 600s if it sleeps.")
    ] = None,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Instead: sleepy nodes and a gateway of their own, in virtual time.")
    ] = False,
    days: Annotated[float, typer.Option(metavar="D", min=0.001, max=366, help="Virtual time, in days.")] = 1.0,
    mail: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --virtual: a command for each node that often.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the serial ports and the nodes' files appear.")
    ] = None,
    app: Annotated[Path | None, typer.Option(metavar="FILE", help="What the nodes run: an app.py of your own.")] = None,
    gateway: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="UDP address of the gateway, if it is not on this machine.")
    ] = None,
) -> None:
    """Start simulated nodes for the running gateway.

    They run the firmware on a real MicroPython where there is one, else on this Python. Their devices are added at the
    gateway and removed at the end, with Ctrl-C. With --virtual a fleet that sleeps lives for some days in as many
    minutes, and every reading is looked for in the stream; no gateway has to run for that.
    """
    from petiole_tools import simulate
    from petiole_tools.failure import CliError
    from petiole_tools.simulate_fleet import simulate_fleet

    if virtual:
        if app or uart or console or udp or fleet or any(text != "0" for text in (delay, duplicate, reorder, corrupt)):
            meant = "start the other nodes separately"
            raise CliError("--virtual goes with --nodes, --period, --days, --mail, --seed and --loss only", meant)
        from petiole_tools import simulate_virtual
        from petiole_tools.sim.virtual_loop import VirtualLoop

        plan = simulate_virtual.plan(nodes, days, period, seed, loss, mail)
        run(simulate_virtual.simulate_virtual(options_of(context), plan), VirtualLoop)
        return
    if mail is not None:
        raise CliError("--mail goes with --virtual", "`petiole send` queues a command for a node")
    if fleet:
        is_bad = any(text != "0" for text in (loss, delay, duplicate, reorder, corrupt))
        if app or nodes or uart or console or udp or is_bad:
            raise CliError("--fleet goes with --rate, --seed and --gateway only", "start the other nodes separately")
        run(simulate_fleet(options_of(context), fleet, rate, seed, gateway))
        return
    wanted = simulate.Wanted(
        uart=uart,
        console=console,
        udp=udp + (nodes or 0),
        loss=loss,
        delay=delay,
        duplicate=duplicate,
        reorder=reorder,
        corrupt=corrupt,
        seed=seed,
        period=period or "2s",
        folder=folder,
        app=app,
        gateway=gateway,
    )
    run(simulate.simulate(options_of(context), wanted))
