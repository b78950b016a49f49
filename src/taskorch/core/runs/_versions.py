"""
Versions of a definition: the past ones of a run, the deployed one, the change to it.

The graph, arguments and options of a run are in the events of its tasks. Its code is in
a document with the digest of each function and the time from which it held; it is
written when a run begins, when it moves to another definition, and when a later
incarnation goes on with other code. So the code behind a result follows from the time
at which its attempt began.

A result stays valid while its task calls the same code with the same arguments after
the same tasks, and their results are valid. Other retries, timeouts and the like do not
change that.

Decision: reruns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from importlib import import_module
from inspect import isroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import attrs

from taskorch.core.engine import (
    Staleness,
    added_by,
    goes_with,
    is_due,
    is_gone,
    names_above,
    row_of,
)
from taskorch.core.kernel import hangs_on
from taskorch.core.workflows import Workflow, WorkflowFunction
from taskorch.core.workflows._functions import written
from taskorch.core.workflows._graph import Parents, order
from taskorch.core.workflows._parameters import as_json
from taskorch.errors import InvalidTaskError, InvalidTransitionError
from taskorch.kit.checks import check_word
from taskorch.kit.fence import is_values, log_of
from taskorch.kit.frozen import document_of
from taskorch.kit.plain import GONE, VERSIONS
from taskorch.kit.visible import show
from taskorch.model import TERMINAL, Call, MadeFor, Task, TaskState
from taskorch.model.ids import in_run, name_of, stem_of

if TYPE_CHECKING:
    from taskorch.core.engine import Work

_LOG: Final = log_of(__name__)
#: The definition for an act on a run. None: as deployed, where that is known.
AS_DEPLOYED: Final = "as_deployed"
AS_IT_WAS: Final = "as_it_was"
#: The origin of a version of a run, besides: see `RunVersion`.
BEGUN: Final = "begun"
WENT_ON: Final = "went on"
_COMPLETED: Final = TaskState.COMPLETED
#: The prefix of documents that contain the code of a digest.
_CODE: Final = "code:"
#: The most runs whose versions are kept, the latest.
_KEPT: Final = 10_000
#: The most changes of one task, and tasks, that a text names.
_SHOWN: Final = 4
_MOST: Final = 12
_OTHER_CODE: Final = "other code"
_DIGESTS: Final[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()

#: The digest of each function by its name.
Codes: TypeAlias = Mapping[str, str]


@attrs.frozen
class Deployed:
    """
    The deployed definition of a run, or of a single task of a schedule.

    Attributes:
        said_by: The origin of the definition, for people.
        task: The task, if it is one.
        workflow: The workflow, if it is a run.
        note: The metadata noted with its tasks.
    """

    said_by: str
    task: Task | None = None
    workflow: Workflow | None = None
    note: Mapping[str, Any] | None = None


# -- code ------------------------------------------------------------------------------


def codes_of(tasks: Iterable[Task], *, anew: bool = False) -> dict[str, str]:
    """
    Return the digests of the functions that *tasks* call or pass on, by their names.

    Functions of taskorch itself are left out. A digest that was made in this process is
    used unless it is made *anew*: a function that it calls may have been replaced
    since.
    """
    digests: dict[str, str] = {}
    seen: dict[int, None] = {}
    for task in tasks:
        for fn in _functions(task):
            if id(fn) not in seen:
                seen[id(fn)] = None
                name, digest = _called(fn), _digest(fn, anew=anew)
                # Several functions may have one name, such as those of lambda.
                both = digest if name not in digests else _short(digests[name] + digest)
                digests[name] = both
    return digests


def _functions(task: Task) -> Iterator[Any]:
    """Yield the functions among the call and the arguments of a task."""
    if not isinstance(task.payload, Call):
        return
    todo: list[Any] = [task.payload]
    while todo:
        value = todo.pop()
        if isinstance(value, Call):
            todo += [value.fn, *value.args, *value.kwargs.values()]
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
        elif isroutine(value) and not str(value.__module__).startswith("taskorch."):
            yield value


def _called(fn: Any) -> str:
    return f"{fn.__module__}.{fn.__qualname__}"


def _digest(fn: Any, *, anew: bool) -> str:
    """Return the digest of a function's code; "" if only its name is known."""
    with suppress(TypeError):
        if not anew and fn in _DIGESTS:
            return _DIGESTS[fn]
    try:
        from taskorch.kit.digests import described_function  # noqa: PLC0415 - when needed

        digest = _short(described_function(fn))
    except BaseException as error:
        # The function leads to a value that nobody can describe; or the extension is
        # missing.
        if not is_values(error):
            raise
        digest = ""
    with suppress(TypeError):
        _DIGESTS[fn] = digest
    return digest


