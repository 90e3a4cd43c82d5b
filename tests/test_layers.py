"""The arrows between the packages: apps -> node -> core <- gateway, tools -> all. The folder is the rule."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "petiole": ROOT / "firmware" / "petiole",
    "petiole_node": ROOT / "firmware" / "petiole_node",
    "petiole_boot": ROOT / "firmware" / "petiole_boot",
    "petiole_gateway": ROOT / "gateway" / "petiole_gateway",
    "petiole_tools": ROOT / "tools" / "petiole_tools",
}
MAY_IMPORT = {
    "petiole": set[str](),
    "petiole_node": {"petiole"},
    "petiole_boot": {"petiole", "petiole_node"},
    "petiole_gateway": {"petiole"},
    "petiole_tools": {"petiole", "petiole_node", "petiole_boot", "petiole_gateway"},
}
# Bridges depend on the hub, never the reverse: without nats/ the hub and the links still import.
INNER = {
    "petiole_gateway.hub": {"nats", "paho", "aiomqtt", "aiohttp", "petiole_gateway.nats", "petiole_gateway.mqtt"},
    "petiole_gateway.links": {"nats", "paho", "aiomqtt", "aiohttp", "petiole_gateway.nats", "petiole_gateway.mqtt"},
}


def imports(path: Path, module: str) -> list[tuple[int, str]]:
    """Return (line, absolute name) of every import, wherever in the file it stands."""
    is_package = path.name == "__init__.py"
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")
                up = up[: len(up) - node.level + is_package]
                base = ".".join([*up, base] if base else up)
            found.append((node.lineno, base))
            # `from package import module` imports the module.
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def violations(path: Path, module: str) -> list[str]:
    own = module.partition(".")[0]
    forbidden = set(PACKAGES) - MAY_IMPORT[own] - {own}
    for package, names in INNER.items():
        if is_within(module, package):
            forbidden |= names
    return [
        f"{path}:{line}: {module} must not import {name}"
        for line, name in imports(path, module)
        if any(is_within(name, package) for package in forbidden)
    ]


def modules() -> list[tuple[Path, str]]:
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found.append((path, ".".join(part for part in parts if part != "__init__")))
    return found


def test_every_arrow_points_down() -> None:
    wrong = [line for path, module in modules() for line in violations(path, module)]
    assert wrong == [], "\n".join(wrong)


def test_all_packages_were_walked() -> None:
    assert {module.partition(".")[0] for _, module in modules()} == set(PACKAGES)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("petiole.frame", "import petiole_node"),
        ("petiole.frame", "def f():\n    from petiole_gateway.hub import uplinks"),
        ("petiole_node.app", "from petiole_gateway import aead"),
        ("petiole_node.app", "import petiole_tools.cli"),
        ("petiole_gateway.app", "from petiole_node.port import aes_aesio"),
        ("petiole_gateway.app", "import petiole_tools"),
        ("petiole_gateway.hub.uplinks", "import nats.aio.client"),
        ("petiole_gateway.hub.uplinks", "from ..nats import publisher"),
        ("petiole_gateway.hub.uplinks", "from petiole_gateway import nats"),
        ("petiole_gateway.hub.uplinks", "from .. import nats"),
        ("petiole_gateway.links.serial", "import nats"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, module: str, source: str) -> None:
    path = tmp_path / "example.py"
    path.write_text(source)
    assert violations(path, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("petiole_node.app", "from petiole.session import Session"),
        ("petiole_gateway.nats.publisher", "import nats\nfrom ..hub import ports"),
        ("petiole_gateway.hub.uplinks", "from . import ports\nfrom petiole import cbor"),
        ("petiole_tools.cli", "import petiole, petiole_node, petiole_gateway.hub"),
    ],
)
def test_a_right_arrow_is_left_alone(tmp_path: Path, module: str, source: str) -> None:
    path = tmp_path / "example.py"
    path.write_text(source)
    assert violations(path, module) == []
