"""Who may import whom: the edges of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kvstore"

# The rooms of the package, by the start of a module's name; the longest that fits counts.
ROOMS = {
    "kvstore.errors": "ground",
    "kvstore.numbers": "ground",
    "kvstore.glob": "ground",
    "kvstore.resp": "resp",
    "kvstore.engine": "engine",
    "kvstore.commands": "commands",
    "kvstore.persist": "persist",
    "kvstore.net": "net",
    "kvstore.fake": "fake",
    "kvstore.store": "store",
    "kvstore.pipeline": "store",
    "kvstore.pubsub": "store",
    "kvstore.scripts": "store",
    "kvstore.values": "resp",  # as free-standing as the wire format
    "kvstore.opening": "top",
    "kvstore.durable": "top",
    "kvstore.tools": "top",
    "kvstore.cli": "top",
    "kvstore.keeping": "top",
    "kvstore.__main__": "top",
    "kvstore": "top",
}
ALLOWED = {
    "ground": {"ground"},
    "resp": {"ground", "resp"},
    "engine": {"ground", "engine"},
    "commands": {"ground", "resp", "engine", "commands"},
    "persist": {"ground", "resp", "engine", "commands", "persist"},
    "net": {"ground", "resp", "engine", "commands", "net"},
    # The store of a fake server is a Store.
    "fake": {"ground", "resp", "engine", "commands", "fake", "store"},
    # client() of a Store is a connection of the fake's.
    "store": {"ground", "resp", "engine", "commands", "fake", "store"},
    "top": {"ground", "resp", "engine", "commands", "persist", "net", "fake", "store", "top"},
}
# Inside the engine: who may not be known by whom. The types know no keys, the ground no families.
ENGINE_LEVELS = {
    "kvstore.engine.codec": 0,
    "kvstore.engine.packed": 0,
    "kvstore.engine.order": 0,
    "kvstore.engine.expiry": 0,
    "kvstore.engine.ranks": 0,
    "kvstore.engine.ids": 0,
    "kvstore.engine.types": 1,
    # The context holds the evictor, which weighs values.
    "kvstore.engine.context": 1,
    "kvstore.engine.memory": 1,
    "kvstore.engine.eviction": 1,
    "kvstore.engine.keyspace": 2,
    "kvstore.engine.database": 4,
    "kvstore.engine.store": 5,
}
FAMILIES = 3  # every other module of the engine


def longest(name: str, names: dict[str, object]) -> str | None:
    fitting = [each for each in names if name == each or name.startswith(each + ".")]
    return max(fitting, key=len, default=None)


def room(module: str) -> str:
    return ROOMS[longest(module, dict(ROOMS)) or "kvstore"]


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def imports(path: Path, types_too: bool = False) -> Iterator[str]:
    """The modules of the package that a file imports; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types_too:
            skipped |= {inner for child in node.body for inner in ast.walk(child)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("kvstore"))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kvstore"):
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                path_of = ROOT.joinpath(*deeper.split("."))
                yield deeper if path_of.with_suffix(".py").exists() or path_of.is_dir() else node.module


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_module_imports_only_what_its_room_may_know(module: str, path: Path) -> None:
    allowed = ALLOWED[room(module)]
    wrong = [name for name in imports(path) if room(name) not in allowed]
    assert wrong == []


def engine_level(module: str) -> int:
    return ENGINE_LEVELS.get(longest(module, dict(ENGINE_LEVELS)) or "", FAMILIES)


@pytest.mark.parametrize(
    ("module", "path"),
    [each for each in modules() if room(each[0]) == "engine" and each[0] != "kvstore.engine"],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inside_the_engine_nobody_knows_who_stands_above(module: str, path: Path) -> None:
    wrong = [
        name
        for name in imports(path)
        if room(name) == "engine" and name != "kvstore.engine" and engine_level(name) > engine_level(module)
    ]
    assert wrong == []


def test_the_rooms_are_those_of_the_package() -> None:
    names = {name for name, _ in modules()}
    gone = [name for name in ROOMS if name != "kvstore.persist" and name not in names]
    assert gone == []


def test_the_outer_faces_know_no_containers() -> None:
    """Neither the network nor the facades of the Store ask of what a value is made."""
    for name, path in modules():
        if room(name) in ("net", "fake", "store"):
            assert "kvstore.engine.types" not in set(imports(path)), name
