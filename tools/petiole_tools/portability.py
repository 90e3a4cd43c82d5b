"""Hold the portable subset: what CPython, MicroPython and CircuitPython all understand.

    python -m petiole_tools.portability [FOLDER or FILE ...]

Prints `file:line: rule: message` for each finding and exits 1 when there is one. Where a file lies says how strict
the check is: `petiole` is the core (no clock, no I/O, no async), `petiole_node` runs it, and only below
`petiole_node/port` may a module of one runtime be named.

Imports inside `if MYPY:` never run and are left alone. A loop over a dict whose order does not reach any bytes says
so with a comment `# any order`.
"""

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

DEFAULT = ("firmware/petiole", "firmware/petiole_node", "firmware/petiole_boot")

CORE_MODULES = {"struct", "binascii", "hashlib", "petiole"}
NODE_MODULES = CORE_MODULES | {"asyncio", "json", "os", "sys", "time", "gc", "petiole_node"}

# Nowhere, not even where a runtime may be named: these do not exist on a board, or not on every one.
ABSENT_MODULES = {
    "__future__", "abc", "collections.abc", "contextlib", "dataclasses", "enum", "functools", "hmac", "itertools",
    "logging", "pathlib", "threading", "typing", "typing_extensions", "warnings",
}  # fmt: skip

ABSENT_ATTRIBUTES = {
    "_replace": "namedtuples have no _replace on MicroPython",
    "bit_count": "int has no bit_count on MicroPython",
    "bit_length": "int has no bit_length on MicroPython",
    "cast": "memoryview has no methods on MicroPython",
    "hexdigest": "hashes have only digest() on MicroPython",
    "isalnum": "str has no isalnum on MicroPython",
    "isidentifier": "str has no isidentifier on MicroPython",
    "ljust": "no ljust on MicroPython",
    "maketrans": "no translation tables on MicroPython",
    "removeprefix": "no removeprefix on MicroPython",
    "removesuffix": "no removesuffix on MicroPython",
    "rjust": "no rjust on MicroPython",
    "tobytes": "memoryview has no methods on MicroPython: bytes(view)",
    "translate": "no translate on MicroPython",
    "zfill": "no zfill on MicroPython",
}
ABSENT_IN_ASYNCIO = {
    "BoundedSemaphore", "Condition", "LifoQueue", "PriorityQueue", "Queue", "Semaphore", "TaskGroup", "shield",
    "timeout", "to_thread", "wait",
}  # fmt: skip
STRUCT_FUNCTIONS = {"calcsize", "pack", "pack_into", "unpack", "unpack_from"}
IO_FUNCTIONS = {"input", "open", "print"}
DICT_VIEWS = {"items", "keys", "values"}
# These give the same result in every order.
ORDER_FREE = {"all", "any", "dict", "len", "max", "min", "set", "sorted", "sum"}


class Finding(NamedTuple):
    path: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Zone:
    modules: frozenset[str] | None  # None: any that is not absent everywhere
    is_core: bool


CORE = Zone(frozenset(CORE_MODULES), True)
NODE = Zone(frozenset(NODE_MODULES), False)
PORT = Zone(None, False)


def zone_of(path: Path) -> Zone:
    parts = path.resolve().parts
    if "petiole_boot" in parts:
        return PORT
    if "petiole_node" not in parts:
        return CORE
    return PORT if "port" in parts[parts.index("petiole_node") :] else NODE


