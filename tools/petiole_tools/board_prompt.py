"""A prompt for mpremote's commands on one board: `python -m petiole_tools.quiet_start petiole_tools.board_prompt PORT
NAME`.

A process of its own, because it has the terminal while `petiole shell` keeps the port lent.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from petiole_tools.hands_on import MPREMOTE
from petiole_tools.ports import PLACE
from petiole_tools.quiet_start import INTERRUPTED

_FILES = ["cat", "cp", "df", "edit", "ls", "mkdir", "rm", "rmdir", "sha256sum", "touch", "tree"]
COMMANDS = [*_FILES, "eval", "exec", "exit", "help", "mip", "mount", "repl", "rtc", "run", "umount"]
HELP = """\
ls [DIR]   tree [DIR]   cat FILE   df          look at the board's files
cp FILE :FILE   cp :FILE FILE   cp -r DIR :    copy; a colon stands before what is on the board
edit FILE  rm [-r] FILE  mkdir DIR  rmdir DIR  touch FILE  sha256sum FILE
exec CODE   eval CODE   run FILE   repl        run something there
mip install NAME                               install a package
exit, Ctrl-D                                   leave; the board starts again
"""
_USAGE = 2


def main() -> int:
    """Until there are no more lines. A script ends at the first command that fails, with its exit code."""
    port, name = sys.argv[1:]
    is_typed = sys.stdin.isatty()
    if is_typed:
        _complete()
        print("help lists the commands, exit ends this; the board's program has stopped", file=sys.stderr)
    while True:
        try:
            line = input(f"{name}> " if is_typed else "")
        except EOFError:
            if is_typed:
                print()
            return 0
        except KeyboardInterrupt:
            print()
            continue
        code = _carry_out(port, line)
        if code is None:
            return 0
        if code and not is_typed:
            return code


def _carry_out(port: str, line: str) -> int | None:
    """The exit code of a command; None if it is the last."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        print(f"{line}: {error}".lower(), file=sys.stderr)
        return _USAGE
    if not words:
        return 0
    if words[0] in ("exit", "quit"):
        return None
    if words[0] == "help":
        print(HELP, end="")
        return 0
    command = [*(word.replace(PLACE, port) for word in MPREMOTE), *words]
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # it has heard that, too
        process.wait()
        return INTERRUPTED
    except SystemExit:
        process.terminate()
        process.wait()
        raise
    return code if code >= 0 else 128 - code


def _complete() -> None:
    """Tab completes commands, and paths of this machine."""
    try:
        import readline  # noqa: PLC0415 - not every Python has it
    except ImportError:
        return

    def found(text: str, state: int) -> str | None:
        if readline.get_begidx() == 0:
            matches = [word + " " for word in COMMANDS if word.startswith(text)]
        else:
            folder, start = os.path.split(text)
            matches = []
            with contextlib.suppress(OSError):
                for path in sorted(Path(folder or ".").iterdir()):
                    if path.name.startswith(start):
                        matches.append(os.path.join(folder, path.name) + ("/" if path.is_dir() else ""))
        return matches[state] if state < len(matches) else None

    readline.set_completer(found)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
