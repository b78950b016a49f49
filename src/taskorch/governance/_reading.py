"""
Policies, and cases to test them, as documents.

Decision: 0223.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch._documents.forms import (
    AnyNames,
    Anything,
    DocumentOf,
    Each,
    FaultList,
    Made,
    Maybe,
    ReadMapping,
    Text,
    may_be,
    one_of,
)
from taskorch._documents.located import Located, located
from taskorch._documents.yaml_text import read_one
from taskorch.errors import InvalidTaskError
from taskorch.governance._policies import DECISIONS, Operation, Policy
from taskorch.model import show

#: A file of policies, or a folder of such.
FilePath = str | os.PathLike[str]
_POLICY: Final = DocumentOf(Policy, make=Policy)
_SUFFIXES: Final = (".yaml", ".yml", ".json")


@attrs.frozen
class PolicyDocument:
    """
    A file of policies.

    Attributes:
        policies: The policies.
        description: For people.
    """

    policies: Any = attrs.field(metadata=may_be(Each(_POLICY)))
    description: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))


def read_policies(paths: Iterable[FilePath]) -> list[Policy]:
    """
    The policies in the files *paths*; of a folder, in all its files of YAML and JSON.

    Raises:
        ValidationFailedError: What is wrong, all of it, with the line of each.
        OSError: A file cannot be read.
    """
    faults = FaultList()
    policies: list[Policy] = []
    seen: dict[str, Located] = {}
    for path in paths:
        for file in _files(Path(path)):
            text = file.read_bytes()
            policies += _read_one(text, str(path), file, faults, seen)
    faults.refuse()
    return policies


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def _read_one(
    text: str | bytes,
    subject: str,
    file: Path,
    faults: FaultList,
    seen: dict[str, Located],
) -> list[Policy]:
    del subject
    node, wrong = read_one(text, str(file))
    for place, fault in wrong:
        faults.add(place, fault)
    if wrong:
        return []
    return _policies_of(node, faults, seen)


def _policies_of(
    node: Located, faults: FaultList, seen: dict[str, Located]
) -> list[Policy]:
    entry = DocumentOf(PolicyDocument).read(node, "", faults)
    if not isinstance(entry, ReadMapping):
        return []
    policies: list[Policy] = entry.get("policies", [])
    nodes = entry.node("policies").value if "policies" in entry.nodes else []
    for one in nodes if isinstance(nodes, list) else []:
        if not isinstance(one.value, dict) or "id" not in one.value:
            continue
        name = one.value["id"][1]
        before = seen.get(str(name.value))
        if before is None:
            seen[str(name.value)] = name
        else:
            text = f"the policy at {before.place} has the id {show(name.value)}, too"
            faults.add(name.place, text, "id")
    return policies


def policies_of(document: object) -> list[Policy]:
    """
    The policies that *document*, plain mappings and lists, says.

    Raises:
        ValidationFailedError: It is not well formed; all faults are named.
    """
    faults = FaultList()
    policies = _policies_of(located(document), faults, {})
    faults.refuse()
    return policies


# -- cases -----------------------------------------------------------------------------


_FIELDS: Final = tuple(one.name for one in attrs.fields(Operation))


def operation_of(document: Mapping[str, Any]) -> Operation:
    """
    The operation that *document*, its fields by their names, says.

    Raises:
        InvalidTaskError: There is no such field.
    """
    for name in document:
        if name not in _FIELDS:
            msg = f"an operation has no {show(name)}"
            raise InvalidTaskError(msg, hint=f"it has {', '.join(_FIELDS)}")
    return Operation(**document)


@attrs.frozen
class PolicyCase:
    """
    A case: an operation, and what the policies are to say of it.

    Attributes:
        operation: The operation, its fields by their names.
        decision: What is to be decided: `allow`, `ask` or `deny`.
        name: What it is called.
        violations: The ids of the policies that are to be violated; None: any.
        before: Events before it, for history rules: each has the fields of an
            operation, `event` (`started`, …), and `ago`, in seconds.
    """

    operation: Operation = attrs.field(
        metadata=may_be(Made(AnyNames(Anything(), plain=True), operation_of))
    )
    decision: str = attrs.field(metadata=may_be(one_of(*DECISIONS)))
    name: str = attrs.field(default="", metadata=may_be(Text()))
    violations: list[str] | None = attrs.field(
        default=None, metadata=may_be(Maybe(Each(Text(), or_one=True)))
    )
    before: list[dict[str, Any]] = attrs.field(
        factory=list, metadata=may_be(Each(AnyNames(Anything(), plain=True)))
    )


@attrs.frozen
class CaseDocument:
    """
    A file of cases.

    Attributes:
        cases: The cases.
    """

    cases: Any = attrs.field(metadata=may_be(Each(DocumentOf(PolicyCase, PolicyCase))))


def read_cases(path: FilePath) -> list[PolicyCase]:
    """
    The cases in the file *path*.

    Raises:
        ValidationFailedError: What is wrong, all of it, with the line of each.
        OSError: The file cannot be read.
    """
    faults = FaultList()
    node, wrong = read_one(Path(path).read_bytes(), str(path))
    for place, fault in wrong:
        faults.add(place, fault)
    faults.refuse()
    entry = DocumentOf(CaseDocument).read(node, "", faults)
    faults.refuse()
    cases: list[PolicyCase] = entry.get("cases", [])
    return cases