def _short(text: bytes | str) -> str:
    code = text.encode() if isinstance(text, str) else text
    return blake2b(code, digest_size=8).hexdigest()


# -- what is kept ----------------------------------------------------------------------


@attrs.frozen
class RunVersion:
    """
    One definition of a run, from a time on.

    Attributes:
        since: The time from which it held, in UTC.
        digest: A digest of the code of its functions.
        how: `begun`, `as_deployed`, `as_it_was`; or `went on`: a later incarnation has
            other code for unfinished tasks.
        text: The differences from the one before, in words.
        codes: The digests of its functions, by their names.
    """

    since: datetime
    digest: str
    how: str
    text: str
    codes: Codes = attrs.field(repr=False)

    def called_by(self, task: Task) -> dict[str, str]:
        """Return the digests of the functions that *task* calls or passes on."""
        names = map(_called, _functions(task))
        return {name: self.codes[name] for name in names if name in self.codes}

    def __str__(self) -> str:
        how = self.how.replace("_", " ")
        return f"{how} (code {self.digest})" + f": {self.text}" * bool(self.text)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a document."""
        return document_of(self, "since", "text", "digest", "how")


def note(
    rt: Any,
    run_id: str,
    tasks: Iterable[Task],
    how: str,
    *,
    text: str = "",
    more: Mapping[str, Any] | None = None,
) -> None:
    """
    Note the code of the *tasks* of a run from now on, unless that is known.

    Args:
        rt: The runtime.
        run_id: The run.
        tasks: All its tasks, or those that go on.
        how: See `RunVersion`; `begun` begins a new history.
        text: The differences, in words.
        more: The recipe of its definition: `flow`, and `given` parameters.
    """
    codes = codes_of(tasks)
    history = [] if how == BEGUN else versions(rt, run_id)
    if history and not text and how != AS_DEPLOYED:
        before = history[-1].codes
        if all(before.get(name) == digest for name, digest in codes.items()):
            return
    codes = {**(history[-1].codes if history else {}), **codes}
    digest = _short(json.dumps(codes, sort_keys=True))

    def keep(now: int) -> None:
        kept = rt.kernel.kept.get(VERSIONS, {})
        document: dict[str, Any] = {**(more or {})}
        if how != BEGUN:
            document = {**json.loads(kept.get(run_id, "{}")), **document}
        document["versions"] = [
            *document.get("versions", ()),
            [now, digest, how, text],
        ]
        keep_text = rt.kernel.keep_document
        if _CODE + digest not in kept:
            keep_text(VERSIONS, _CODE + digest, json.dumps(codes), now)
        keep_text(VERSIONS, run_id, json.dumps(document), now)
        if len(kept) > _KEPT:
            for key in [*kept][: _KEPT // 10]:
                if not key.startswith(_CODE):
                    keep_text(VERSIONS, key, "", now)

    rt.step(keep, keep=False)


def versions(rt: Any, run_id: str) -> list[RunVersion]:
    """Return the versions of a run, the first one first; none: nothing is known."""
    return [
        RunVersion(_moment(since), digest, how, text, _document(rt, _CODE + digest))
        for since, digest, how, text in _document(rt, run_id).get("versions", ())
    ]


def is_deployed_since(rt: Any, made_id: str, began: datetime) -> bool:
    """Return whether the latest act on a run since *began* was as deployed."""
    acts = [each for each in versions(rt, made_id) if each.how != WENT_ON]
    return bool(acts) and acts[-1].how == AS_DEPLOYED and acts[-1].since > began


def single(task_id: str) -> str:
    """Return the name of the versions of a task that is of no run."""
    return f"task:{stem_of(task_id)}"


def _moment(ns: int) -> datetime:
    """Return the time of an event, in whole microseconds."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ns // 1_000)


