"""The start of `petiole`, and of `python -m petiole_tools`."""

import signal
import sys


def main() -> int:
    """As `cli.main`. While that is loaded, a second on a small machine, Ctrl-C ends the process without a word: nothing
    has been begun."""
    # A shell that starts it in the background may have had Ctrl-C ignored.
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from petiole_tools.cli import main as command  # noqa: PLC0415 - what the handler is for

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return command()


if __name__ == "__main__":
    sys.exit(main())
