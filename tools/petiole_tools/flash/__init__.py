"""From a board on a cable to a running node: `petiole flash`."""
