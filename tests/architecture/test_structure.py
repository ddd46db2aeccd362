"""The structure of the packages: one class of each name, one definition of each constant, small folders, no cycles."""

import ast
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

from handlers.media import BY_CONTENT_TYPE
from schemas.storage import ContentType

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "handlers", "worker", "deploy")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_MODULES = 15
"""Modules of a folder, without `__init__.py`."""
INDEPENDENT = {
    "T": "a type variable of its module",
    "READY_SECONDS": "how long PostgreSQL, and the stack's receiver and workers, may take to start",
    "READ_BYTES": "decoders do not import what uploads files",
}
"""Constants that several modules define with the same value, because each may change without the others."""


def trees():
    for path in MODULES:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def repeated(definitions):
    """Return the names that several modules define, with these modules."""
    places = defaultdict(list)
    for name, module in definitions:
        places[name].append(module)
    return {name: modules for name, modules in places.items() if len(modules) > 1}


def classes(tree):
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def constants(tree):
    """Return the name and value of each constant of a module whose value does not depend on the module."""
    found = []
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name.lstrip("_").isupper() and name not in INDEPENDENT:
                found.append((name, ast.unparse(value)))
    return found


def cycles(graph):
    """Return the shortest import chains by which a module imports itself, one for each pair of modules."""
    found = []
    for importer in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            chain = graph.find_shortest_chain(imported, importer) if imported != importer else (importer,)
            if chain and importer == min(chain):
                found.append((importer, *chain))
    return found


def test_no_two_classes_share_a_name():
    assert repeated((name, module) for module, tree in trees() for name in classes(tree)) == {}


def test_no_constant_is_defined_twice():
    assert repeated((constant, module) for module, tree in trees() for constant in constants(tree)) == {}


def test_repeated_definitions_are_found():
    one, other = ast.parse("class A: ...\nLIMIT = 5\n"), ast.parse("class A: ...\nLIMIT: Final = 5\nlocal = 5\n")
    modules = {"one.py": one, "other.py": other}
    assert repeated((name, module) for module, tree in modules.items() for name in classes(tree)) == {
        "A": ["one.py", "other.py"]
    }
    assert repeated((constant, module) for module, tree in modules.items() for constant in constants(tree)) == {
        ("LIMIT", "5"): ["one.py", "other.py"]
    }


def test_the_public_content_types_are_those_of_the_registry():
    assert sorted(ContentType) == sorted(BY_CONTENT_TYPE), "add the type to ContentType in schemas/storage.py"


def test_folders_are_small():
    sizes = defaultdict(int)
    for path in MODULES:
        sizes[str(path.parent.relative_to(ROOT))] += path.name != "__init__.py"
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_through_others(package):
    assert cycles(grimp.build_graph(package, cache_dir=None)) == []


def test_a_cycle_of_imports_is_found():
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        graph.add_import(importer=importer, imported=imported)
    assert cycles(graph) == [("a", "b", "c", "a")]