class _Checker(ast.NodeVisitor):
    def __init__(self, path: Path, zone: Zone, lines: list[str]) -> None:
        self.path = path
        self.zone = zone
        self.lines = lines
        self.findings: list[Finding] = []

    def report(self, node: ast.AST, rule: str, message: str) -> None:
        self.findings.append(Finding(self.path, getattr(node, "lineno", 1), rule, message))

    # Imports

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "MYPY":
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level:
            self._check_module(node, node.module or "")
        if node.module == "asyncio":
            for alias in node.names:
                self._check_asyncio(node, alias.name)

    def _check_module(self, node: ast.AST, name: str) -> None:
        top = name.partition(".")[0]
        if name in ABSENT_MODULES or top in ABSENT_MODULES:
            self.report(node, "import", f"{name} does not exist on a board")
        elif self.zone.is_core and top == "time":
            self.report(node, "clock", "the core has no clock: `now` is an argument")
        elif self.zone.modules is not None and top not in self.zone.modules:
            where = "the core" if self.zone.is_core else "the node outside port/"
            self.report(node, "import", f"{where} must not import {name}")

    # Syntax

    def visit_Match(self, node: ast.Match) -> None:
        self.report(node, "match", "no match statement on a board")
        self.generic_visit(node)

    def visit_TryStar(self, node: ast.AST) -> None:
        self.report(node, "exception-group", "no exception groups on a board")
        self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> None:
        if node.posonlyargs:
            self.report(node.posonlyargs[0], "positional-only", "no positional-only parameters on a board")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice):
                self.report(node, "del-slice", 'a bytearray cannot delete a slice: buf[:n] = b""')
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        if None in node.keys:
            self.report(node, "dict-merge", "no ** in a dict display on MicroPython")
        self.generic_visit(node)

    def _visit_display(self, node: ast.List | ast.Tuple | ast.Set) -> None:
        loaded = isinstance(node, ast.Set) or isinstance(node.ctx, ast.Load)
        if loaded and any(isinstance(item, ast.Starred) for item in node.elts):
            self.report(node, "star-display", "no * in a list, tuple or set display on MicroPython")
        self.generic_visit(node)

    visit_List = visit_Tuple = visit_Set = _visit_display

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if node.keywords:
            self.report(node, "metaclass", "no keywords in a class statement on MicroPython")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        for side in (node.left, node.right):
            if isinstance(node.op, ast.Mult) and _called_name(side) == "bytearray":
                self.report(node, "bytearray-repeat", "a bytearray cannot be repeated: repeat bytes first")
        self.generic_visit(node)

    def _visit_async(self, node: ast.AST) -> None:
        if self.zone.is_core:
            self.report(node, "async", "the core is values in, values out")
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_AsyncFor = visit_AsyncWith = visit_Await = _visit_async

    # Names and calls

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in ABSENT_ATTRIBUTES:
            self.report(node, "attribute", ABSENT_ATTRIBUTES[node.attr])
        if isinstance(node.value, ast.Name) and node.value.id == "asyncio":
            self._check_asyncio(node, node.attr)
        self.generic_visit(node)

    def _check_asyncio(self, node: ast.AST, name: str) -> None:
        if name in ABSENT_IN_ASYNCIO:
            self.report(node, "asyncio", f"MicroPython's asyncio has no {name}")

    def visit_Call(self, node: ast.Call) -> None:
        name = _called_name(node) or ""
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if attribute in ("to_bytes", "from_bytes") and (node.keywords or len(node.args) != 2):
            self.report(node, "int-bytes", f"{attribute} takes exactly (length or data, order), by position")
        if attribute == "decode" and (len(node.args) > 1 or node.keywords) and "cbor" not in ast.unparse(node.func):
            self.report(node, "decode-errors", "MicroPython ignores the errors argument")
        if (attribute or name) in STRUCT_FUNCTIONS and node.args and "e" in _text(node.args[0]):
            self.report(node, "half-float", 'struct has no "e" on MicroPython')
        if name in ("zip", "sum", "enumerate") and node.keywords:
            self.report(node, "keyword", f"{name} takes no keywords on MicroPython")
        if name in IO_FUNCTIONS and self.zone.is_core:
            self.report(node, "io", f"the core does no I/O: {name}")
        order_free = name in ORDER_FREE
        for argument in node.args:
            if not (order_free and (_is_view(argument) or isinstance(argument, ast.GeneratorExp))):
                self._check_order(argument)
                self.visit(argument)
            elif isinstance(argument, ast.GeneratorExp):
                self._visit_comprehension_inside(argument)
            else:
                self.generic_visit(argument)
        self.visit(node.func)
        for keyword in node.keywords:
            self.visit(keyword)

    # The order of a dict differs between runtimes, so in the core it must never reach bytes.

    def _visit_comprehension_inside(self, node: ast.GeneratorExp) -> None:
        self.visit(node.elt)
        for part in node.generators:
            self.generic_visit(part.iter)
            for condition in part.ifs:
                self.visit(condition)

    def visit_For(self, node: ast.For) -> None:
        self._check_order(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._check_order(node.iter)
        self.generic_visit(node)

    def _check_order(self, node: ast.expr) -> None:
        if not self.zone.is_core or not _is_view(node):
            return
        if "# any order" not in self.lines[node.lineno - 1]:
            self.report(node, "dict-order", "dicts have no order on MicroPython: sorted(...), or say `# any order`")


def _called_name(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _is_view(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in DICT_VIEWS
        and not node.args
    )


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def check_source(source: str, path: Path) -> list[Finding]:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [Finding(path, error.lineno or 1, "syntax", error.msg)]
    checker = _Checker(path, zone_of(path), source.splitlines())
    checker.visit(tree)
    return sorted(checker.findings)


def check(folders: list[Path]) -> list[Finding]:
    findings = []
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
        for path in files:
            findings += check_source(path.read_text(encoding="utf-8"), path)
    return findings


def main(arguments: list[str]) -> int:
    folders = [Path(argument) for argument in arguments or DEFAULT]
    missing = [folder for folder in folders if not folder.exists()]
    if missing:
        print(f"error: no such folder: {missing[0]}", file=sys.stderr)
        return 2
    findings = check(folders)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
