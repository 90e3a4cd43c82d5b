"""Runs at power-on, and is not part of any update: what it starts may be."""

import petiole_boot

petiole_boot.run()
