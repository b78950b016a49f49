"""
The public names: those of the root, the classes of each public package, and what the
reference has on a page of a package.
"""

from __future__ import annotations

import inspect
import runpy
from importlib import import_module
from pathlib import Path

import attrs

import taskorch

SITE = Path(__file__).parents[3] / "docs" / "conf.py"
PACKAGES = (
    "errors",
    "events",
    "api.journal",
    "ext.logs",
    "model",
    "ext.planner",
    "policies",
    "protocols",
    "ext.views",
    "ext.recovery",
    "api.workflows",
)


def public_names() -> dict[str, object]:
    """Every public object by the path that it is imported from."""
    found = {name: getattr(taskorch, name) for name in taskorch.__all__}
    for package in PACKAGES:
        module = import_module(f"taskorch.{package}")
        for name in dir(module):  # what is loaded when it is asked for, too
            value = getattr(module, name)
            if name.startswith("_"):
                continue
            if inspect.isclass(value) and value.__module__.startswith("taskorch."):
                found[f"{package}.{name}"] = value
    return found


def names_of_reference() -> dict[str, object]:
    """Every object on a page of the reference, by the path that it is imported from."""
    site = runpy.run_path(str(SITE))
    return {
        f"{package}.{name}".removeprefix("taskorch."): getattr(
            import_module(package), name
        )
        for package in site["PACKAGES"]
        for name in site["public_names"](package)
    }


def public_values() -> list[type]:
    """The classes of attrs among them, each once."""
    classes = {id(cls): cls for cls in public_names().values() if inspect.isclass(cls)}
    return [cls for cls in classes.values() if attrs.has(cls)]
