"""The public names: what there is, and that it stays."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest
from tests.house.packaging.public_names import names_of_reference, public_names

import taskorch

GOLDEN = Path(__file__).with_name("exported_names.txt")
ROOT = Path(__file__).parents[3]
SOURCE = Path(taskorch.__file__).parent


def golden() -> list[str]:
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_public_names_are_those_of_the_golden_list():
    """A change here is a change for users: it belongs into the changelog."""
    assert sorted(public_names() | names_of_reference()) == golden()


def test_the_root_has_the_names_of_a_first_program():
    assert len(taskorch.__all__) <= 53


def test_a_class_of_a_package_is_still_found_at_the_root_with_a_warning():
    with pytest.warns(DeprecationWarning, match="from taskorch.events, not"):
        found = taskorch.TaskCompleted

    assert found is taskorch.events.TaskCompleted


def test_every_public_name_resolves():
    for name in taskorch.__all__:
        assert getattr(taskorch, name) is getattr(taskorch, name)


def test_public_names_are_listed_once_and_are_public():
    assert len(set(taskorch.__all__)) == len(taskorch.__all__)
    assert [n for n in taskorch.__all__ if n.startswith("_") and n[:2] != "__"] == []


@pytest.mark.parametrize("name", ["", "policies.", "api.journal."])
def test_dir_shows_every_public_name(name):
    package = importlib.import_module(f"taskorch.{name}".rstrip("."))
    exported = re.compile(re.escape(name) + r"(\w+)")
    names = {found[1] for one in golden() if (found := exported.fullmatch(one))}
    assert names
    assert names <= set(dir(package))


def doors() -> list[str]:
    """The packages that load parts of theirs when these are asked for."""
    return sorted(
        ".".join(("taskorch", *path.parent.relative_to(SOURCE).parts))
        for path in SOURCE.rglob("__init__.py")
        if "\n_LATE = {" in path.read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("door", doors())
def test_checkers_see_the_names_that_a_door_loads_late(door):
    package = importlib.import_module(door)
    text = Path(package.__file__).read_text(encoding="utf-8")
    of_checkers = {
        member.asname: str(imported.module).removeprefix(f"{door}.")
        for block in ast.parse(text).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for imported in block.body
        if isinstance(imported, ast.ImportFrom)
        for member in imported.names
        if member.asname == member.name
    }

    assert of_checkers == package._LATE
    assert of_checkers.keys() <= set(dir(package))
    for name, module in of_checkers.items():
        is_ours = module.startswith("taskorch.")
        there = importlib.import_module(module if is_ours else f"{door}.{module}")
        assert getattr(package, name) is getattr(there, name)
    with pytest.raises(AttributeError, match=f"'{door}' has no attribute 'nothing'"):
        _ = package.nothing


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = taskorch.no_such_name


def test_star_import_gives_the_public_names():
    namespace: dict[str, object] = {}

    exec("from taskorch import *", namespace)

    assert set(taskorch.__all__) <= set(namespace)


def test_public_classes_and_functions_are_documented():
    names = public_names() | names_of_reference()
    code = {
        name: o
        for name, o in names.items()
        if inspect.isroutine(o) or isinstance(o, type)
    }

    assert [name for name, o in code.items() if not (o.__doc__ or "").strip()] == []


def test_the_version_stands_in_one_place():
    literal = re.compile(rf"['\"]{re.escape(taskorch.__version__)}['\"]")
    files = [ROOT / "pyproject.toml", *SOURCE.rglob("*.py")]

    found = [file for file in files if literal.search(file.read_text("utf-8"))]

    assert importlib.metadata.version("taskorch") == taskorch.__version__
    assert found == [SOURCE / "__init__.py"]


def test_the_package_says_that_it_is_typed():
    assert (SOURCE / "py.typed").exists()
