"""The start of `petiole`, and of `python -m petiole_tools`."""

import sys

from petiole_tools.quiet_start import start


def main() -> int:
    """As `cli.main`."""
    return start("petiole_tools.cli")


if __name__ == "__main__":
    sys.exit(main())
