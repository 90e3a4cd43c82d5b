"""MicroPython as boards have it, as a process: words of 32 bits, single floats. `python -m tests.vm32` builds it.

The VM that the tests run on otherwise has words of 64 bits and double floats, as no board has. There is no package of
this one, so it is made from Debian's source.
"""

from .source import CannotBuild
from .vm import BUILT, FROZEN, PLAIN, build, describe, find

__all__ = ["BUILT", "FROZEN", "PLAIN", "CannotBuild", "build", "describe", "find"]
