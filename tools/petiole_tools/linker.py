"""One module out of many: the firmware as a board loads it.

On a board each module costs a namespace, each name that is new to it a string, and what only a gateway calls the same
as everything else. So the sources that are imported together become one: constants are folded into the code, imports
between them vanish, and functions, classes and methods that nothing names are left out. What a module is asked for
inside a function (a kind of link, a check that is needed once) stays a module of its own, and so does each port.

A name is enough to keep a method: nothing here knows types. Names of functions stay, for tracebacks.
"""

import ast
import copy
from dataclasses import dataclass, field

from petiole_tools.link_sources import SEPARATOR, External, LinkError, Reference, Source, bound

MAIN = "petiole_node"


@dataclass
class Unit:
    """A module as it will be: its name, and what is asked of it from outside."""

    name: str
    roots: list[Reference]
    order: list[Reference] = field(default_factory=list)
    tree: ast.Module = field(default_factory=lambda: ast.Module([], []))


class Linker:
    """`sources` by name. `units` are made by `link`."""

    def __init__(self, sources: dict[str, Source]) -> None:
        self._sources = sources
        self._resolved: dict[Reference, ast.stmt] = {}
        self._needs: dict[Reference, set[Reference]] = {}
        self._externals: dict[Reference, set[External]] = {}
        self.asked: dict[str, set[str]] = {}  # of modules that functions import: the names they take; "" for itself

    # Meaning -----------------------------------------------------------------------------------------------

    def meaning(self, module: str, name: str) -> "Reference | External | str | ast.Constant | None":
        """What a global name of a module stands for, through all imports; None if it is none, such as a builtin."""
        found = self._sources[module].globals.get(name)
        if isinstance(found, Reference):
            if found.module != module:
                return self.meaning(found.module, found.name)
            node = self._sources[module].definitions[name]
            if isinstance(node, ast.Assign):
                value = self.fold(module, node.value)
                if isinstance(value, ast.Constant) and isinstance(value.value, (int, str, type(None))):
                    return value
        return found

    def fold(self, module: str, node: ast.expr) -> ast.expr:
        """The expression with its constants worked out, as far as they are."""
        return _Folder(self, module).visit(copy.deepcopy(node))  # type: ignore[no-any-return]

    def resolved(self, reference: Reference) -> ast.stmt:
        """A definition in which every global has its reference for a name."""
        if reference not in self._resolved:
            node = self._sources[reference.module].definitions.get(reference.name)
            if node is None:
                raise LinkError(f"{reference.module} has no {reference.name}")
            resolver = Resolver(self, reference.module)
            self._resolved[reference] = resolver.visit(copy.deepcopy(node))
            self._needs[reference] = resolver.needs
            self._externals[reference] = resolver.externals
        return self._resolved[reference]

    def is_source(self, name: str) -> bool:
        return name in self._sources

    # Reach -------------------------------------------------------------------------------------------------

    def link(self, units: list[Unit], kept: set[Reference], others: set[str]) -> None:
        """Fill the units, the first of which is the main one.

        `kept`: classes whose public methods an application may call; `others`: attributes that are used elsewhere.
        """
        alive = self._reach(units)
        while True:
            used = set(others)
            for reference in alive:
                used |= attributes(self.resolved(reference))
            removed = False
            for reference in alive:
                node = self.resolved(reference)
                if isinstance(node, ast.ClassDef):
                    removed = _drop_methods(node, used, reference in kept) or removed
            if not removed:
                break
            self._count_needs(alive)
            alive = self._reach(units)
        self._distribute(units)

    def _count_needs(self, alive: set[Reference]) -> None:
        for reference in alive:
            names = {node.id for node in ast.walk(self.resolved(reference)) if isinstance(node, ast.Name)}
            self._needs[reference] = {need for need in self._needs[reference] if str(need) in names}

    def _reach(self, units: list[Unit]) -> set[Reference]:
        alive: set[Reference] = set()
        for unit in units:
            alive |= set(self._closure(unit.roots))
        return alive

    def _closure(self, roots: list[Reference]) -> list[Reference]:
        """The roots and all they need, in no order that means anything."""
        found: dict[Reference, None] = {}
        waiting = list(roots)
        while waiting:
            reference = waiting.pop()
            if reference not in found:
                found[reference] = None
                self.resolved(reference)
                waiting += sorted(self._needs[reference], key=str)
        return list(found)

    def _distribute(self, units: list[Unit]) -> None:
        """Give each definition to a unit: to the main one what that needs, to the others what is left.

        What two of the others need is in both: of those, a node loads only one.
        """
        order = {name: position for position, name in enumerate(self._import_order())}
        main = set(self._closure(units[0].roots))
        for unit in units:
            own = [ref for ref in self._closure(unit.roots) if unit is units[0] or ref not in main]
            places = {ref: list(self._sources[ref.module].definitions).index(ref.name) for ref in own}
            unit.order = sorted(own, key=lambda ref: (order[ref.module], places[ref]))

    def _import_order(self) -> list[str]:
        """All modules, each after those that it imports."""
        done: dict[str, None] = {}
        active: list[str] = []

        def visit(name: str) -> None:
            if name in done or name in active:
                return
            active.append(name)
            for other in self._sources[name].imported:
                visit(other)
            active.pop()
            done[name] = None

        for name in sorted(self._sources):
            visit(name)
        return list(done)

    def externals(self, unit: Unit) -> list[External]:
        found = set().union(*(self._externals[reference] for reference in unit.order))
        text = "".join(ast.unparse(self.resolved(reference)) for reference in unit.order)
        return sorted((ext for ext in found if (ext.name or ext.module) in text), key=lambda e: (e.module, e.name))


