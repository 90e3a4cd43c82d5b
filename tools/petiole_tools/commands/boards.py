# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole boards`: what is known about boards."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of

EPILOG = examples("petiole boards", "petiole boards RPI_PICO_W", "petiole boards --json")


def boards(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="BOARD", help="Show all about this one.")] = None,
) -> None:
    """List the boards that the firmware runs on, and how each was verified."""
    from petiole_tools import boards as known
    from petiole_tools.output import paint, say, say_fields, say_json, say_table

    found = known.load_all() if name is None else [known.load(name)]
    if options_of(context).as_json:
        documents = [board.model_dump(mode="json") for board in found]
        say_json({"boards": documents} if name is None else documents[0])
        return
    if name is None:
        rows = [
            [one.name, one.chip, f"{one.memory.heap_kb} KB", ", ".join(one.links), one.flash.method, one.verified.by]
            for one in found
        ]
        say_table(["BOARD", "CHIP", "HEAP", "LINKS", "FLASHED BY", "VERIFIED BY"], rows)
        return
    board = found[0]
    say(f"{paint(board.name, 'bold')}  {board.title}")
    pins = board.pins
    memory = board.memory
    ran_on = ", ".join(board.micropython.tested) or "none"
    fields = [
        ("chip", f"{board.chip}, port {board.port}"),
        ("heap", f"{memory.heap_kb} KB"),
        ("retained", f"{memory.retained_bytes} B {memory.retained_in}" if memory.retained_bytes else "nothing"),
        ("file system", f"{board.flash.filesystem_kb} KB" if board.flash.filesystem_kb else "-"),
        ("links", ", ".join(board.links)),
        ("uart", f"{pins.uart}: tx {pins.tx}, rx {pins.rx}" if pins else "-"),
        ("usb ids", ", ".join(board.usb.ids) or "-"),
        ("micropython", f"{board.micropython.minimum} or newer; ran on {ran_on}"),
        ("flashed by", board.flash.method),
        ("sleep", board.power.sleep),
    ]
    say_fields(fields)
    for line in board.power.notes:
        say(f"  {line}")
    say_fields([("verified", f"{board.verified.by}: {board.verified.note}")])
