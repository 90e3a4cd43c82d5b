"""`petiole`: one command for the gateway, the devices and the look inside."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands import (
    boards,
    demo,
    device,
    doctor,
    flash,
    gateway,
    hub,
    logs,
    mailbox,
    port,
    request,
    sim,
    status,
    tap,
    watch,
)
from petiole_tools.commands import config as config_command
from petiole_tools.failure import CliError, explain
from petiole_tools.options import Options
from petiole_tools.output import ReaderLeft, paint
from petiole_tools.quiet_start import INTERRUPTED

# Global options, which may stand anywhere on the command line; True for those with a value.
_GLOBAL = {
    "--config": True,
    "--state-dir": True,
    "--server": True,
    "--creds": True,
    "--user": True,
    "--site": True,
    "--json": False,
    "--debug": False,
}

app = typer.Typer(
    name="petiole",
    help="Join the smallest devices to a NATS cluster: encrypted, durable, asleep most of the time.",
    epilog="\b\nExamples:\n  petiole demo\n  petiole gateway run\n  petiole device add kitchen\n  petiole watch",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.add_typer(gateway.app, name="gateway")
app.add_typer(config_command.app, name="config")
app.add_typer(device.app, name="device")
app.command("request", epilog=request.EPILOG)(request.request)
app.command("send", epilog=mailbox.SEND_EPILOG)(mailbox.send)
app.command("mailbox", epilog=mailbox.MAILBOX_EPILOG)(mailbox.mailbox)
app.command("watch", epilog=watch.EPILOG)(watch.watch)
app.command("tap", epilog=tap.EPILOG)(tap.tap)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.command("status", epilog=status.EPILOG)(status.status)
app.command("top", epilog=status.TOP_EPILOG)(status.top)
app.command("boards", epilog=boards.EPILOG)(boards.boards)
app.command("flash", epilog=flash.EPILOG)(flash.flash)
app.command("new", epilog=flash.NEW_EPILOG)(flash.new)
app.command("run", epilog=logs.RUN_EPILOG)(logs.run_app)
app.command("logs", epilog=logs.LOGS_EPILOG)(logs.logs)
app.command("repl", epilog=logs.REPL_EPILOG)(logs.repl)
app.command(
    "shell",
    epilog=logs.SHELL_EPILOG,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(logs.shell)
app.add_typer(port.app, name="port")
app.add_typer(hub.app, name="hub")
app.command("sim", epilog=sim.EPILOG)(sim.sim)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        print(f"petiole {version('petiole')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(envvar="PETIOLE_CONFIG", metavar="FILE", help="Settings of the gateway (TOML).")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(envvar="PETIOLE_STATE_DIR", metavar="DIR", help="Where the gateway keeps its data.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(envvar="PETIOLE_SERVER", metavar="URL", help="NATS server to talk to, instead of the gateway's."),
    ] = None,
    creds: Annotated[
        Path | None, typer.Option(envvar="PETIOLE_CREDS", metavar="FILE", help="Credentials file for that server.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            envvar="PETIOLE_USER", metavar="NAME", help="User at that server; the password is in PETIOLE_PASSWORD."
        ),
    ] = None,
    site: Annotated[
        str | None, typer.Option(envvar="PETIOLE_SITE", metavar="SITE", help="The site that is meant.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Join the smallest devices to a NATS cluster: encrypted, durable, asleep most of the time.

    These options may stand before or behind a command.
    """
    context.obj = Options(
        config=config,
        state_dir=state_dir,
        server=server,
        credentials=creds,
        user=user,
        password=os.environ.get("PETIOLE_PASSWORD"),
        site=site,
        as_json=as_json,
        debug=debug,
    )


def global_first(words: list[str]) -> list[str]:
    """The command line with the global options in front: `device list --json` is what people type."""
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            rest += [word, *words[position:]]
            break
        name, equals, _ = word.partition("=")
        if not _GLOBAL.get(name) and (equals or name not in _GLOBAL):
            rest.append(word)
            continue
        front.append(word)
        if _GLOBAL[name] and not equals:
            if position == len(words):
                raise typer.BadParameter(f"{name} has none")
            front.append(words[position])
            position += 1
    return front + rest


def main(words: list[str] | None = None) -> int:
    """Run a command line; the exit code: 0, 1 after an `error:` and a `hint:` line, 2 wrong usage, 130 Ctrl-C."""
    given = sys.argv[1:] if words is None else words
    try:
        code = typer.main.get_command(app).main(global_first(given), prog_name="petiole", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except ReaderLeft:
        # Python would complain about it once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.TyperException as error:
        return _usage(error)
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        failure = explain(error)
        return _fail(failure, failure.exit_code)
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> int:
    message = error.format_message()
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "petiole"
    problem = " ".join(message.split())
    return _fail(CliError(problem[:1].lower() + problem[1:].rstrip("."), f"{path} --help"), error.exit_code)


def _fail(failure: CliError, code: int = 1) -> int:
    stream = sys.stderr
    print(f"{paint('error:', 'red', 'bold', stream=stream)} {failure.problem}", file=stream)
    for line in failure.more:
        print(f"  {line}", file=stream)
    print(f"{paint('hint:', 'cyan', stream=stream)} {failure.hint}", file=stream, flush=True)
    return code


__all__ = ["app", "global_first", "main"]
