"""A bad example for each rule of the portable subset, good ones beside them, and the tree itself."""

from pathlib import Path

import pytest

from petiole_tools import portability

ROOT = Path(__file__).resolve().parent.parent.parent

CORE = Path("firmware/petiole/example.py")
NODE = Path("firmware/petiole_node/example.py")
PORT = Path("firmware/petiole_node/port/example.py")

BAD_IN_CORE = [
    ("import", "from __future__ import annotations"),
    ("import", "from typing import Any"),
    ("import", "import abc"),
    ("import", "import enum"),
    ("import", "import dataclasses"),
    ("import", "from functools import partial"),
    ("import", "import logging"),
    ("import", "from pathlib import Path"),
    ("import", "import hmac"),
    ("import", "from collections.abc import Callable"),
    ("import", "import asyncio"),
    ("import", "import os"),
    ("import", "import machine"),
    ("import", "import petiole_node.app"),
    ("import", "def f():\n    import socket"),
    ("import", "try:\n    import nats\nexcept ImportError:\n    x = 1"),
    ("import", "if not MYPY:\n    import typing"),
    ("import", "if MYPY:\n    import typing\nelse:\n    import random"),
    ("clock", "import time"),
    ("clock", "from time import ticks_ms"),
    ("match", "match x:\n    case 1:\n        y = 2"),
    ("exception-group", "try:\n    f()\nexcept* ValueError:\n    y = 2"),
    ("positional-only", "def f(a, /):\n    return a"),
    ("positional-only", "f = lambda a, /: a"),
    ("del-slice", "del buf[:3]"),
    ("del-slice", "del x, buf[1:]"),
    ("dict-merge", "x = {**a, 1: 2}"),
    ("star-display", "x = [*a, 1]"),
    ("star-display", "x = (*a, 1)"),
    ("star-display", "x = {*a}"),
    ("metaclass", "class A(metaclass=B):\n    x = 1"),
    ("bytearray-repeat", "x = bytearray(b'a') * 3"),
    ("bytearray-repeat", "x = 3 * bytearray(2)"),
    ("async", "async def f():\n    return 1"),
    ("async", "async def f():\n    await g()"),
    ("async", "async def f():\n    async with g:\n        x = 1"),
    ("async", "async def f():\n    async for x in g:\n        y = x"),
    ("attribute", "x = point._replace(x=1)"),
    ("attribute", "x = n.bit_length()"),
    ("attribute", "x = view.tobytes()"),
    ("attribute", "x = view.cast('I')"),
    ("attribute", "x = s.removeprefix('a')"),
    ("attribute", "x = s.removesuffix('a')"),
    ("attribute", "x = b.ljust(3)"),
    ("attribute", "x = sha.hexdigest()"),
    ("int-bytes", "x = n.to_bytes(4, 'big', signed=True)"),
    ("int-bytes", "x = n.to_bytes(length=4, byteorder='big')"),
    ("int-bytes", "x = n.to_bytes(4)"),
    ("int-bytes", "x = int.from_bytes(b, 'big', signed=True)"),
    ("int-bytes", "x = int.from_bytes(b, 'big', True)"),
    ("decode-errors", "x = b.decode('utf-8', 'replace')"),
    ("half-float", "x = struct.pack('>e', 1.0)"),
    ("half-float", "x = unpack('>e', b)"),
    ("keyword", "x = zip(a, b, strict=True)"),
    ("io", "print(1)"),
    ("io", "x = open('a')"),
    ("dict-order", "for key in d.keys():\n    out.append(key)"),
    ("dict-order", "for key, value in d.items():\n    out.append(key)"),
    ("dict-order", "x = [value for value in d.values()]"),
    ("dict-order", "x = list(d.items())"),
    ("dict-order", "x = b''.join(d.values())"),
    ("dict-order", "x = b''.join([v for v in d.values()])"),
    ("dict-order", "x = b''.join(v for v in d.values())"),
    ("dict-order", "x = tuple(v for v in d.values())"),
    ("syntax", "def f(:"),
]