def _document(rt: Any, key: str) -> Mapping[str, Any]:
    text = rt.kernel.kept.get(VERSIONS, {}).get(key)
    document: Mapping[str, Any] = {} if text is None else json.loads(text)
    return document


def given_to(rt: Any, run_id: str) -> Mapping[str, Any] | None:
    """Return the parameters that a run was given; None: unknown."""
    parameters: Mapping[str, Any] | None = _document(rt, run_id).get("given")
    return parameters


def taken_up(rt: Any) -> None:
    """Note unfinished runs whose code has changed since an earlier incarnation."""
    unfinished: dict[str, list[Task]] = {}
    for row in rt.kernel.tasks.values():
        task = row.cargo._task
        if row.run and row.state not in TERMINAL and task is not None:
            unfinished.setdefault(row.run, []).append(task)
    for run_id, tasks in unfinished.items():
        history = versions(rt, run_id)
        if not history:
            continue
        before, codes = history[-1].codes, codes_of(tasks)
        others = [name for name in codes if before.get(name) != codes[name]]
        if others:
            text = f"{_OTHER_CODE} of {_named(others)}"
            note(rt, run_id, tasks, WENT_ON, text=text)
            _LOG.warning(
                "run %s goes on with its own graph, and with %s (deployed since it "
                "began); orch.workflows.restart(%r) goes over to today's definition",
                *(run_id, text, run_id),
            )


# -- from the one to the other ---------------------------------------------------------


