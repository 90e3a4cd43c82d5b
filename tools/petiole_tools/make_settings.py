"""Write the list of all settings: `python -m petiole_tools.make_settings docs/settings.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from petiole_gateway.settings.example import table

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table())