BAD_IN_NODE = [
    ("import", "import machine"),
    ("import", "import socket"),
    ("import", "import typing"),
    ("asyncio", "x = asyncio.Queue()"),
    ("asyncio", "from asyncio import Queue"),
    ("asyncio", "async def f():\n    async with asyncio.timeout(1):\n        x = 1"),
    ("attribute", "x = n.bit_length()"),
    ("match", "match x:\n    case 1:\n        y = 2"),
]

GOOD_IN_CORE = [
    "from struct import pack\nfrom hashlib import sha256\nfrom binascii import crc32\nfrom petiole.cbor import encode",
    "from . import cbor",
    "MYPY = False\nif MYPY:\n    from typing import Any",
    "def f(a, *, b: int = 3, **rest) -> 'bytes | None':\n    return b",
    "buf[:3] = b''\ndel d[key]\ndel item.name",
    "a, *b = x\nf(*a, **b)",
    "x = {1: 2}\nx.update(y)",
    "x = n.to_bytes(4, 'big')\ny = int.from_bytes(b, 'little')",
    "x = b'a' * 3\ny = bytearray(b'a' * 3)",
    "x = struct.pack('>HId', 1, 2, 3.0)",
    "x = b.decode()\ny = str(b, 'utf-8')",
    "for key in sorted(d):\n    out.append(key)",
    "for key, value in sorted(d.items()):\n    out.append(key)",
    "x = sum(d.values())\ny = max(v for v in d.values())\nz = any(v > 1 for v in d.values())",
    "for value in d.values():  # any order\n    value.close()",
    "x = self.open(3)\nlog.print(3)",
    "while (n := f()):\n    x = f'{n!r}'",
]

GOOD_IN_NODE = [
    (NODE, "import asyncio, json, os, sys, time, gc\nfrom petiole.session import Session\nimport petiole_node.app"),
    (NODE, "async def f():\n    await asyncio.wait_for(g(), 1)\nx = asyncio.Event()"),
    (NODE, "print(1)\nfor key in d.keys():\n    x = key"),
    (PORT, "import machine, network, socket, cryptolib, aesio, micropython, select"),
]


@pytest.mark.parametrize(("rule", "source"), BAD_IN_CORE)
def test_the_core_may_not(rule: str, source: str) -> None:
    assert rule in {finding.rule for finding in portability.check_source(source, CORE)}


@pytest.mark.parametrize(("rule", "source"), BAD_IN_NODE)
def test_the_node_may_not(rule: str, source: str) -> None:
    assert rule in {finding.rule for finding in portability.check_source(source, NODE)}


@pytest.mark.parametrize("source", ["import typing", "from __future__ import annotations", "import functools"])
def test_not_even_a_port_may_use_what_no_board_has(source: str) -> None:
    assert [finding.rule for finding in portability.check_source(source, PORT)] == ["import"]


@pytest.mark.parametrize("source", GOOD_IN_CORE)
def test_the_core_may(source: str) -> None:
    assert portability.check_source(source, CORE) == []


@pytest.mark.parametrize(("path", "source"), GOOD_IN_NODE)
def test_the_node_may(path: Path, source: str) -> None:
    assert portability.check_source(source, path) == []


def test_the_tree_is_clean() -> None:
    findings = portability.check([ROOT / folder for folder in portability.DEFAULT])
    assert findings == [], "\n".join(map(str, findings))


def test_findings_are_printed_with_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "petiole" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("x = 1\nimport typing\n")
    assert portability.main([str(bad.parent)]) == 1
    assert capsys.readouterr().out == f"{bad}:2: import: typing does not exist on a board\n"
    bad.write_text("x = 1\n")
    assert portability.main([str(bad.parent)]) == 0
    assert portability.main([str(tmp_path / "nowhere")]) == 2
