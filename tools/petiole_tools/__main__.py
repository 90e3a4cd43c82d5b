"""`python -m petiole_tools` is `petiole`."""

import sys

from petiole_tools.cli import main

sys.exit(main())