class Move:
    """
    The differences of today's definition from that of a run, and the change to it.

    Args:
        reruns: The re-runs of the workflows.
        made_id: The run; or the task, if it is of no run.
        deployed: The deployed definition.

    Raises:
        UsageError: It could not be submitted.
    """

    def __init__(
        self,
        # Any: its type is in a module that imports this one.
        reruns: Any,
        made_id: str,
        deployed: Deployed,
    ) -> None:
        self._reruns = reruns
        self.made_id: str = made_id
        self.deployed: Deployed = deployed
        self._rt: Any = reruns.rt
        workflow, task = deployed.workflow, deployed.task
        #: The tasks by their ids in the run, as they would be submitted.
        self._tasks: dict[str, Task] = {}
        self._parents: Parents = {"": ()}
        if task is not None:
            self._tasks[""] = self._queued(task)
        if workflow is not None:
            self._tasks, self._parents = reruns.starts.submittable(
                workflow, made_id, deployed.note
            )
        self._works: dict[str, Work] = {}
        self._going: dict[str, Work] = {}
        #: Tasks that are due only for results that they had asked for.
        self._asked: set[str] = set()
        #: Names of new tasks, and of removed ones.
        self.new: list[str] = []
        self.gone: list[str] = []
        #: The differences of each task, in words; and the tasks with invalid results.
        self.changes: dict[str, list[str]] = {}
        self.stale: set[str] = set()
        self.parameters: list[str] = []
        self._compare()

    def _queued(self, task: Task) -> Task:
        """Return *task*, after the tasks that this run of its schedule waited for."""
        directory = self._rt.directory
        latest = directory.reruns.latest(self.made_id)
        if not directory.is_known(latest):
            return task
        above = {*map(stem_of, names_above(directory.known(latest)))}
        above -= {str(each) for each in task.after}
        if not above:
            return task
        after = (*task.after, *sorted(above))
        return attrs.evolve(task, after=after, join="finished", on_parent_failure="run")

    def _compare(self) -> None:
        rt, run_id = self._rt, "" if self.deployed.task else self.made_id
        compared = rt.submission.compared([*self._tasks.values()], run_id)
        history = versions(rt, self.made_id)
        codes = codes_of(self._tasks.values(), anew=True)
        for name, (task, work, parts, options) in zip(
            self._tasks, compared, strict=True
        ):
            if work is None or is_gone(row_of(work)):
                self.new.append(name)
                if work is not None:
                    self._works[name] = work
                continue
            self._works[name] = work
            changes = [
                f"{field} {was} → {now}" for field, was, now in (*parts, *options)
            ]
            if parts:
                self.stale.add(name)
            if self._has_other_code(task, work, codes, history):
                changes.append(_OTHER_CODE)
                self.stale.add(name)
            if changes:
                self.changes[name] = changes
            if not self.parameters:
                self.parameters = _between(work._task, task)
        if self.parameters:
            self.stale.update(self._works)
        if run_id:
            self._find_gone(self._reruns.known.get(run_id))

    def _has_other_code(
        self, task: Task, work: Work, codes: Codes, history: Sequence[RunVersion]
    ) -> bool:
        """Return whether the result of a task is, or will be, from other code."""
        row = row_of(work)
        if not row.attempt:
            return False
        began = _moment(row.started_ns)
        names = [_called(fn) for fn in _functions(task)]
        had = [each.codes for each in history if each.since <= began]
        if not had:
            was = codes_of([] if work._task is None else [work._task], anew=True)
            return any(was.get(name, codes[name]) != codes[name] for name in names)
        return any(had[-1].get(name, codes[name]) != codes[name] for name in names)

    def _find_gone(self, run: Any) -> None:
        gone: dict[str, None] = {}
        handles = run.handles
        added = {name: name_of(added_by(work)) for name, work in handles.items()}
        size = -1
        while size < len(gone):
            size = len(gone)
            for name, adder in added.items():
                if adder in gone or not (adder or name in self._tasks):
                    gone[name] = None
        self.gone = [*gone]
        self._going = {name: handles[name] for name in gone}

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changes or self.parameters)

    def __str__(self) -> str:
        """Return the differences of today's definition, in a line."""
        run = in_run(self.made_id, "")
        parts = [f"+ {_named(self.new)}"] if self.new else []
        parts += [f"- {_named(self.gone)}"] if self.gone else []
        parts += (
            [f"parameters: {', '.join(self.parameters)}"] if self.parameters else []
        )
        names: dict[str, list[str]] = {}
        for name, changes in self.changes.items():
            shown = changes[:_SHOWN]
            if len(changes) > _SHOWN:
                shown.append(f"and {len(changes) - _SHOWN} more")
            names.setdefault(", ".join(shown), []).append(name)
        parts += [
            f"{_named(each)}: {text}" if any(each) else text
            for text, each in names.items()
        ]
        if len(parts) > _MOST:
            parts[_MOST:] = [f"and {len(parts) - _MOST} changes more"]
        return "; ".join(parts).replace(run, "")

    def due(self, is_meant: Callable[[Any], bool]) -> dict[str, str]:
        """
        Return the tasks that are run again: names, and ids of the latest runs.

        These are the tasks that *is_meant* accepts, those with invalid results, and
        those that had the results of these.
        """
        rt = self._rt
        due: dict[str, str] = {}
        new = {*self.new}
        again: Mapping[str, str] = {}
        if self.deployed.workflow is not None:
            again = self._reruns.to_run_again(
                self.made_id, lambda at, work: is_meant(work) or is_due(at, work)
            )
        self._asked.clear()
        with rt.lock:
            staleness = Staleness(rt)
            staleness.look(self._works.values())
            for name in order(self._parents):
                work = self._works.get(name)
                if work is None:
                    continue
                above = [each for each in self._parents[name] if each in due]
                if (
                    name in new
                    or name in self.stale
                    or is_meant(work)
                    or is_due(staleness, work)
                    or any(goes_with(self._works[each], work) for each in above)
                    or not (
                        hangs_on(row_of(work)) or new.isdisjoint(self._parents[name])
                    )
                ):
                    due[name] = row_of(work).id
                elif name in again:
                    # It had asked a task that it has added, and that runs again.
                    due[name] = row_of(work).id
                    self._asked.add(name)
        return due

    def anew(self, due: Iterable[str]) -> set[str]:
        """Return those of *due* that make all tasks anew that they add."""
        ended = {n for n in due if row_of(self._works[n]).state is _COMPLETED}
        return (ended - self._asked) | self.stale.intersection(due)

    def carry_out(self, due: Mapping[str, str]) -> None:
        """
        Move to the deployed definition: *due* is run again, removed tasks are left out.

        Raises:
            UsageError: It was refused: nothing has changed.
        """
        rt, made_id = self._rt, self.made_id
        text = str(self)
        anew = {due[name] for name in self.anew(due)}
        going = [self._going[name] for name in self.gone]
        renewing = _Due(rt, frozenset(due.values()), anew, going)
        workflow = self.deployed.workflow
        if workflow is None:
            note(rt, single(made_id), self._tasks.values(), AS_DEPLOYED, text=text)
            rt.submit_tasks([*self._tasks.values()], renewing=renewing)
        else:
            note(rt, made_id, self._tasks.values(), AS_DEPLOYED, text=text)
            self._reruns.go_over(made_id, workflow, self.deployed.note, renewing, going)
        if text:
            said_by = self.deployed.said_by
            _LOG.info("%s goes on as deployed (%s): %s", made_id, said_by, text)


