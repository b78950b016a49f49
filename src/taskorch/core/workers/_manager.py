"""
Workers that live elsewhere: `orch.agents`.

Decision: workers-elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, overload

from taskorch.core.engine import (
    WorkerRunner,
)
from taskorch.core.kernel import GOING
from taskorch.core.workers._late_ends import LateEnds
from taskorch.errors import (
    InvalidTaskError,
    InvalidTransitionError,
    UnknownAgentError,
)
from taskorch.kit.checks import built_in, check_count, check_seconds
from taskorch.kit.verbs import NAME, OBJECT, verb
from taskorch.kit.visible import as_text, show
from taskorch.model import (
    CODING_TYPES,
    Agent,
    AgentHealth,
    AgentInstance,
    AgentMatch,
    AgentTemplate,
    Breaker,
    Program,
    Resources,
    ScalingDecision,
    check_breaker,
    check_capabilities,
    check_labels,
    levels_of,
)
from taskorch.model.ids import check_id
from taskorch.protocols import AttemptExecutor

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import WorkerRow
    from taskorch.policies import AgentPool

__all__ = ("WorkerManager",)

#: Tasks and numbers of attempts: `WorkerManager.list` hides the class of that name.
_Attempts: TypeAlias = list[tuple[str, int]]
_Instances: TypeAlias = list[AgentInstance]


class Spawning(Protocol):
    """What knows the workers, and starts those of templates: `spawned`."""

    #: The pool of each template that has one.
    pools: dict[str, AgentPool]

    def template(self, template: AgentTemplate) -> AgentTemplate:
        """Keep a template; it replaces one of the same name."""
        ...

    def template_named(self, name: str) -> AgentTemplate:
        """Return a template."""
        ...

    def spawn(self, name: str, config: Mapping[str, Any]) -> Any:
        """Start a worker; return what has its id."""
        ...

    def provision(
        self, requirements: Iterable[str], need: Resources
    ) -> AgentInstance | None:
        """Return a worker that meets the needs, or start one, or note why not."""
        ...

    def decisions(self, template: str | None) -> tuple[ScalingDecision, ...]:
        """Return the latest decisions of a pool, or of all."""
        ...

    def terminate(self, agent_id: str, grace: float) -> None:
        """Let a worker go; what runs has *grace* seconds."""
        ...

    def row(self, agent_id: str) -> WorkerRow | None:
        """Return the kernel's record of a worker; None while it starts."""
        ...

    def all(self) -> _Instances:
        """Return all workers, the oldest first."""
        ...

    def instance(self, agent_id: str) -> AgentInstance:
        """Return one worker."""
        ...

    def wanted(self, requirements: Iterable[str]) -> dict[str, int]:
        """Return the level that each capability must have."""
        ...

    def match(
        self,
        wanted: Mapping[str, int],
        type: str | None,  # noqa: A002 - as tasks have it
    ) -> Iterable[AgentMatch]:
        """Return all workers, those that lack nothing first."""
        ...


#: Stands for a breaker that was not given.
_DEFAULT_BREAKER: Final = Breaker()


