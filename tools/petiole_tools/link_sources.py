"""The sources that `linker` links, parsed: what each global name of a module means, and what a scope binds itself."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SEPARATOR = "@"  # between module and name in a reference that has no final name yet


class LinkError(Exception):
    """The sources use something that the linker does not know; the text says what and where."""


@dataclass(frozen=True)
class Reference:
    """A global of a source module."""

    module: str
    name: str

    def __str__(self) -> str:
        return self.module + SEPARATOR + self.name


@dataclass(frozen=True)
class External:
    """What a module outside of the firmware provides: `import module` or `from module import name`."""

    module: str
    name: str = ""


@dataclass
class Source:
    """A module as it was written. `globals` says what each of its global names means."""

    name: str
    body: list[ast.stmt]
    globals: "dict[str, Reference | External | str | ast.Constant]" = field(default_factory=dict)  # str: a module
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imported: list[str] = field(default_factory=list)  # modules that are loaded with this one, in order


def read_sources(folder: Path, packages: Iterable[str]) -> dict[str, Source]:
    """The modules below a folder, parsed, without what only people and type checkers read."""
    sources = {}
    for package in packages:
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            tree = _Stripper().visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
            sources[name] = Source(name, tree.body)
    for source in sources.values():
        _find_globals(source, sources)
    return sources


class _Stripper(ast.NodeTransformer):
    """Takes out docstrings, annotations, `__slots__` (which a board ignores) and what is under `if MYPY:`."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "MYPY" else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if names in (["__slots__"], ["__all__"], ["MYPY"]) else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], self.visit(node.value)), node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


def _find_globals(source: Source, sources: dict[str, Source]) -> None:
    for node in source.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                own = alias.name in sources
                if own and alias.asname is None:
                    raise LinkError(f"{source.name}: import {alias.name} needs a name of its own")
                source.globals[alias.asname or alias.name] = alias.name if own else External(alias.name)
                source.imported += [alias.name] if own else []
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                bound = alias.asname or alias.name
                whole = base + "." + alias.name
                if whole in sources:
                    source.globals[bound] = whole
                    source.imported.append(whole)
                elif base in sources:
                    source.globals[bound] = Reference(base, alias.name)
                    source.imported.append(base)
                else:
                    source.globals[bound] = External(base, alias.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            _define(source, node.name, node)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            _define(source, node.targets[0].id, node)
        else:
            raise LinkError(f"{source.name}:{node.lineno}: only definitions and imports can be linked")


def _define(source: Source, name: str, node: ast.stmt) -> None:
    if name in source.definitions:
        raise LinkError(f"{source.name}:{node.lineno}: {name} is defined twice")
    source.definitions[name] = node
    source.globals[name] = Reference(source.name, name)


def bound(scope: ast.AST) -> set[str]:
    """The names that a function, lambda or class binds itself, not those of scopes inside it."""
    names: set[str] = set()
    waiting: list[ast.AST] = []
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        spec = scope.args
        parts = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
        names |= {part.arg for part in parts if part is not None}
    body = getattr(scope, "body", [])
    waiting += body if isinstance(body, list) else [body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        waiting += ast.iter_child_nodes(node)
    return names