def attributes(node: ast.AST) -> set[str]:
    """Names of all attributes that are looked up."""
    return {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def _drop_methods(node: ast.ClassDef, used: set[str], is_public: bool) -> bool:
    kept = []
    for part in node.body:
        name = part.name if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) else "__"
        if name in used or name.startswith("__") or (is_public and not name.startswith("_")):
            kept.append(part)
    removed = len(kept) < len(node.body)
    node.body = kept or [ast.Pass()]
    return removed and bool(kept)


class _Folder(ast.NodeTransformer):
    """Works out constants in a global scope."""

    def __init__(self, linker: Linker, module: str) -> None:
        self._linker = linker
        self._module = module

    def visit_Name(self, node: ast.Name) -> ast.AST:
        found = self._linker.meaning(self._module, node.id)
        return found if isinstance(found, ast.Constant) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name):
            alias = self._linker.meaning(self._module, node.value.id)
            if isinstance(alias, str):
                found = self._linker.meaning(alias, node.attr)
                return found if isinstance(found, ast.Constant) else node
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return calculated(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return calculated(node)


def calculated(node: ast.expr) -> ast.expr:
    """The value of an expression of whole numbers, or the expression."""
    numbers = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
    others = [part for part in ast.walk(node) if isinstance(part, ast.expr) and part not in numbers]
    plain = all(isinstance(part, (ast.BinOp, ast.UnaryOp)) for part in others)
    if not plain or not all(type(number.value) is int for number in numbers):
        return node
    value = eval(ast.unparse(node), {"__builtins__": {}})  # noqa: S307 - whole numbers only
    return ast.Constant(value) if type(value) is int else node


class Resolver(ast.NodeTransformer):
    """Replaces globals by what they mean: a constant, a reference, or what another module provides."""

    def __init__(self, linker: Linker, module: str) -> None:
        self._linker = linker
        self._module = module
        self._scopes: list[tuple[bool, set[str]]] = []  # (of a class, names)
        self.needs: set[Reference] = set()
        self.externals: set[External] = set()

    def _is_local(self, name: str) -> bool:
        last = len(self._scopes) - 1
        return any(name in names and (not is_class or i == last) for i, (is_class, names) in enumerate(self._scopes))

    def _meant(self, node: ast.expr, module: str, name: str) -> ast.expr:
        found = self._linker.meaning(module, name)
        if isinstance(found, ast.Constant):
            return ast.Constant(found.value)
        if isinstance(found, Reference):
            self.needs.add(found)
            return ast.Name(str(found), getattr(node, "ctx", ast.Load()))
        if isinstance(found, External):
            self.externals.add(found)
            shown = found.name or found.module
            if module == self._module and isinstance(node, ast.Name) and node.id != shown:
                raise LinkError(f"{module}: {shown} is imported under another name")
            return ast.Name(shown, ast.Load())
        if isinstance(found, str):
            raise LinkError(f"{self._module}:{node.lineno}: the module {found} is used as a value")
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if self._is_local(node.id):
            return node
        if not self._scopes and isinstance(node.ctx, ast.Store):
            return ast.Name(self._module + SEPARATOR + node.id, node.ctx)
        return self._meant(node, self._module, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and not self._is_local(node.value.id):
            alias = self._linker.meaning(self._module, node.value.id)
            if isinstance(alias, str):
                return self._meant(node, alias, node.attr)
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return calculated(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return calculated(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "bytes" and len(node.args) == 1:
            items = node.args[0].elts if isinstance(node.args[0], ast.Tuple) else []
            numbers = [item.value for item in items if isinstance(item, ast.Constant)]
            if items and len(numbers) == len(items):
                return ast.Constant(bytes(number for number in numbers if isinstance(number, int)))
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        raise LinkError(f"{self._module}:{node.lineno}: global variables are not linked")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Inside a function: the module stays one of its own, in the package of the main unit."""
        base = node.module or ""
        for alias in node.names:
            if alias.asname is not None:
                raise LinkError(f"{self._module}:{node.lineno}: imports inside functions keep their names")
            if self._linker.is_source(base + "." + alias.name):
                self._linker.asked.setdefault(base + "." + alias.name, set()).add("")
            elif self._linker.is_source(base):
                self._linker.asked.setdefault(base, set()).add(alias.name)
                node.module = MAIN + "." + base.rsplit(".", 1)[1]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(part) for part in node.decorator_list]
        self._defaults(node.args)
        self._scopes.append((False, bound(node)))
        node.body = [self.visit(part) for part in node.body]
        self._scopes.pop()
        if not self._scopes:
            node.name = self._module + SEPARATOR + node.name
        return node

    def _defaults(self, node: ast.arguments) -> None:
        node.defaults = [self.visit(part) for part in node.defaults]
        node.kw_defaults = [part and self.visit(part) for part in node.kw_defaults]

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self._defaults(node.args)
        self._scopes.append((False, bound(node)))
        node.body = self.visit(node.body)
        self._scopes.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.bases = [self.visit(part) for part in node.bases]
        self._scopes.append((True, bound(node)))
        node.body = [self.visit(part) for part in node.body]
        self._scopes.pop()
        if not self._scopes:
            node.name = self._module + SEPARATOR + node.name
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        return self._comprehension(node)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        targets = {
            part.id for inner in node.generators for part in ast.walk(inner.target) if isinstance(part, ast.Name)
        }
        self._scopes.append((False, targets))
        self.generic_visit(node)
        self._scopes.pop()
        return node