class WorkerManager:
    """
    Manager of workers, `orch.agents`: spawns them, watches them, and lets others join.

    A worker in another process, or on another machine, joins by itself. Its executor
    exchanges the messages with it, and reports them here. A worker that is silent for
    its lease is lost: its attempts are made again. A result that it brings later is
    stored, but does not count.
    """

    def __init__(
        self,
        # Any: the public type does not drag the runtime along.
        runtime: Any,
        orchestrator: Any = None,
    ) -> None:
        self._rt: Runtime = runtime
        self._late = LateEnds(runtime)
        self._orch = orchestrator

    # -- workers that are spawned here ----------------------------------------------

    def template(
        self,
        name: str,
        *,
        kind: str = "utility",
        executor: str = "auto",
        capabilities: Mapping[str, int] | Iterable[str] = (),
        affinities: Mapping[str, float] | None = None,
        handler: Callable[..., Any] | None = None,
        start: Iterable[str] = (),
        max_concurrency: int | None = 1,
        capacity: Resources | Mapping[str, Any] | None = None,
        request: Resources | Mapping[str, float] | None = None,
        breaker: Breaker | None = _DEFAULT_BREAKER,
        spawn_timeout: float = 30.0,
        names: str = "{type}-{number}",
    ) -> AgentTemplate:
        """
        Define how `spawn` makes workers of a type. See `AgentTemplate`.

        It replaces a template of the same name, for workers that are spawned later.

        Args:
            name: The type.
            kind: A label for people: `code`, `test`, `review`, `document`, `utility` or
                `hybrid`.
            executor: As for `orch.agent`; or `lines` or `service`.
            capabilities: The capabilities of the workers: names, or names with levels.
            affinities: Types of tasks that suit them better, each with a weight.
            handler: `handler(task, context)`, if no command does the work.
            start: The command, if one does; `{id}` in it is the id of the worker.
            max_concurrency: Attempts that each runs at once; None is without limit.
            capacity: The capacity of each worker; None names nothing.
            request: The resources of a task that requests none.
            breaker: When a failing worker gets no more work; by default as `Breaker()`;
                None: never.
            spawn_timeout: Seconds in which one that is started has to join.
            names: How ids are made for workers without one.

        Raises:
            InvalidTaskError: An argument is invalid, or two contradict each other.
        """
        if isinstance(start, str):
            msg = f"template {name!r}: start is a list of arguments, not one text"
            raise InvalidTaskError(msg, hint=f"start={start.split()}")
        has = None
        if capacity is not None:
            has = Resources.of(capacity, "capacity", named=True)
            if has.unit_names:
                msg = f"template {name!r}: all its workers would have the same units"
                hint = f"spawn({name!r}, {{'capacity': …}}) names those of each"
                raise InvalidTaskError(msg, hint=hint)
        template = AgentTemplate(
            name,
            kind,
            executor,
            levels_of(capabilities),
            dict(affinities or {}),
            handler,
            tuple(start),
            max_concurrency,
            has,
            None if request is None else Resources.of(request, "request"),
            Breaker() if breaker is _DEFAULT_BREAKER else breaker,
            spawn_timeout,
            names,
        )
        return self._fleet.template(template)

    def coding(
        self,
        /,
        runner: str | Iterable[str] | None = None,
        *,
        folder: str | PathLike[str] = ".",
        types: Iterable[str] = CODING_TYPES,
        instructions: Mapping[str, str] | None = None,
        arguments: Iterable[str] = (),
        reuse: bool = False,
        worktree: bool = False,
        **options: Any,
    ) -> tuple[AgentTemplate, ...]:
        """
        Make templates of coding agents for a folder: `code`, `test`, …; see `template`.

        Each has the capability of its name. The payload of a task is a text, or a
        mapping with `prompt` and `files`. Its result: `runner`, `folder`, `output` (64
        KiB at most), `changed` (files, committed or not, that differ from before the
        first attempt; None: git does not say; no ignored ones; those of others, too; a
        submodule is one), `refused` (tools, as `claude` and kept runners say), `branch`
        with *worktree*, or the commit; without *reuse* also `spent` (`tokens`, `usd`),
        and `exit_code`, `log`, `enforced`, `unenforced` of a program.

        Args:
            runner: `aider`, `claude`, `codex`, `gemini` or `goose`, or a command, which
                reads its task from standard input, or from `{task_file}`. None: the
                first of these that is on the PATH.
            folder: The folder in which they work.
            types: Which templates are made.
            instructions: Other ones than ours, by type.
            arguments: More arguments for the runner, such as a model.
            reuse: Whether a worker keeps one runner for all of its tasks: `gemini`,
                `goose`, or a command that speaks the Agent Client Protocol. Each task
                is a session of its own.
            worktree: Whether each task gets a git worktree beside the project, on the
                branch `taskorch/TASK`. It stays; nothing is committed.
            options: `enforce`, `env`, `inherit_env`, `limits`, `network`, `reads` and
                `writes` of `Program`; by default, a runner inherits all variables.

        Raises:
            InvalidTaskError: The runner is not installed, or cannot be kept; or an
                argument is not what it says.
        """
        coding = built_in("coding._coding", "orch.agents.coding()")
        templates = coding.coding_templates(
            runner,
            folder=folder,
            types=types,
            instructions=instructions,
            arguments=arguments,
            reuse=reuse,
            worktree=worktree,
            options=options,
        )
        return tuple(map(self._fleet.template, templates))

    @verb(
        "Start a worker of a template.",
        "journal",
        "POST /agents",
        operation="spawn_agent",
        status=201,
        refuses=(422,),
        forms={"type": NAME, "config": OBJECT},
        command="agents spawn TEMPLATE: start a worker of a template",
        needs="administer",
    )
    def spawn(
        self,
        type: str,  # noqa: A002 - as templates have it
        config: Mapping[str, Any] | None = None,
    ) -> AgentInstance:
        """
        Start a worker of a template.

        Args:
            type: The name of the template. Without one of that name, `code`, `test`,
                `review` and `document` are those of `coding()`, for our folder.
            config: Values that replace those of the template: `id`, `max_concurrency`,
                `capabilities`, `capacity`, `request`. Without an id, `names` makes it.

        Raises:
            InvalidTaskError: There is no such template, or it was given up because its
                workers fail; or the id is taken, a key is unknown, or the command
                cannot be started.
        """
        return self._fleet.instance(self._fleet.spawn(type, config or {}).id)

    @verb(
        "End a worker, at the latest after `grace` s.",
        "journal",
        "POST /agents/{agent_id}/terminate",
        operation="terminate_agent",
        gives="agent_id",
        status=202,
        refuses=(404, 409, 422),
        forms={"grace": {"type": "number", "minimum": 0}},
        command="agents terminate AGENT: let a worker go, for good",
        is_final=True,
        needs="administer",
        preview="end_of_worker",
    )
    def terminate(self, agent_id: str, grace: float = 30.0) -> None:
        """
        Stop a worker: it gets no new work, and leaves once it has none.

        After *grace* seconds it leaves in any case: its running tasks begin anew
        elsewhere, unless they must not run twice.

        Args:
            agent_id: Its id.
            grace: Seconds that it has to end its work.

        Raises:
            UnknownAgentError: There is none of this id.
        """
        check_seconds("grace", grace)
        self._fleet.terminate(agent_id, grace)

    @verb(
        "Drain a worker: it ends its attempts and gets no new work; or undo that.",
        "journal",
        "POST /agents/{agent_id}/drain",
        operation="drain_agent",
        gives="changed",
        refuses=(404, 409),
        remote={"reason": "drained over HTTP"},
        command="agents drain AGENT: give a worker nothing new",
    )
    def drain(
        self, agent_id: str, reason: str = "it is drained", *, on: bool = True
    ) -> bool:
        """
        Give a worker no new work while it ends its tasks; or give it work again.

        With a journal, this holds after a restart, too.

        Args:
            agent_id: Its id.
            reason: Why: `explain` says it.
            on: False: it gets work again.

        Returns: Whether that is a change.

        Raises:
            UnknownAgentError: There is none of this id, or it has not joined yet.
            InvalidTransitionError: It was terminated, and is to go.
        """
        rt = self._rt
        row = self._fleet.row(agent_id)
        if row is not None and row.draining == GOING:
            msg = f"worker {agent_id!r} was terminated, and goes when it has no work"
            raise InvalidTransitionError(msg, hint="spawn another one")
        if row is None:
            msg = f"worker {agent_id!r} has not joined yet"
            raise UnknownAgentError(msg, hint="orch.agents.terminate(…) ends it")
        why = (str(reason).strip() or "it is drained") if on else ""
        drained: bool = rt.step(lambda now: rt.kernel.drain(agent_id, why, now))
        return drained

    @verb(
        "All workers, the oldest first.",
        "journal",
        "GET /agents",
        operation="agents",
        gives="agents",
        command="agents list: show all workers",
    )
    def list(self) -> Sequence[AgentInstance]:
        """Return all workers, in the order in which they came."""
        return self._fleet.all()

    @verb(
        "A worker, its performance and resources.",
        "journal",
        "GET /agents/{agent_id}",
        operation="agent",
        refuses=(404,),
        command="agents show AGENT: show all about a worker",
    )
    def get(self, agent_id: str) -> AgentInstance:
        """
        Return the present state of one worker.

        Raises:
            UnknownAgentError: There is none of this id.
        """
        return self._fleet.instance(agent_id)

    @overload
    def health(self, agent_id: None = None) -> dict[str, AgentHealth]: ...

    @overload
    def health(self, agent_id: str) -> AgentHealth: ...

    def health(
        self, agent_id: str | None = None
    ) -> AgentHealth | dict[str, AgentHealth]:
        """
        Return the health of a worker; or of all workers, by id.

        Raises:
            UnknownAgentError: There is none of this id.
        """
        if agent_id is not None:
            return self._fleet.instance(agent_id).health
        return {one.id: one.health for one in self._fleet.all()}

    @verb(
        "Workers that meet requirements, and why others do not.",
        "journal",
        "POST /agent-matches",
        operation="match_agents",
        gives="matches",
        refuses=(422,),
        forms={"type": NAME},
        command="agents match CAPABILITY...: show which workers have all of these",
        needs="look",
    )
    def match(
        self,
        requirements: Iterable[str],
        *,
        type: str | None = None,  # noqa: A002 - as tasks have it
    ) -> tuple[AgentMatch, ...]:
        """
        Rank all workers: those that meet the requirements and get work come first.

        Args:
            requirements: Capabilities: `[Capability("test", level=2)]`, or names.
            type: A type of task, for which affinities count.

        Returns:
            The matching workers by affinity, success and free slots, then the others.
            Each has the reason for its place.
        """
        return tuple(self._fleet.match(self._fleet.wanted(requirements), type))

    # -- pools of workers -----------------------------------------------------------

    def pool(
        self,
        type: str,  # noqa: A002 - as templates have it
        *,
        min_agents: int = 0,
        max_agents: int = 1,
        scale_up_threshold: float = 0.8,
        scale_down_threshold: float = 0.3,
        settle: float = 300.0,
        interval: float = 10.0,
        wait: float = 10.0,
        foresee: str | None = None,
        promise: float | None = None,
    ) -> AgentPool:
        """
        Keep as many workers of a template as there is work for: see `AgentPool`.

        Raises:
            InvalidTaskError: There is no such template, or a pool of it already; or the
                numbers contradict each other.
        """
        from taskorch.policies import AgentPool  # noqa: PLC0415 - when needed

        fleet = self._fleet
        template = fleet.template_named(type)
        if fleet.pools.get(type) is not None and (
            fleet.pools[type].name in self._orch.drivers.list()
        ):
            msg = f"there is a pool of workers {type!r} already: {fleet.pools[type]}"
            hint = f"orch.drivers.remove('pool/{type}') ends it; its workers stay"
            raise InvalidTaskError(msg, hint=hint)
        pool = AgentPool(
            template,
            min_agents=min_agents,
            max_agents=max_agents,
            scale_up_threshold=scale_up_threshold,
            scale_down_threshold=scale_down_threshold,
            settle=settle,
            interval=interval,
            wait=wait,
            foresee=foresee,
            promise=promise,
        )
        self._orch.drivers.add(pool)
        fleet.pools[type] = pool
        return pool

    def provision_new_agent(
        self,
        requirements: Iterable[str],
        resources: Resources | Mapping[str, float] | None = None,
    ) -> AgentInstance | None:
        """
        Spawn a worker that meets the requirements, unless there is one.

        A pool does it by itself, for tasks that wait (`unknown_capability="wait"`).

        Args:
            requirements: The capabilities, with levels or without.
            resources: The amounts that it must have free: `{"memory_mb": 512}`.

        Returns:
            The worker that was found or spawned; None: `explain_scaling` says why.

        Raises:
            InvalidTaskError: A level or an amount is invalid.
        """
        need = Resources.of(resources or {}, "resources")
        return self._fleet.provision(requirements, need)

    @verb(
        "Decisions of worker pools, and why.",
        "journal",
        "GET /scaling",
        gives="decisions",
        refuses=(422,),
        forms={"type": NAME},
        command="agents scaling TEMPLATE: show what worker pools decided, and why",
    )
    def explain_scaling(
        self,
        type: str | None = None,  # noqa: A002 - as templates have it
    ) -> tuple[ScalingDecision, ...]:
        """
        Return the latest decisions of all pools or one, with reasons, oldest first.

        Args:
            type: The template of a pool; None is all.

        Raises:
            InvalidTaskError: There is no pool of this template.
        """
        return self._fleet.decisions(type)

    @property
    def _fleet(self) -> Spawning:
        rt = self._rt
        if rt.fleet is None:
            spawned = built_in("spawned._spawned", "a template of workers")
            workers = spawned.SpawnedWorkers(rt, self._orch)
            rt.fleet = rt.first_made.setdefault("agents", workers)
        fleet: Spawning = rt.fleet
        return fleet

    # -- workers that join by themselves --------------------------------------------

    def join(self, agent: Agent, executor: AttemptExecutor[Any]) -> None:
        """
        Add a worker that has come or has restarted: it gets work from now on.

        It also gets programs that need one of its capabilities (`Task.program(…,
        requires=…)`). Attempts that it had before are lost.

        Args:
            agent: Its description, with a lease.
            executor: The executor that begins and stops its attempts, mostly by
                messages.

        Raises:
            InvalidTaskError: The name is taken by a worker that is there, or it has no
                lease, or another value that can never work.
        """
        _check_joining(agent, executor)
        if self._rt.fleet is not None:
            agent = self._rt.fleet.joining(agent)
        self._rt.add_worker(agent, WorkerRunner(agent.name, _no_handler, executor))

    def beat(
        self,
        name: str,
        attempts: Iterable[tuple[str, int]],
        *,
        round_trip: float | None = None,
    ) -> _Attempts:
        """
        Record a sign of life of a worker.

        Args:
            name: Its name.
            attempts: The attempts of this incarnation that it runs or that are on their
                way to it, as ids of tasks and numbers of attempts. An attempt that it
                has not named for a whole lease is made again.
            round_trip: The round-trip time of its latest sign of life in seconds, by
                its own measurement; None: unknown.

        Returns:
            The attempts among them that no longer count: it should stop them.

        Raises:
            UnknownAgentError: No worker of this name, with a lease, has joined.
        """
        rt = self._rt
        self._check(name)
        named = list(attempts)

        def change(now: int) -> _Attempts:
            every = [*named, *_kept_here(rt, name)]
            return rt.kernel.beat(name, every, now, round_trip)

        asked = frozenset(named)
        abandoned: _Attempts = rt.step(change)
        return [attempt for attempt in abandoned if attempt in asked]

    def leave(self, name: str, unbegun: Collection[tuple[str, int]] = ()) -> bool:
        """
        Remove a worker that leaves; its unfinished attempts are made again.

        Args:
            name: Its name.
            unbegun: The attempts that it never began, in the form of `beat`. They are
                made again even if they must not run twice.

        Returns:
            Whether it had joined; False if it counted as lost.

        Raises:
            UnknownAgentError: No worker of this name, with a lease, has joined.
        """
        rt = self._rt
        self._check(name)
        never = frozenset(unbegun)
        was_there: bool = rt.step(lambda now: rt.kernel.leave(name, never, now))
        return was_there

    def is_lost(self, name: str) -> bool:
        """
        Return whether a worker is lost: it was silent for its lease, or has left.

        Raises:
            UnknownAgentError: No worker of this name, with a lease, has joined.
        """
        self._check(name)
        return self._rt.kernel.workers[name].lost

    def keep(self) -> None:
        """
        Wait until the journal, if there is one, holds all reports so far.

        After that, a worker may forget the attempts that it has ended.

        Raises:
            JournalUnavailableError: The journal cannot be written: it is unknown what
            it holds.
        """
        self._rt.step(lambda _now: None, keep=True)

    def bring_late(
        self,
        task_id: str,
        fence: tuple[int, int],
        value: Any = None,
        error: BaseException | None = None,
        *,
        agent: str,
        judged: bool = False,
    ) -> bool:
        """
        Take the end of an attempt of an earlier incarnation, from its worker.

        A result completes its task, unless the task has ended since, or runs in this
        process; another worker's attempt is stopped. Any other end changes nothing: it
        stands in `TaskStatus.late_results` and in a `LateResultIgnored` event.

        The error of an attempt that is *judged* counts as well, unless its task has
        ended since, or was begun again.

        Args:
            task_id: The id of its task.
            fence: Its incarnation and number, as `Attempt.fence`.
            value: The returned value.
            error: The error that it raised.
            agent: The name of the worker that made it.
            judged: Whether this end is that of the task itself, even if its worker only
                ran a program for it.

        Returns:
            Whether it counts.

        Raises:
            InvalidTaskError: It is of this incarnation, or the worker never had the
                task.
            UnknownTaskError: No task has this id.
        """
        return self._late.bring(
            task_id, fence, value, error, worker=agent, judged=judged
        )

    def awaits_end(self, task_id: str, fence: tuple[int, int], agent: str) -> bool:
        """
        Return whether the end of an attempt of an earlier incarnation is still unknown.

        Its task was not begun again, so its worker may still bring the end: see
        `bring_late`.

        Args:
            task_id: The id of a task.
            fence: The incarnation and number of the attempt, as `Attempt.fence`.
            agent: The name of the worker that made it.

        Raises:
            UnknownTaskError: No task has this id.
        """
        return self._late.is_awaited(task_id, fence, agent)

    def check_made(self, task_id: str, fence: tuple[int, int], agent: str) -> None:
        """
        Refuse an attempt that this worker has not made in an earlier incarnation.

        Args:
            task_id: The id of a task.
            fence: The incarnation and number of an attempt, as `Attempt.fence`.
            agent: The name of the worker.

        Raises:
            InvalidTaskError: It is of this incarnation, or the worker never had the
                task.
            UnknownTaskError: No task has this id.
        """
        self._late.check(task_id, fence, agent)

    def program_of(self, task_id: str) -> Program | None:
        """
        The program that a task is, if it is one and has not left memory.

        Raises:
            UnknownTaskError: No task has this id.
        """
        return self._late.program_of(task_id)

    def _check(self, name: str) -> None:
        row = self._rt.kernel.workers.get(as_text(name))
        if row is None or not row.lease_ns or name not in self._rt.runners:
            msg = f"no worker elsewhere has joined by the name {show(name)}"
            raise UnknownAgentError(msg, hint="orch.agents.join(…)")


