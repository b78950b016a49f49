"""Templates of the commands of test tasks, with places for values of each task."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from taskorch.ext.suites._model import SuiteTask, Template
from taskorch.kit.forms import FaultList, ReadMapping, near
from taskorch.kit.located import Located
from taskorch.kit.words import PLACE, fill

#: The names that may stand in braces in the words of a template.
_PLACES: Final = ("arguments", "artifacts", "id", "name")
ARGUMENTS: Final = "{arguments}"
#: The results that can be read.
_FORMATS: Final = (".xml", ".json")


def check_templates(
    section: ReadMapping, folder: Path, faults: FaultList
) -> dict[str, Template]:
    """The templates of a configuration, by name; folders are relative to *folder*."""
    templates: dict[str, Template] = {}
    for name, entry in section.values.items():
        key, _ = section.nodes[name]
        both = [way for way in ("pytest", "command") if way in entry.nodes]
        if len(both) != 1:
            which = "neither pytest nor command" if not both else "pytest and command"
            faults.add(key.place, f"templates.{name} has {which}: it needs one of them")
        results = entry.get("results")
        if results is not None and "command" not in entry.nodes:
            message = f"templates.{name}.results: what pytest finds is known without it"
            faults.add(entry.at("results"), message)
        elif results is not None and Path(results).suffix not in _FORMATS:
            message = (
                f"templates.{name}.results: a file that ends with .xml (JUnit) or "
            )
            faults.add(entry.at("results"), message + ".json is needed")
        for part in ("pytest", "command", "results", "env"):
            if part in entry.nodes:
                _check(f"templates.{name}.{part}", entry.node(part), faults)
        fields = fields_in(entry)
        arguments = entry.part("arguments").values
        fields |= {
            "arguments": {task: tuple(words) for task, words in arguments.items()},
            "env": dict(entry.part("env").values),
            "cwd": (folder / entry.get("cwd", ".")).resolve(),
            "python": _program(folder, entry.get("python")),
        }
        templates[name] = Template(name, **fields)
    return templates


def fields_in(entry: ReadMapping) -> dict[str, Any]:
    """Return what *entry* says, with tuples as lists."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in entry.values.items()
    }


def _program(folder: Path, name: str | None) -> str:
    """The path of an interpreter; one without a slash is looked up on the PATH."""
    if name is None:
        return sys.executable
    # The path is not resolved: the link tells a virtual environment from its base.
    return os.path.abspath(folder / name) if "/" in name else name  # noqa: PTH100


def _check(name: str, node: Located, faults: FaultList) -> None:
    """Note the places in *node* that nothing fills."""
    value: Any = node.value
    if isinstance(value, dict):
        for _, item in value.values():
            _check(name, item, faults)
    elif isinstance(value, list):
        for item in value:
            _check(name, item, faults)
    elif isinstance(value, str):
        for place in PLACE.findall(value):
            if place not in _PLACES:
                meant = near(Located(place, node.place), _PLACES)
                faults.add(node.place, f"{name}: nothing fills {{{place}}}: {meant}")
        if ARGUMENTS in value and value != ARGUMENTS:
            message = f"{name}: {ARGUMENTS} is several words: let it stand alone"
            faults.add(node.place, message)


def filled(
    words: Sequence[str], values: Mapping[str, str], arguments: Sequence[str]
) -> list[str]:
    """
    The words of a command with *values* in their places.

    *arguments* stand for `{arguments}`; where that is not among the words, they come
    last.
    """
    command: list[str] = []
    for word in words if ARGUMENTS in words else (*words, ARGUMENTS):
        command += arguments if word == ARGUMENTS else [fill(word, values)]
    return command


def arguments_of(task: SuiteTask, template: Template) -> tuple[str, ...]:
    """Return the value of `{arguments}`: that of the task, or its template."""
    if task.arguments is not None:
        return task.arguments
    return template.arguments.get(task.id, ())
