"""
Policies, and cases to test them, as documents.

Decision: policies-as-data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.errors import ValidationFailedError
from taskorch.ext.governance._policies import (
    DECISIONS,
    Operation,
    Policy,
    operation_of,
)
from taskorch.kit.forms import (
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
from taskorch.kit.located import Located, located
from taskorch.kit.visible import show

#: A file of policies, or a folder with such files.
FilePath = str | os.PathLike[str]
_POLICY: Final = DocumentOf(Policy, make=Policy)
_SUFFIXES: Final = (".yaml", ".yml", ".json")


@attrs.frozen
class PolicyCase:
    """
    A test case: an operation, and the expected verdict.

    Attributes:
        operation: The operation, its fields by their names.
        decision: The expected decision: `allow`, `ask` or `deny`.
        name: Its name.
        violations: The ids of the policies that must be violated; None: any.
        before: Events before it, for history rules: each has the fields of an
            operation, `event` (`started`, …), and `ago`, in seconds. Tasks without an
            id no longer run.
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
class PolicyDocument:
    """
    A file of policies, of cases, or of both.

    Attributes:
        policies: The policies.
        cases: Cases that test them.
        description: For people.
    """

    policies: Any = attrs.field(default=(), metadata=may_be(Each(_POLICY)))
    cases: Any = attrs.field(
        default=(), metadata=may_be(Each(DocumentOf(PolicyCase, PolicyCase)))
    )
    description: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))


def read_policies(paths: Iterable[FilePath]) -> list[Policy]:
    """
    Read the policies in files, or in all YAML and JSON files of folders.

    Raises:
        ValidationFailedError: It is malformed; all faults are named, with lines.
        OSError: A file cannot be read.
        ImportError: PyYAML is not installed: `pip install 'taskorch[policy]'`.
    """
    return [one for entry in _entries(paths) for one in entry.get("policies", [])]


def read_cases(paths: Iterable[FilePath]) -> list[PolicyCase]:
    """
    Read the cases in the files *paths*.

    Raises:
        ValidationFailedError: It is malformed; all faults are named, with lines.
        OSError: A file cannot be read.
        ImportError: PyYAML is not installed: `pip install 'taskorch[policy]'`.
    """
    return [one for entry in _entries(paths) for one in entry.get("cases", [])]


def _entries(paths: Iterable[FilePath]) -> list[ReadMapping]:
    from taskorch.kit.yaml_text import read_one  # noqa: PLC0415 - optional

    faults = FaultList()
    entries: list[ReadMapping] = []
    seen: dict[str, Located] = {}
    for file in (file for path in paths for file in _files(Path(path))):
        node, wrong = read_one(file.read_bytes(), str(file))
        for place, fault in wrong:
            faults.add(place, fault)
        if not wrong:
            entries += _entry(node, faults, seen)
    faults.refuse()
    return entries


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def _entry(
    node: Located, faults: FaultList, seen: dict[str, Located]
) -> list[ReadMapping]:
    entry = DocumentOf(PolicyDocument).read(node, "", faults)
    if not isinstance(entry, ReadMapping):
        return []
    if not entry.nodes.keys() & {"policies", "cases"}:
        faults.add(entry.place, "it has neither `policies` nor `cases`")
    nodes = entry.node("policies").value if "policies" in entry.nodes else []
    for one in nodes if isinstance(nodes, list) else []:
        if not isinstance(one.value, dict) or "id" not in one.value:
            continue
        name = one.value["id"][1]
        before = seen.get(str(name.value))
        if before is None:
            seen[str(name.value)] = name
        else:
            where = f"the policy at {before.place}" if before.place.line else "another"
            text = f"{where} has the id {show(name.value)}, too"
            faults.add(name.place, text, "id")
    return [entry]


def policies_in(
    entry: ReadMapping, folder: Path, faults: FaultList
) -> tuple[Policy, ...]:
    """
    Read the policies of a document that has the key `policies`: see `POLICIES`.

    Args:
        entry: The document.
        folder: The folder for relative paths of files.
        faults: Takes all faults, in files, too.
    """
    if "policies" not in entry.nodes:
        return ()
    node = entry.node("policies")
    policies: dict[str, Policy] = {}
    for item in node.value if isinstance(node.value, list) else [node]:
        for one in _said(item, folder, faults):
            if policies.setdefault(one.id, one) is not one:
                faults.add(item.place, f"two have the id {show(one.id)}", "policies")
    return tuple(policies.values())


def _said(item: Located, folder: Path, faults: FaultList) -> list[Policy]:
    """Return the policies of an *item* of the key `policies`."""
    if isinstance(item.value, dict):
        policy = _POLICY.read(item, "policies", faults)
        return [policy] if isinstance(policy, Policy) else []
    if not isinstance(item.value, str):
        # The check of the document has reported that.
        return []
    try:
        return read_policies([folder / item.value])
    except ValidationFailedError as error:
        for where, text in error.findings:
            faults.add(item.place, f"{where}: {text}", "policies")
    except OSError as error:
        text = f"{item.value} cannot be read: {error.strerror or error}"
        faults.add(item.place, text, "policies")
    return []


def policies_of(document: object) -> list[Policy]:
    """
    Read policies from *document*, plain mappings and lists.

    Raises:
        ValidationFailedError: It is not well formed; all faults are named.
    """
    faults = FaultList()
    entries = _entry(located(document), faults, {})
    faults.refuse()
    return [one for entry in entries for one in entry.get("policies", [])]