def _no_handler(_task: object, _context: object) -> None:
    """Do nothing: a worker elsewhere does its tasks elsewhere."""


def _check_joining(worker: Agent, executor: object) -> None:
    """
    Refuse a worker that could never work, or whose loss could not be noticed.

    Raises:
        InvalidTaskError: It is such a worker.
    """
    check_id(worker.name)
    check_capabilities(worker.capabilities)
    if worker.lease is None:
        msg = f"worker {worker.name!r} has no lease: it could not be missed"
        raise InvalidTaskError(msg, hint="Agent(…, lease=15)")
    check_seconds("lease", worker.lease, zero=False)
    if worker.max_concurrency is not None:
        check_count("max_concurrency", worker.max_concurrency, least=1)
    if not isinstance(executor, AttemptExecutor):
        msg = f"an AttemptExecutor is needed, not {show(executor)}"
        raise InvalidTaskError(msg)
    check_breaker(worker.breaker)
    check_labels(worker.labels)


def _kept_here(rt: Runtime, name: str) -> _Attempts:
    """Attempts that a worker cannot know of: their start is not kept yet, or mended."""
    held = [] if rt.committer is None else rt.committer.held_back.on(name)
    if rt.strategies is not None:
        for (task_id, number), row in list(rt.strategies.mending.items()):
            if row.worker is not None and row.worker.name == name:
                held.append((task_id, number))
    return held
