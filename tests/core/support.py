"""What the core tests share. Like them it runs on CPython and on MicroPython."""

import json
import struct

try:
    from petiole_node.port.aes_cryptolib import Aes
except ImportError:
    from petiole_gateway.aead import Aes

__all__ = ["Aes", "Rng", "raises", "unhex", "value_of", "vectors"]

unhex = bytes.fromhex


def vectors(name):
    folder = __file__.replace("\\", "/").rsplit("/", 2)[0]
    with open(folder + "/vectors/" + name) as file:
        return json.load(file)


class Rng:
    """xorshift32: the same numbers on every runtime."""

    def __init__(self, seed):
        self._state = seed

    def below(self, limit):
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        return x % limit

    def bytes(self, length):
        return bytes([self.below(256) for _ in range(length)])


def raises(error, function, *arguments):
    """Return the exception of type `error` that the call raised; fail when it raised none."""
    try:
        function(*arguments)
    except error as raised:
        return raised
    raise AssertionError("nothing was raised")


def value_of(spec):
    """Build a value from its description in a vector file: JSON knows neither bytes nor NaN nor -0.0."""
    kind, content = spec
    if kind == "int":
        return int(content)
    if kind == "bytes":
        return unhex(content)
    if kind == "float":
        return struct.unpack(">d", unhex(content))[0]
    if kind == "array":
        return [value_of(item) for item in content]
    if kind == "map":
        return {value_of(key): value_of(item) for key, item in content}
    return content
