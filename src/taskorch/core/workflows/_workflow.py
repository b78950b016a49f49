"""The workflow: tasks and their dependencies, written down and checked."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Container,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import timedelta
from inspect import Parameter
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

import attrs

from taskorch.core.workflows import (
    _graph,
    _names,
    _parameters,
    _pictures,
    _reading,
    _steps,
    _writing,
)
from taskorch.core.workflows._arguments import prefixed, refers, with_references
from taskorch.core.workflows._building import Builder
from taskorch.core.workflows._dependencies import Dependencies
from taskorch.core.workflows._graph import Parents, tasks_of
from taskorch.core.workflows._phases import (
    Check,
    OnFailure,
    PhaseRules,
    approval_of,
    approval_of_run,
    check_options,
    checks_of,
    gate_of,
    is_approval,
    limited,
)
from taskorch.errors import CycleError, DuplicateTaskError, InvalidTaskError
from taskorch.kit import located
from taskorch.kit.building import workflow_in_building
from taskorch.kit.visible import counted, show
from taskorch.kit.vocabulary import guess, other_attribute, suggesting
from taskorch.model import (
    Call,
    Program,
    Reference,
    Task,
    Wait,
    references,
    refuse_in,
    submitted_as,
)
from taskorch.model.ids import check_name, check_task_id, ids_in_run, in_run, joined


class _AnyName(Container[str]):
    """A container of every name: a task may be added later."""

    def __contains__(self, name: object) -> bool:
        return True


_ANY_NAME: Final = _AnyName()
_FOREIGN: Final = "wf.include(other) takes in the tasks of another workflow"
#: The most names that an error mentions.
_MAX_SAID: Final = 10

#: Setter for tasks that were made here, and that nobody else has.
_set_id: Final = vars(Task)["id"].__set__
_set_after: Final = vars(Task)["after"].__set__
_set_payload: Final = vars(Task)["payload"].__set__


class Node:
    """
    A task of a workflow.

    Hand it to another task as an argument, alone or in a list, a dict and so on, and
    its result comes there; name it in `after`, and the other only waits for it. Two
    nodes are equal if they are the same task.
    """

    __slots__ = ("id", "workflow")
    #: Among the arguments of another task: see `taskorch.model._arguments`.
    stands_for_result = True

    def __init__(self, workflow: Workflow, task_id: str) -> None:
        self.workflow: Workflow = workflow
        #: Its id in the workflow.
        self.id: str = task_id

    @property
    def task(self) -> Task:
        """The task of the node, in which references stand for other tasks."""
        return self.workflow._tasks[self.id]

    @property
    def after(self) -> tuple[str, ...]:
        """The ids of the tasks of the workflow that it waits for."""
        return self.workflow.dependencies[self.id]

    def __rshift__(self, after: Step) -> Step:
        """Let *b* come after *a* in `a >> b`, as `Workflow.chain` does; return *b*."""
        self.workflow.chain(self, after)
        return after

    def __rrshift__(self, before: Step) -> Node:
        """Let *c* come after all of them in `[a, b] >> c`; return *c*."""
        self.workflow.chain(before, self)
        return self

    def __lshift__(self, before: Step) -> Step:
        """Let *a* come after *b* in `a << b`, as `b >> a` does; return *b*."""
        self.workflow.chain(before, self)
        return before

    def __rlshift__(self, after: Step) -> Node:
        """Let *a* and *b* come after *c* in `[a, b] << c`; return *c*."""
        self.workflow.chain(self, after)
        return self

    if not TYPE_CHECKING:

        def __or__(self, other: object) -> Any:
            msg = f"{self!r} | …: a >> b lets b come after a; its result is an argument"
            raise TypeError(msg)

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    def _refuse_use(self) -> None:
        """
        Refuse a use that needs the result, such as in a condition.

        Raises:
            TypeError: A workflow is written down, and the result is not known.
        """
        if workflow_in_building() is not None:
            msg = f"a Node is no condition and no text: {self!r} has not run yet"
            raise TypeError(msg)

    def __bool__(self) -> bool:
        self._refuse_use()
        return True

    def __format__(self, spec: str) -> str:
        self._refuse_use()
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            if other is not None:
                self._refuse_use()
            return NotImplemented
        return self.workflow is other.workflow and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Node {self.id!r} of {self.workflow.name!r}>"


class Drafts(NamedTuple):
    """
    A workflow as it is submitted for a run.

    Attributes:
        tasks: The tasks by their ids in it. A task of which only the id and the parents
            depend on the run is as it stands in the workflow.
        parents: The parents of each task, frozen.
        has_limits: Whether a phase limits how many of its tasks run at once.
    """

    tasks: Mapping[str, Task]
    parents: Parents
    has_limits: bool


#: A node, the id of one, or a list of them.
Step: TypeAlias = Node | str | Sequence[Node | str]


class Phase(PhaseRules, Builder[Node]):
    """
    A named group of a workflow; made by `Workflow.phase`.

    Its tasks begin when the gate of the phase before has opened, and its own gate gives
    its verdict when they have ended.

    Attributes:
        workflow: The workflow that it is a part of.
    """

    def __init__(self, workflow: Workflow, name: str, **rules: Any) -> None:
        super().__init__(name, **rules)
        self.workflow: Workflow = workflow

    @property
    def gate(self) -> Node:
        """The gate of the phase: a task whose result is the verdict."""
        return self.workflow[gate_of(self.name)]

    @property
    def end(self) -> Node:
        """The node that the next phase waits for: the approval, if any, or the gate."""
        return self.workflow[self.end_id]

    def add(self, task: Task) -> Node:
        """
        Add any task to the phase.

        Raises:
            UsageError: As for `task`.
        """
        return self._put(task)

    def _add_task(self, task: Task) -> Node:
        return self._put(task, is_ours=True)

    def _put(self, task: Task, *, is_ours: bool = False) -> Node:
        """Add *task* between the gate before and that of the phase."""
        if isinstance(task, Task):
            task = self._after_gate(task, _ANY_NAME)
        node = self.workflow._put(task, _ANY_NAME, is_ours=is_ours)
        self._take([node.id])
        return node

    def include(
        self, other: Workflow, *, name: str | None = None, after: Iterable[Any] = ()
    ) -> list[Node]:
        """
        Take in the tasks of another workflow: see `Workflow.include`.

        Raises:
            UsageError: As for `Workflow.include`.
        """
        before = [] if self.before is None else [self.before.end]
        size = len(self.workflow)
        last = self.workflow.include(other, name=name, after=[*after, *before])
        self._take([*self.workflow][size:])
        return last

    def _after_gate(self, task: Task, nameable: Container[str]) -> Task:
        """
        Return *task*, which waits for the gate before the phase.

        Raises:
            InvalidTaskError: Its join is its own, and would not wait for the gate.
        """
        before = self.before
        if before is None:
            return task
        refs, outside = self.workflow._waits(
            task.after, "a task of a phase", "", nameable
        )
        if task.join != "all":
            # The gate would be one of the parents that the join chooses from.
            if not set(refs).intersection(self.tasks) or outside:
                msg = (
                    f"a task of phase {self.name!r} with join={task.join!r} must come "
                    "after tasks of that phase"
                )
                raise InvalidTaskError(msg, hint="let a task of the phase come between")
            return task
        why = task.on_parent_failure
        if why == "block" and self.can_be_skipped:
            why = "skip"
        waits = (*task.after, before.end)
        return attrs.evolve(task, after=waits, on_parent_failure=why)

    def _take(self, names: Iterable[str], *, check: bool = True) -> None:
        """Add tasks to the phase: its gate waits for them."""
        workflow, dependencies = self.workflow, self.workflow._dependencies
        gate = self.gate.id
        for name in names:
            dependencies.connect(name, gate, check=check)
            self.tasks.append(name)
            limit = self.max_parallel
            if limit is not None and not _is_gate(workflow._tasks[name]):
                workflow._limits.setdefault(name, (self.name, limit))
        # A gate comes after its phase.
        for name in (gate, approval_of(self.name)):
            if name in workflow._tasks:
                workflow._tasks[name] = workflow._tasks.pop(name)
                dependencies.put_last(name)

    def __repr__(self) -> str:
        return (
            f"<Phase {self.name!r} of {self.workflow.name!r}: "
            f"{counted(len(self.tasks), 'task')}>"
        )


@suggesting
class Workflow(Builder[Node]):
    """
    Tasks with dependencies, which `orch.workflows.start` runs as one.

    Tasks are added in any order: one may name, by its id, another that comes later.
    What cannot be is refused at once: an id that is taken, a node of another workflow,
    a ring; a name that nobody has got, when the workflow is started or written down. A
    list of nodes is a group, wherever a node may stand.

    Args:
        name: One word: it begins the ids of runs.
        parameters: The type, or the default, of each parameter of its runs, by name:
            `{"day": date, "shop": "all"}`. None declares none, and any are taken.

    Raises:
        InvalidTaskError: *name* is no safe word, or *parameters* no such mapping.
    """

    def __init__(
        self, name: str, *, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self.name: str = check_name("the name of a workflow", name)
        self._tasks: dict[str, Task] = {}
        self._dependencies: Dependencies = Dependencies()
        #: Tasks as they were added, and their ids, by the id of the object.
        self._added: dict[int, tuple[Task, str]] = {}
        self._counts: dict[str, int] = {}
        self._phases: dict[str, Phase] = {}
        #: The phase, and its limit, of each task of a limited phase.
        self._limits: dict[str, tuple[str, int]] = {}
        #: The ids of the nodes of the graph that it was made of.
        self.ids: Mapping[Hashable, str] = {}
        #: The schedule in its document: `orch.schedules.add(name, None, workflow)`
        #: follows it; a start is one run, now.
        self.schedule: Mapping[str, Any] | None = None
        #: Its parameters by name, with types and defaults; None: it declares none.
        self.parameters: Mapping[str, Parameter] | None = _parameters.declared(
            parameters
        )
        #: The arguments of the function that has written it down.
        self._values: dict[str, Any] | None = None

    # -- building ------------------------------------------------------------------

    def add(self, task: Task) -> Node:
        """
        Add any task.

        Raises:
            UsageError: As for `task`.
        """
        return self._put(task, _ANY_NAME)

    def phase(
        self,
        name: str,
        *,
        max_parallel: int | None = None,
        gate: Check | Sequence[Check] | None = None,
        gate_timeout: float | timedelta | None = None,
        on_failure: OnFailure = "stop",
    ) -> Phase:
        """
        Begin the next phase: a named group of tasks, with a gate behind it.

        Its tasks begin when the gate of the phase before has opened. Its own gate is a
        task, `name/gate`, which looks when they have ended; its result is the verdict.
        It opens if all of them have completed, and what *gate* asks for holds.

        Args:
            name: One word.
            max_parallel: Tasks at once; None is without limit.
            gate: A path (that file must exist), a function (called with the results
                of the phase by id; what it returns must be true), `Approval()`
                (somebody must approve), or a list of these.
            gate_timeout: Seconds, or a timedelta, that each function may take; None
                is for ever.
            on_failure: The effect of a failure: `"stop"` blocks the later tasks until
                a restart; `"skip"` cancels them; `"continue"` notes it in the
                verdict, and goes on.

        Raises:
            InvalidTaskError: An argument is not well formed.
            DuplicateTaskError: There is such a phase, or a task of its gate's name.
        """
        name = check_name("the name of a phase", name)
        check_options(max_parallel, gate_timeout, on_failure)
        if name in self._phases:
            msg = f"workflow {self.name!r} has a phase {name!r} already"
            raise DuplicateTaskError(msg, hint="choose another name")
        for end in (gate_of(name), approval_of(name)):
            if end in self._tasks:
                raise self._duplicate(end)
        phase = Phase(
            self,
            name,
            max_parallel=max_parallel,
            checks=checks_of(gate),
            gate_timeout=gate_timeout,
            on_failure=on_failure,
            before=next(reversed(self._phases.values()), None),
        )
        for task in (phase.gate_task(), phase.approval_task()):
            if task is not None:
                self._put(task, self._tasks)
        self._phases[name] = phase
        return phase

    @property
    def phases(self) -> Mapping[str, Phase]:
        """The phases by name, in order: a view."""
        return MappingProxyType(self._phases)

    def chain(self, *steps: Step) -> None:
        """
        Make each step come after the one before: `wf.chain(a, [b, c], d)`.

        Args:
            steps: Nodes, ids, or lists of them, of which all come after all of the
                step before. An empty list changes nothing.

        Raises:
            InvalidTaskError: A node is of another workflow, or an id is unknown.
            CycleError: Tasks would wait for each other; nothing has changed.
        """
        groups = [self._group(step) for step in steps]
        before: list[str] = []
        edges: list[tuple[str, str]] = []
        try:
            for group in groups:
                for parent, child in product(before, group):
                    if self._dependencies.connect(parent, child):
                        edges.append((parent, child))
                before = group or before
        except CycleError:
            self._dependencies.disconnect(edges)
            raise

    def include(
        self, other: Workflow, *, name: str | None = None, after: Iterable[Any] = ()
    ) -> list[Node]:
        """
        Add the tasks of another workflow, as it is now; `x` becomes `name/x`.

        Args:
            other: The workflow; it may be this one.
            name: What to call it here; None is its own name.
            after: What its first tasks come after: nodes, ids and handles.

        Returns:
            Its last tasks, those that no other of it waits for. If it is empty, the
            nodes of *after*, so that a chain through it holds.

        Raises:
            InvalidTaskError: An argument is not well formed.
            DuplicateTaskError: An id is taken.
        """
        if not isinstance(other, Workflow):
            msg = f"a Workflow is included, not {show(other)}"
            hint = "call it: wf.include(night(…))" if callable(other) else None
            raise InvalidTaskError(msg, hint=hint)
        prefix = check_name("name", other.name if name is None else name)
        other._refuse_unknown()
        first, outside = self._waits(after, f"what is included as {prefix!r}", "")
        duplicate = next((i for i in other if joined(prefix, i) in self._tasks), None)
        if duplicate is not None:
            msg = f"workflow {self.name!r} has a task {prefix}/{duplicate} already"
            raise DuplicateTaskError(msg, hint="include it by another name: name='…'")
        last = dict.fromkeys(other)
        for node, above in [(other[i], other.dependencies[i]) for i in other]:
            for parent in above:
                last.pop(parent, None)
            parents = [joined(prefix, parent) for parent in above] or list(first)
            waits = node.task.after if above else (*node.task.after, *outside)
            task_id = joined(prefix, node.id)
            task = prefixed(node.task, task_id, prefix, waits)
            self._dependencies.add(task_id, dict.fromkeys(parents))
            self._tasks[task_id] = task
            if node.id in other._limits:
                phase, limit = other._limits[node.id]
                self._limits[task_id] = joined(prefix, phase), limit
        ids = [joined(prefix, i) for i in last] or list(first)
        return [Node(self, i) for i in ids]

    # -- what is there -------------------------------------------------------------

    def __getitem__(self, task_id: str) -> Node:
        if task_id not in self:
            raise KeyError(self._unknown(task_id))
        return Node(self, task_id)

    def __contains__(self, task_id: object) -> bool:
        return isinstance(task_id, str) and task_id in self._tasks

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __bool__(self) -> bool:
        # A workflow without tasks is a workflow all the same.
        return True

    @property
    def dependencies(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of the parents of each task: a view."""
        return _graph.ParentsView(self._dependencies.after)

    def tasks(self, run_id: str) -> list[Task]:
        """
        Return the tasks as submitted for a run: their ids begin with `run_id/`.

        Raises:
            InvalidTaskError: *run_id* is no safe word, or a task waits for one that
                does not exist.
        """
        run_id = check_name("the id of a run", run_id)
        self._refuse_unknown()
        tasks: list[Task] = []
        for name, task in self._tasks.items():
            above = ids_in_run(run_id, self._dependencies.after[name])
            tasks.append(self._submitted(name, run_id, (*above, *task.after)))
        return tasks

    def _submitted(self, name: str, run_id: str, waits: Sequence[Any]) -> Task:
        """Return a task as submitted for a run, where it is to wait for *waits*."""
        task = prefixed(self._tasks[name], in_run(run_id, name), run_id, waits)
        if is_approval(task):
            task = approval_of_run(task, in_run(run_id, name))
        if name in self._limits:
            task = limited(task, run_id, *self._limits[name])
        return task

    def __repr__(self) -> str:
        edges = sum(map(len, self._dependencies.after.values()))
        tasks = counted(len(self), "task")
        waits = f"{edges:,} dependenc{'y' if edges == 1 else 'ies'}"
        return f"<Workflow {self.name!r}: {tasks}, {waits}>"

    def to_mermaid(self) -> str:
        """Return the graph as a flowchart of Mermaid's."""
        return _pictures.mermaid(self.dependencies)

    def _repr_html_(self) -> str:
        types = {name: str(task.type) for name, task in self._tasks.items()}
        return _pictures.page(repr(self), self.dependencies, types, {})

    # -- conversions ---------------------------------------------------------------

    @classmethod
    def from_networkx(
        cls, graph: Any, task: str = "task", *, name: str = "workflow"
    ) -> Workflow:
        """
        Make a workflow of the nodes of a graph; its edges lead to later tasks.

        Args:
            graph: A `networkx.DiGraph`. Its nodes may be anything that it takes: a text
                that is an id stands for itself, all others get ids that say what they
                are, the same in every run. `workflow.ids` has them: the result of a
                node is `run.result()[workflow.ids[node]]`.
            task: The attribute of a node that has its `Task`, or a function to call
                without arguments. A `Reference` to another node among the arguments
                of a `Call` is replaced by the result of that one.
            name: The name of the workflow.

        Raises:
            InvalidTaskError: It is no directed graph, or a node has no task.
            DuplicateTaskError: Two tasks have one id.
            CycleError: The graph has a ring; the shortest one is named.
        """
        workflow = cls(name)
        tasks, workflow.ids = tasks_of(graph, task)
        workflow._fill([(node_task, None) for node_task in tasks])
        return workflow

    def to_networkx(self) -> Any:
        """
        Return the graph as a `networkx.DiGraph`: its edges lead to later tasks.

        The attribute `task` of a node has its `Task`.
        """
        self._refuse_unknown()
        graph = _graph.digraph(self._dependencies.after)
        for name, task in self._tasks.items():
            graph.nodes[name]["task"] = task
        return graph

    @classmethod
    def from_dict(
        cls,
        document: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        programs: bool = False,
    ) -> Workflow:
        """
        Make a workflow of a document of plain values, as `to_dict` returns it.

        Nothing is imported for it, and you decide which functions it may call and which
        programs it may start.

        Args:
            document: See `taskorch.api.workflows.document_schema`.
            functions: The functions that it may call, by name.
            programs: Whether it may start programs.

        Raises:
            ValidationFailedError: It is not well formed; all faults are named.
            CycleError: Its tasks wait for each other; the shortest ring is named.
        """
        return cls._read(document, functions or {}, programs=programs)

    @classmethod
    def _read(
        cls, document: object, functions: Mapping[str, Callable[..., Any]], **how: Any
    ) -> Workflow:
        name, phases, tasks, more = _reading.read(document, functions, **how)
        workflow = cls(name)
        workflow.schedule, workflow.parameters = more
        for phase, options in phases.items():
            workflow.phase(phase, **options)
        workflow._fill(tasks)
        return workflow

    def to_dict(
        self, functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> dict[str, Any]:
        """
        Return the workflow as a document of plain lists and dicts.

        Args:
            functions: The names of the functions that it calls.

        Raises:
            InvalidTaskError: A document cannot represent a part of a task.
        """
        self._refuse_unknown()
        document = _writing.write(
            self.name, self._phases, self._tasks, self.dependencies, functions or {}
        )
        if self.schedule is not None:
            document = {
                "workflow": document.pop("workflow"),
                "schedule": self.schedule,
                **document,
            }
        if self.parameters is not None:
            document = {
                "workflow": document.pop("workflow"),
                "parameters": _parameters.write(self.parameters),
                **document,
            }
        return document

    @classmethod
    def from_yaml(
        cls,
        text: str | bytes,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        programs: bool = False,
    ) -> Workflow:
        """
        Make a workflow of a document in YAML 1.2, as for `from_dict`.

        Aliases, tags and repeated keys are refused, and so is what has more than a
        million characters or is nested more than a hundred levels deep. It
        needs the library PyYAML: `pip install 'taskorch[yaml]'`.

        Raises:
            ImportError: PyYAML is not installed.
            ValidationFailedError: As for `from_dict`, with the line and the column of
                each fault.
            CycleError: As for `from_dict`.
        """
        from taskorch.kit import yaml_text  # noqa: PLC0415 - optional, 15 ms

        hint = "write a large one as JSON: Workflow.from_dict(json.loads(text))"
        node = yaml_text.load(text, "the workflow", hint=hint)
        return cls._read(
            located.plain(node),
            functions or {},
            programs=programs,
            places=dict(located.places(node)),
        )

    def _add_task(self, task: Task) -> Node:
        return self._put(task, _ANY_NAME, is_ours=True)

    # -- taking in -----------------------------------------------------------------

    def _fill(self, tasks: Sequence[tuple[Task, str | None]]) -> None:
        """
        Add tasks that name each other in any order, some of them in phases.

        Raises:
            UsageError: As for `task`.
        """
        names = dict[str, None].fromkeys(self._tasks)
        for task, _ in tasks:
            if task.id in names:
                raise self._duplicate(str(task.id))
            names[str(task.id)] = None
        for task, name in tasks:
            if name is not None:
                self._phases[name].tasks.append(str(task.id))
        for task, name in tasks:
            waits = task
            if name is not None:
                waits = self._phases[name]._after_gate(task, names)
            self._put(waits, names, check=False)
        for phase in self._phases.values():
            members, phase.tasks = phase.tasks, []
            phase._take(members, check=False)
        _graph.refuse_rings(self._dependencies.after)

    def _put(
        self,
        task: Task,
        nameable: Container[str],
        *,
        is_ours: bool = False,
        check: bool = True,
    ) -> Node:
        """
        Add *task*, where *nameable* are those that it may name.

        A task that *is_ours* was made here, and nobody else has it. A caller that sets
        *check* to False looks for rings when all tasks are added.
        """
        if not isinstance(task, Task):
            msg = f"a Task is added, not {show(task)}"
            hint = "wf.task(function, …) adds a call, and wf.add(Task(…)) any task"
            raise InvalidTaskError(msg, hint=hint)
        name = self._name_of(task)
        if task.idempotency_key is not None:
            msg = f"task {name!r} has an idempotency key"
            hint = "a task of a workflow is known by its id and that of the run"
            raise InvalidTaskError(msg, hint=hint, task_id=name)
        who = f"task {name!r}"
        parents, outside = self._waits(task.after, who, name, nameable)
        payload = task.payload
        if isinstance(payload, Call):
            if payload.args or payload.kwargs:
                payload = self._bound(payload, who, name, nameable, parents)
            else:
                refuse_in(payload.fn)
        elif not isinstance(payload, Program):
            _refuse_hidden(payload, who)
        if is_ours:
            _set_id(task, name)
            _set_after(task, outside)
            if payload is not task.payload:
                _set_payload(task, payload)
            added = task
        else:
            added = attrs.evolve(task, id=name, after=outside, payload=payload)
        self._dependencies.add(name, parents, check=check)
        self._tasks[name] = added
        if not is_ours:
            self._added[id(task)] = (task, name)
        return Node(self, name)

    def _bound(
        self,
        call: Call,
        who: str,
        name: str,
        nameable: Container[str],
        parents: dict[str, None],
    ) -> Call:
        """Return *call* with references for its nodes, which are added to *parents*."""

        def bound(arg: Any) -> Any:
            parent = self._named(arg, who, name, nameable)
            if parent is None:
                return arg
            parents[parent] = None
            return Reference(parent)

        return with_references(call, bound)

    def _refuse_unknown(self) -> None:
        """
        Refuse a workflow in which tasks wait for one that was never added.

        Raises:
            InvalidTaskError: All such are named.
        """
        if not self._dependencies.awaited:
            return
        sentences = [
            f"task {children[0]!r} needs {self._unknown(name)}"
            for name, children in self._dependencies.awaited.items()
        ]
        hint = "add it, or mend the name"
        raise InvalidTaskError("; ".join(sentences[:_MAX_SAID]), hint=hint)

    # -- names ---------------------------------------------------------------------

    def _waits(
        self, after: object, who: str, name: str, nameable: Container[str] | None = None
    ) -> tuple[dict[str, None], tuple[Any, ...]]:
        """Return what *after* names: tasks of this workflow, and others' handles."""
        if type(after) is not list and (
            isinstance(after, str | bytes | Node) or not isinstance(after, Iterable)
        ):
            msg = f"{who}: after is a list of nodes and ids, not {show(after)}"
            raise InvalidTaskError(msg, hint="put it in a list: after=[…]")
        inside: dict[str, None] = {}
        outside: list[Any] = []
        tasks = self._tasks
        for entry in after:
            # Most are ids of tasks that are here, or their nodes.
            task = tasks.get(entry) if type(entry) is str else None
            if task is not None:
                inside[cast("str", task.id)] = None
                continue
            ref: Any = Reference(entry) if isinstance(entry, str) else entry
            parent = self._named(ref, who, name, nameable)
            if parent is not None:
                inside[parent] = None
            elif hasattr(ref, "workflow_id") and hasattr(ref, "last"):
                # A run of a workflow means its last tasks.
                outside += ref.last
            elif isinstance(ref, Task) or hasattr(ref, "task_id"):
                outside.append(ref)
            else:
                msg = f"{who}: after has {show(ref)}, which is no node, id or handle"
                hint = "after=[a, *group]" if isinstance(ref, list | tuple) else None
                raise InvalidTaskError(msg, hint=hint)
        return inside, tuple(outside)

    def _named(
        self, ref: Any, who: str, name: str, nameable: Container[str] | None = None
    ) -> str | None:
        """
        Return the id of the task of this workflow that *ref* means, or None.

        Raises:
            InvalidTaskError: It means one of another workflow, or an unknown one.
            CycleError: It means *name*, the task that names it.
        """
        if isinstance(ref, Node):
            if ref.workflow is self:
                return ref.id
            msg = f"{who} needs {ref!r}, which is not of workflow {self.name!r}"
            raise InvalidTaskError(msg, hint=_FOREIGN)
        if isinstance(ref, Reference):
            wanted = ref.task_id
            if wanted == name:
                raise _graph.ring_error((name,))
            if wanted not in (self._tasks if nameable is None else nameable):
                msg = f"{who} needs {self._unknown(wanted)}"
                raise InvalidTaskError(msg, hint="add it first, or mend the name")
            # One text object, which all who name it share.
            task = self._tasks.get(wanted)
            return wanted if task is None else task.id
        if isinstance(ref, Task):
            if id(ref) in self._added:
                return self._added[id(ref)][1]
            if submitted_as(ref) is None:
                msg = f"{who} needs {show(ref)}, which was not added"
                hint = "name the node that wf.add(task) returns"
                raise InvalidTaskError(msg, hint=hint)
        return None

    def _group(self, step: object) -> list[str]:
        items = step if isinstance(step, list | tuple) else [step]
        names: list[str] = []
        for item in items:
            ref = Reference(item) if isinstance(item, str) else item
            name = self._named(ref, f"a chain of workflow {self.name!r}", "")
            if name is None:
                msg = f"a chain has {show(item)}, which is no node and no id"
                raise InvalidTaskError(msg, hint="wf.chain(a, [b, c], d)")
            names.append(name)
        return names

    def _name_of(self, task: Task) -> str:
        """Return the id that an added task gets."""
        if task.id is None:
            return _names.unused(_names.stem_of(task), self._tasks, self._counts)
        name = check_task_id(task.id)
        if name in self._tasks:
            raise self._duplicate(name)
        return name

    def _unknown(self, task_id: object) -> str:
        near = guess(task_id, self._tasks) if isinstance(task_id, str) else ""
        return f"{show(task_id)}, which workflow {self.name!r} does not have{near}"

    def _duplicate(self, name: str) -> DuplicateTaskError:
        msg = f"workflow {self.name!r} has a task {name!r} already"
        return DuplicateTaskError(msg, hint="choose another id", task_id=name)


def _is_gate(task: Task) -> bool:
    """Return whether *task* is the gate or the approval of an included phase."""
    payload = task.payload
    return (isinstance(payload, Call) and payload.fn is _steps.gate) or isinstance(
        payload, Wait
    )


def _refuse_hidden(payload: object, who: str) -> None:
    """
    Refuse a node in the payload of a task that is no call: a worker would get it.

    Raises:
        InvalidTaskError: There is one.
    """
    for item in references((payload,)):
        if isinstance(item, Node):
            msg = f"{who}: its payload has {item!r}, as it is"
            hint = "name it in after=, and read its result from context.results"
            raise InvalidTaskError(msg, hint=hint)


def drafts_of(workflow: Workflow, run_id: str) -> Drafts:
    """Return *workflow* as it is submitted for a run."""
    workflow._refuse_unknown()
    parents = workflow._dependencies.shared()
    special: dict[str, Task] = {}
    for name, task in workflow._tasks.items():
        if name in workflow._limits or task.after or refers(task) or is_approval(task):
            waits = ids_in_run(run_id, parents[name])
            special[name] = workflow._submitted(name, run_id, (*waits, *task.after))
    # Mostly no parent is added, and then the same mapping need not be copied.
    tasks = {**workflow._tasks, **special} if special else workflow._tasks
    return Drafts(tasks, parents, bool(workflow._limits))
