"""What runs on the board while it is flashed: sent through the raw REPL, and lost with the next reset.

Paths are absolute. Each function prints what it has found. It is MicroPython of any release and stays small: a board
compiles it.
"""

# mypy: ignore-errors
# ruff: noqa: PLW0603, SIM115
# No other file imports this one: it is read as text.

import binascii
import hashlib
import os
import sys


def p_facts():
    found = sys.implementation
    build = getattr(found, "_build", "")
    print(repr((found.name, tuple(found[1])[:3], getattr(found, "_machine", ""), getattr(found, "_mpy", 0), build)))


def p_has_firmware(where):
    kept = sys.path[:]
    sys.path[:] = [where]
    sys.modules.pop("petiole_boot", None)
    try:
        import petiole_boot  # noqa: F401, PLC0415 - the one that is there

        print(1)
    except ImportError:
        print(0)
    sys.modules.pop("petiole_boot", None)
    sys.path[:] = kept


def p_sum(path):
    hash = hashlib.sha256()
    buffer = bytearray(512)
    with open(path, "rb") as file:
        while True:
            length = file.readinto(buffer)
            if not length:
                return binascii.hexlify(hash.digest()).decode()
            hash.update(memoryview(buffer)[:length])


def p_stat(path):
    try:
        return os.stat(path)
    except OSError:
        return None


def p_tree(path):
    found = p_stat(path)
    if found is None:
        return
    if not found[0] & 0x4000:
        print(found[6], p_sum(path), path)
        return
    print(-1, "-", path)
    for entry in os.ilistdir(path):
        p_tree(path + "/" + entry[0])


def p_room(root):
    found = os.statvfs(root)
    print(found[0] * found[3], found[0])


def p_read(path, most):
    if p_stat(path) is not None:
        with open(path, "rb") as file:
            print(binascii.b2a_base64(file.read(most)).decode().strip())


def p_open(path):
    global p_file
    p_file = open(path, "wb")


def p_write(data):
    p_file.write(binascii.a2b_base64(data))


def p_close():
    p_file.close()


def p_copy(source, target):
    buffer = bytearray(512)
    with open(source, "rb") as old, open(target, "wb") as new:
        while True:
            length = old.readinto(buffer)
            if not length:
                break
            new.write(memoryview(buffer)[:length])


def p_make(path):
    if p_stat(path) is None:
        os.mkdir(path)


def p_rename(source, target):
    os.rename(source, target)


def p_remove(path):
    found = p_stat(path)
    if found is not None:
        (os.rmdir if found[0] & 0x4000 else os.remove)(path)