@attrs.frozen
class _Due:
    """The choice of tasks of a run that are made again: see `Renewing`."""

    rt: Any
    #: The ids of their latest runs; and those of tasks that make all anew that they
    #: add.
    ids: frozenset[str]
    anew: Collection[str]
    #: The removed tasks; one that has not begun does not begin any more.
    gone: Sequence[Any]
    decides: bool = True

    def is_due(self, work: Work, *, is_other: bool) -> bool:
        """Return whether *work* is made again; *is_other*: another task is deployed."""
        return is_other or row_of(work).id in self.ids

    def is_anew(self, work: Work) -> bool:
        """Return whether the tasks that it has added are made again, too."""
        return row_of(work).id in self.anew

    def admitted(self, now: int) -> None:
        """Cancel the removed tasks that have not ended."""
        for work in self.gone:
            # If the state machine forbids it, the task goes on, and nobody uses its
            # result.
            with suppress(InvalidTransitionError):
                self.rt.kernel.cancel(row_of(work), now, GONE)


def move_of(
    reruns: Any, made_id: str, which: str | None, deployed: Deployed | None
) -> Move | None:
    """
    Return the change to today's definition; None: the act keeps the definition.

    Raises:
        InvalidTaskError: The deployed definition is asked for, and not known.
    """
    if deployed is None:
        if which is None:
            return None
        msg = f"nobody has said in this program what {made_id} is today"
        hint = (
            "declare its schedule before; or call orch.workflows."
            f"start(workflow, id={made_id!r}, definition={AS_DEPLOYED!r})"
        )
        raise InvalidTaskError(msg, hint=hint)
    return Move(reruns, made_id, deployed)


def check_which(which: object) -> None:
    """
    Check *which* definition an act is to take.

    Raises:
        InvalidTaskError: It is neither.
    """
    if which is not None:
        check_word("definition", which, (AS_DEPLOYED, AS_IT_WAS))


def of_flow(rt: Any, run_id: str) -> Deployed | None:
    """Return today's definition of a run of a `@workflow` function, or None."""
    document = _document(rt, run_id)
    flow = _found(document.get("flow", ""))
    if not isinstance(flow, WorkflowFunction):
        return None
    values_given = {
        name: value
        for name, value in document.get("given", {}).items()
        if name in flow.parameters
    }
    workflow, values = written(flow, values_given)
    return Deployed(
        flow_name(flow),
        None,
        workflow,
        {MadeFor.PARAMETERS: values} if values else None,
    )


def flow_name(flow: WorkflowFunction[...]) -> str:
    """Return the place of a function that writes down workflows: `module:name`."""
    return f"{flow.fn.__module__}:{flow.fn.__qualname__}"


def _found(place: str) -> Any:
    module, _, path = place.partition(":")
    member: Any = sys.modules.get(module)
    if member is None and module:
        with suppress(ImportError):
            member = import_module(module)
    for part in path.split("."):
        member = getattr(member, part, None)
    return member


def _between(old: Task | None, new: Task) -> list[str]:
    """Return the differences between parameters, in words."""
    if old is None:
        return []
    before, now = (as_json(MadeFor(each.metadata).parameters) for each in (old, new))
    return [
        f"{name} {_shown_of(before, name)} → {_shown_of(now, name)}"
        for name in {**before, **now}
        if name not in before or name not in now or before[name] != now[name]
    ]


def _shown_of(values: Mapping[str, Any], name: str) -> str:
    return show(values[name]) if name in values else "missing"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
