"""Memory that runs out at a chosen step of the core.

A *point* is a place at which a VM may have to allocate: a line that makes an object, or lets one grow; and the return
of a call whose result its caller makes another object of. A line that stores, compares or hands on what is there, and
`pop`, `remove` and `clear`, need no memory on any VM, and the core relies on that. The parts without a state (CBOR,
records, sealing) are no places of their own: to fail in them is to fail at the line that called them.
"""

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import petiole

FOLDER = Path(petiole.__file__).parent
STATELESS = {"cbor", "ccm", "frame", "hkdf", "manifest", "oscore", "records", "wire"}
FREE_CALLS = {"len", "isinstance", "min", "max", "pop", "remove", "clear", "get", "super"}
MADE = (ast.BinOp, ast.Dict, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp, ast.Slice, ast.JoinedStr)

Point = tuple[str, int, str]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _own(statement: ast.stmt) -> list[ast.AST]:
    """What a statement itself evaluates, without the statements in it."""
    return [node for node in ast.iter_child_nodes(statement) if not isinstance(node, (ast.stmt, ast.ExceptHandler))]


class Source:
    """Of a module of the core: on which lines it may allocate, and which call is all that a line does."""

    def __init__(self, path: Path, own: set[str]) -> None:
        self.allocating: set[int] = set()
        self.last_call: dict[int, str] = {}
        for statement in ast.walk(ast.parse(path.read_text())):
            if not isinstance(statement, ast.stmt) or isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                continue
            nodes = [node for part in _own(statement) for node in ast.walk(part)]
            lines = range(statement.lineno, max([statement.lineno] + [getattr(n, "end_lineno", 0) for n in nodes]) + 1)
            if isinstance(statement, ast.AugAssign) or any(self._allocates(node, own) for node in nodes):
                self.allocating.update(lines)
            value = getattr(statement, "value", None) or getattr(statement, "test", None)
            if isinstance(value, ast.Call):
                self.last_call.update({line: _name(value) for line in lines})

    @staticmethod
    def _allocates(node: ast.AST, own: set[str]) -> bool:
        if isinstance(node, ast.Call):
            return _name(node) not in own and _name(node) not in FREE_CALLS
        if isinstance(node, (ast.Tuple, ast.List)):
            return isinstance(node.ctx, ast.Load)
        made = (
            ast.BinOp,
            ast.Dict,
            ast.ListComp,
            ast.SetComp,
            ast.GeneratorExp,
            ast.DictComp,
            ast.Slice,
            ast.JoinedStr,
        )
        return isinstance(node, made)


def _sources() -> dict[str, Source]:
    paths = [path for path in FOLDER.glob("*.py") if path.stem not in STATELESS]
    own = {
        node.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
    }
    return {str(path): Source(path, own) for path in paths}


class Scarcity:
    """Traces calls. `points` are those that were passed; at number `fail_at` of them there is no memory, once."""

    SOURCES = _sources()

    def __init__(self, fail_at: int | None = None) -> None:
        self.points: list[Point] = []
        self.failed: Point | None = None
        self._fail_at = fail_at
        self._passed = 0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Raises MemoryError when it is time."""
        if self.failed is not None:
            return function(*arguments)
        before = sys.gettrace()
        self._outermost: CodeType | None = None
        sys.settrace(self._enter)
        try:
            return function(*arguments)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        source = self.SOURCES.get(frame.f_code.co_filename)
        return None if source is None else self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        source = self.SOURCES[code.co_filename]
        if event == "line" and frame.f_lineno in source.allocating:
            self._pass((code.co_filename, frame.f_lineno, "line"))
        elif event == "return" and code.co_name[0] != "<" and argument is not None and frame.f_back is not None:
            caller = frame.f_back
            of_caller = self.SOURCES.get(caller.f_code.co_filename)
            line = caller.f_lineno
            if of_caller is not None and line in of_caller.allocating and of_caller.last_call.get(line) != code.co_name:
                self._pass((code.co_filename, code.co_firstlineno, "return"))
        return self._step

    def _pass(self, point: Point) -> None:
        self._passed += 1
        if self._fail_at is None:
            self.points.append(point)
        elif self._passed > self._fail_at:
            self.failed = point
            raise MemoryError


def chosen(points: list[Point], each: int) -> list[int]:
    """Numbers of points: of each place the first ones, and some of the others."""
    places: dict[Point, list[int]] = {}
    for number, point in enumerate(points):
        places.setdefault(point, []).append(number)
    found: set[int] = set()
    for numbers in places.values():
        step = max(1, len(numbers) // each)
        found.update(numbers[:each], numbers[::step], numbers[-1:])
    return sorted(found)
