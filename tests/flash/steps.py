"""The steps that `petiole flash` tells, by name, until the node has joined. Tests of boards that are models and of one
that is emulated expect the same, since the emulated one is not there in every run."""

BEGIN = ["building", "built"]
IMAGE = ["image", "installed"]
LOOK = ["found", "compared"]
END = ["gateway", "started", "joined"]
WITHOUT_IMAGE = [*BEGIN, *LOOK, "written", *END]
WITH_IMAGE = [*BEGIN, *IMAGE, *LOOK, "written", *END]
NOTHING_TO_COPY = [*BEGIN, *IMAGE, *LOOK, *END]
