"""
Working specifications: the limits of a piece of work, and the tests of its outcome.

    id: throttle
    risk_tier: 2
    scope: {in: [src/auth/**], out: [src/billing/**]}
    budget: release
    resources: {tokens: 50000}
    acceptance:
      - {id: slow, then: the sixth guess waits, run: [python, -m, pytest, tests/auth]}

It is a document in the metadata of a task, so that policies can name its values, and it
uses the options of tasks. Decision: policies-as-data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Self

import attrs

from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.ext.governance._reading import FilePath
from taskorch.kit.canonical import canonical
from taskorch.kit.fence import log_of
from taskorch.kit.forms import (
    AMOUNT,
    AnyNames,
    DocumentOf,
    Each,
    FaultList,
    Number,
    Text,
    may_be,
    names_of,
)
from taskorch.kit.frozen import ReadOnly, frozen
from taskorch.kit.located import Located, located
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.visible import show
from taskorch.kit.words import some
from taskorch.model import Program, Resources, Task
from taskorch.model.forms import ID, SCOPES
from taskorch.model.scopes import (
    above_of,
    prefix_of,
    prefixes_of,
    scope_problem,
    scopes_overlap,
)
from taskorch.protocols import Context, Finding, Verdict as Accepted

_LOG: Final = log_of("taskorch.governance")
#: The key of the document in the metadata of a task.
KEY: Final = "specification"
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
#: Keys of other specifications that have no effect here, each with the remedy.
_NOT_KEPT: Final = {
    "change_budget": "nothing counts changes: let a command of `acceptance` do it",
    "max_files": "nothing counts changed files: let a command of `acceptance` do it",
    "max_loc": "nothing counts changed lines: let a command of `acceptance` do it",
    "blast_radius": "`scope` says what is touched",
    "operational_rollback_slo": "nothing rolls back: let another task do it",
    "contracts": "let a command of `acceptance` check them",
    "mode": "say it in `title`",
}


def _texts(values: Iterable[str] | str) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


@frozen
class Criterion:
    """
    A demand on the outcome: an invariant, a case of acceptance, a quality.

    Attributes:
        id: Its name within the specification.
        given: The situation, in words.
        when: The event, in words.
        then: The demand, in words.
        run: The program that checks it, and its arguments; empty: people check it.
        timeout: Seconds that the check may take; None: no limit.
    """

    id: str = attrs.field(metadata=may_be(ID))
    given: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))
    when: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))
    then: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))
    run: tuple[str, ...] = attrs.field(
        default=(),
        converter=_texts,
        metadata=may_be(Each(Text(is_any=True), least=1, needs="a program")),
    )
    timeout: float | None = attrs.field(
        default=None, metadata=may_be(Number(is_above=True))
    )


@frozen
class WorkScope:
    """
    The files that the work may change.

    Attributes:
        inside: Paths that it may write.
        outside: Paths that it must not write: none of them is within the others.
    """

    inside: tuple[str, ...] = attrs.field(
        converter=_texts, metadata=may_be(SCOPES, name="in")
    )
    outside: tuple[str, ...] = attrs.field(
        default=(), converter=_texts, metadata=may_be(SCOPES, name="out")
    )

    def __attrs_post_init__(self) -> None:
        for path in self.outside:
            if scopes_overlap(prefixes_of(self.inside), [prefix_of(path)]):
                msg = (
                    f"out: {path} is within `in`, or above it: `in` allows folders as "
                )
                msg += "a whole, so name narrower ones there"
                raise ValueError(msg)


_CRITERIA: Final = Each(DocumentOf(Criterion, make=Criterion))


@frozen
class Specification:
    """
    A working specification: the limits of a piece of work, and when it is accepted.

    Attributes:
        id: Its name.
        title: The work, in words.
        risk_tier: How much is at risk: 1 is the most. Policies may name it.
        scope: The paths that the work may write; None: it states none.
        budget: The budget that it draws on; None: none.
        resources: The most that the task may reserve, and its reservation if it states
            none.
        timeout: The most seconds of an attempt, and its timeout if the task states
            none.
        invariants: Demands that hold before and after.
        acceptance: Demands that hold after.
        non_functional: Demands on speed, safety and the like.

    Raises:
        ValueError: Two criteria have the same id.
    """

    id: str = attrs.field(metadata=may_be(ID))
    title: str = attrs.field(default="", metadata=may_be(Text(is_any=True)))
    risk_tier: int | None = attrs.field(
        default=None, metadata=may_be(Number(1, 3, is_whole=True))
    )
    scope: WorkScope | None = attrs.field(
        default=None, metadata=may_be(DocumentOf(WorkScope, make=WorkScope))
    )
    budget: str | None = attrs.field(default=None, metadata=may_be(Text()))
    resources: Mapping[str, float] = attrs.field(
        default=ReadOnly({}),
        hash=False,
        metadata=may_be(AnyNames(AMOUNT, plain=True)),
    )
    timeout: float | None = attrs.field(
        default=None, metadata=may_be(Number(is_above=True))
    )
    invariants: tuple[Criterion, ...] = attrs.field(
        default=(), converter=tuple, metadata=may_be(_CRITERIA)
    )
    acceptance: tuple[Criterion, ...] = attrs.field(
        default=(), converter=tuple, metadata=may_be(_CRITERIA)
    )
    non_functional: tuple[Criterion, ...] = attrs.field(
        default=(), converter=tuple, metadata=may_be(_CRITERIA)
    )

    def __attrs_post_init__(self) -> None:
        ids = [one.id for one in self.criteria]
        for name in ids:
            if ids.count(name) > 1 or name == "accepted":
                msg = f"two criteria have the id {name!r}"
                if name == "accepted":
                    msg = "'accepted' is the id of what waits for all criteria"
                raise ValueError(msg)

    @classmethod
    def from_yaml(cls, path: FilePath) -> Self:
        """
        Read a specification from a file of YAML or JSON.

        Raises:
            ValidationFailedError: It is malformed; all faults are named, with lines.
            OSError: The file cannot be read.
            ImportError: PyYAML is not installed: `pip install 'taskorch[policy]'`.
        """
        from taskorch.kit.yaml_text import read_one  # noqa: PLC0415 - optional

        faults = FaultList()
        node, wrong = read_one(Path(path).read_bytes(), str(path))
        for place, fault in wrong:
            faults.add(place, fault)
        faults.refuse()
        return cls._read(node)

    @classmethod
    def from_dict(cls, document: object) -> Self:
        """
        Read a specification from a document, plain mappings and lists.

        Raises:
            ValidationFailedError: It is not well formed; all faults are named.
        """
        return cls._read(located(document))

    @classmethod
    def _read(cls, node: Located) -> Self:
        faults = FaultList()

        def other(name: Located, _: Located) -> None:
            why = _NOT_KEPT.get(str(name.value))
            if why is None:
                faults.unknown(name, "", names_of(cls))
            else:
                faults.add(name.place, f"it could not be kept: {why}", str(name.value))

        form = DocumentOf(cls, make=cls, others=other)
        specification: Self = form.read(node, "", faults)
        faults.refuse()
        return specification

    def to_dict(self) -> dict[str, Any]:
        """Return it as a document, without defaults."""
        document: dict[str, Any] = plain(taken_apart(self, whole=False))
        if self.scope is not None:
            both = {"in": [*self.scope.inside], "out": [*self.scope.outside]}
            document["scope"] = {name: paths for name, paths in both.items() if paths}
        return document

    @property
    def digest(self) -> str:
        """
        A hash of its content, by which it is registered: `sha256:` and 64 digits.

        Raises:
            ValueError: A text of it has half of a character.
        """
        return f"sha256:{hashlib.sha256(canonical(self.to_dict())).hexdigest()}"

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """All demands on the outcome."""
        return (*self.invariants, *self.acceptance, *self.non_functional)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """The ids of the criteria that people check, not programs."""
        return tuple(one.id for one in self.criteria if not one.run)

    def problems(self, task: Task[Any]) -> tuple[Finding, ...]:
        """Return all conflicts of *task* with the specification."""
        return tuple(self._problems(task))

    def _problems(self, task: Task[Any]) -> Iterator[Finding]:
        if self.scope is not None:
            yield from self._outside(self.scope, task)
        if self.budget is not None and task.budget != self.budget:
            text = f"{self.id} draws on {self.budget!r}, and not on {task.budget!r}"
            yield Finding("budget", text)
        for name, most in self.resources.items():
            asked = task.resources.get(name, 0.0)
            if asked > most or (not asked and self.budget is not None):
                text = f"{asked:.12g} are reserved, and {self.id} says {most:.12g}"
                yield Finding(f"resources.{name}", text)
        if self.timeout is not None and (
            task.timeout is None or task.timeout > self.timeout
        ):
            text = f"it is {task.timeout}, and {self.id} allows {self.timeout:.12g} s"
            yield Finding("timeout", text)

    def _outside(self, scope: WorkScope, task: Task[Any]) -> Iterator[Finding]:
        if task.writes is None:
            text = f"any path may be written, and {self.id} allows "
            yield Finding("writes", text + ", ".join(scope.inside))
        # Permission is exact: what differs by case alone may be another folder.
        allowed = {*map(prefix_of, scope.inside)}
        own = task.payload.writes if isinstance(task.payload, Program) else ()
        for field, paths in (("writes", task.writes), ("payload.writes", own)):
            for place, path in enumerate(paths or ()):
                prefix = prefix_of(path)
                is_within = not allowed.isdisjoint((prefix, *above_of(prefix)))
                if scope_problem(path) is not None or not is_within:
                    text = f"{path!r} is outside of the scope of {self.id}"
                    yield Finding(f"{field}[{place}]", text)

    def task(self, task: Task[Any]) -> Task[Any]:
        """
        Return *task* with the values of the specification that it leaves open.

        Raises:
            ValidationFailedError: It conflicts with the specification; all conflicts
                are named.
        """
        resources = {**self.resources, **task.resources}
        work = attrs.evolve(
            task,
            id=task.id or self.id,
            writes=self.scope.inside
            if task.writes is None and self.scope is not None
            else task.writes,
            budget=task.budget or self.budget,
            resources=Resources(**resources),
            timeout=self.timeout if task.timeout is None else task.timeout,
            metadata={**(task.metadata or {}), KEY: self.to_dict()},
        )
        problems = self.problems(work)
        if problems:
            lines = [f"{one.path}: {one.message}" for one in problems]
            raise ValidationFailedError(
                f"task {work.id!r} does not keep to its specification: "
                + "; ".join(lines),
                findings=tuple((one.path, one.message) for one in problems),
                hint="keep to it, or change the specification",
            )
        return work

    def tasks(self, task: Task[Any]) -> list[Task[Any]]:
        """
        Return *task* within the specification, and the checks behind it.

        `ID/CRITERION` is the check of a criterion; `ID/accepted` completes once all
        checks have passed, so that other tasks wait for it.

        Raises:
            ValidationFailedError: As for `task`.
        """
        work = self.task(task)
        if self.without_effect:
            _LOG.warning(
                "specification %s: no program checks %s; give them `run`, or look "
                "yourself",
                self.id,
                some(self.without_effect),
            )
        checks = [
            Task.program(
                [*one.run],
                id=f"{work.id}/{one.id}",
                after=[work.id],
                timeout=one.timeout,
                metadata={"criterion": one.then or one.id},
            )
            for one in self.criteria
            if one.run
        ]
        after = [each.id for each in (work, *checks)]
        return [
            work,
            *checks,
            Task.call(accepted, id=f"{work.id}/accepted", type="gate", after=after),
        ]


def accepted() -> None:
    """Complete: the work is done, and all checks have passed."""


class SpecificationValidator:
    """
    The Validator of working specifications, before a task is submitted.

    A task with one in its metadata must keep it, whoever submits the task, and it must
    be registered: otherwise each submitter could write one that allows all.

    Args:
        needed: Patterns of types, as in file names: their tasks must have one.
        registered: The digests of the specifications that count, by their ids: see
            `Specification.digest`.

    Raises:
        InvalidTaskError: *registered* is no mapping of ids to digests.
    """

    def __init__(
        self, *needed: str, registered: Mapping[str, str] = ReadOnly({})
    ) -> None:
        self._needed = needed
        unchecked: Any = registered
        if not isinstance(unchecked, Mapping) or not all(
            isinstance(one, str) and _DIGEST.fullmatch(one)
            for one in unchecked.values()
        ):
            msg = f"registered: ids with digests are needed, not {show(registered)}"
            raise InvalidTaskError(
                msg, hint="registered={specification.id: specification.digest}"
            )
        self._registered = {**registered}

    def validate(self, task: Task, context: Context) -> Accepted:
        """Return the findings for *task*."""
        del context
        return Accepted(tuple(self._findings(task)))

    def _findings(self, task: Task) -> Iterator[Finding]:
        place = f"metadata.{KEY}"
        document = (task.metadata or {}).get(KEY)
        if document is None:
            if any(fnmatchcase(task.type, one) for one in self._needed):
                text = f"tasks of type {show(task.type)} need a working specification"
                yield Finding(place, text)
            return
        try:
            specification = Specification.from_dict(document)
            digest = specification.digest
        except ValidationFailedError as error:
            yield from (Finding(place, message) for _, message in error.findings)
            return
        except ValueError as error:
            yield Finding(place, str(error))
            return
        if self._registered.get(specification.id) == digest:
            yield from specification.problems(task)
            return
        name = show(specification.id)
        text = f"no specification {name} is registered"
        if specification.id in self._registered:
            text = f"it differs from the registered specification {name}"
        yield Finding(
            place, f"{text}: SpecificationValidator(registered=…) says which count"
        )

    def __repr__(self) -> str:
        words = [*map(repr, self._needed)]
        if self._registered:
            words.append(f"registered={self._registered!r}")
        return f"SpecificationValidator({', '.join(words)})"
