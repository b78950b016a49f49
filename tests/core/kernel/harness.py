"""A kernel in virtual time: policies that say what a test wants, and a driver."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import attrs
from tests.core.kernel.commands import (
    AddParents,
    Allocate,
    CancelTask,
    ChangeOptions,
    ChangePools,
    ChangeQuotas,
    Command,
    DecideTask,
    EmitEvent,
    EndAttempt,
    ExpireTasks,
    ReachCheckpoint,
    ReleaseAllocation,
    ResumeTask,
    SetPriority,
    SubmitTask,
    SuspendTask,
    handle,
)

from taskorch.core.kernel import (
    LOCAL,
    Again,
    Effect,
    Kernel,
    KernelConfig,
    PolicyFault,
    Ruling,
    Share,
    Spec,
    TaskRow,
    Terms,
    WorkerRow,
    check_invariants,
    differences,
    explain,
    fold,
    recover,
    refuse_rerun,
)
from taskorch.core.kernel._queue import LEASE, is_alive
from taskorch.core.kernel._rates import of_kernel
from taskorch.core.kernel._rows import RateRow, RowExtra
from taskorch.events import CATALOGUE, Event, defaults_of
from taskorch.model import (
    Agent,
    Explanation,
    NamedUnits,
    Quota,
    Resources,
    TaskState,
    Units,
    elasticity_of,
)

S = TaskState
#: A second.
SEC = 1_000_000_000
AGING = 60 * SEC
#: Join and what follows a failure, where nothing is said.
USUAL = ("all", "block")


class Only:
    """Hits the points of these names, and counts all."""

    def __init__(self, names):
        self.names = names
        self.seen = Counter()

    def hit(self, name):
        self.seen[name] += 1
        return name in self.names


class Policies:
    """The seven, as the kernel asks them; a test changes what it needs."""

    def __init__(
        self, *, rigid: bool = False, ranks: bool = False, backfills: bool = False
    ) -> None:
        self.kernel: Kernel
        self.backfills = backfills
        #: How long tasks are expected to take, in seconds.
        self.lengths: dict[str, float] = {}
        self.length: Callable[[TaskRow], float | None] = lambda row: self.lengths.get(
            row.id
        )
        #: Whether owners are ranked.
        self.ranks = ranks
        self.learns = False
        self.aging_ns: int | None = AGING
        self.admits_all = True
        self.max_age_ns: int | None = None
        self.watches: frozenset[tuple[TaskState | None, TaskState]] | None = frozenset()
        self.rigid = rigid
        #: Components that raise.
        self.broken: set[str] = set()
        self.keeps_match = True
        self.keeps_route = True
        self.keeps_alloc = True
        #: Delays before the next attempts, by task; an empty list fails.
        self.delays: dict[str, list[int]] = {}
        self.elapsed: list[int] = []
        #: What rules say of starts, by task.
        self.rulings: dict[str, Ruling] = {}
        #: What the retry handler answers next, by task; and what was changed by it.
        self.chosen: dict[str, Again] = {}
        self.changes: list[tuple[str, Any]] = []
        #: Transitions that are vetoed: `(task id, after)`.
        self.vetoes: dict[tuple[str, TaskState], str] = {}
        self.refuses: Callable[[TaskRow, WorkerRow], str | None] = lambda row, worker: (
            None
        )
        #: What share of a request is granted.
        self.grants: Callable[[TaskRow, Units], Units] = lambda row, request: request
        self.admits: Callable[[TaskRow], tuple[str | None, int | None]] = lambda row: (
            None,
            None,
        )
        self.knows: Callable[[TaskRow, WorkerRow], bool] = lambda row, worker: all(
            need in worker.info.capabilities for need in row.bucket.spec.requires or ()
        )
        self.key: Callable[[TaskRow, int, int], Any] = lambda row, priority, now: (
            -priority,
            now,
        )
        #: Whether a task may go on, by the states of its parents.
        self.joins: Callable[[str, dict[str, TaskState]], bool] = lambda name, states: (
            any(state is S.FAILED for state in states.values())
        )
        #: Where an owner stands: ann may have twice as much.
        self.ranking: Callable[[Share], float] = lambda share: (
            (share.running + sum(share.held.values()) / 1e6)
            / (2 if share.owner == "ann" else 1)
        )
        self.asked: list[str] = []

    def _ask(self, component: str) -> None:
        self.asked.append(component)
        if component in self.broken:
            raise PolicyFault(component, RuntimeError("it broke"))

    def match(
        self, row: TaskRow, workers: Sequence[WorkerRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        self._ask("registry")
        names = tuple(a.name for a in workers if a.name != LOCAL and self.knows(row, a))
        return names, f"{len(names)} match", self.keeps_match

    def route(
        self, row: TaskRow, candidates: Sequence[WorkerRow], now: int
    ) -> tuple[WorkerRow, str, bool]:
        self._ask("router")
        worker = min(candidates, key=lambda a: a.running)
        return worker, f"first of {len(candidates)}", self.keeps_route

    def order(self, row: TaskRow, priority: int, now: int) -> Any:
        self._ask("queue")
        return self.key(row, priority, now)

    def standing(self, share: Share, now: int) -> float:
        self._ask("standing")
        return self.ranking(share)

    def expected(self, row: TaskRow) -> int | None:
        seconds = self.length(row)
        return None if seconds is None else int(seconds * SEC)

    def admit(self, row: TaskRow, now: int) -> tuple[str | None, int | None]:
        self._ask("admission")
        return self.admits(row)

    def check(
        self,
        row: TaskRow,
        before: TaskState | None,
        after: TaskState,
        reason: str,
        now: int,
    ) -> str | None:
        self._ask("state_machine")
        return self.vetoes.get((row.id, after))

    def is_judged(self, task_type: str) -> bool:
        return True

    def judge(self, row: TaskRow, now: int) -> Ruling:
        return self.rulings.get(row.id, Ruling())

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        self._ask("retry_handler")
        self.elapsed.append(elapsed_ns)
        if row.id in self.chosen:
            return self.chosen.pop(row.id)
        delays = self.delays.get(row.id, [])
        if not delays:
            return Again(retry=False, reason="no more attempts")
        return Again(retry=True, delay_ns=delays.pop(0), reason="once more")

    def changed(self, row: TaskRow, answer: Again) -> None:
        self.changes.append((row.id, answer.cargo))

    def join(self, row: TaskRow, states: dict[str, TaskState], now: int) -> bool:
        self._ask("join")
        return self.joins(row.id, states)

    def allocate(
        self, row: TaskRow, worker: WorkerRow, request: Units, now: int
    ) -> tuple[Units | None, str, bool]:
        self._ask("allocator")
        refusal = self.refuses(row, worker)
        if refusal is not None:
            return None, refusal, False
        wants = self.grants(row, request)
        for name, units in wants:
            pool = self.kernel.pools[name]
            if pool.total - pool.used < units:
                return None, f"{name} is short", False
        return wants, "free", self.keeps_alloc and not request


class Nobody(Policies):
    """For a kernel that decides nothing: a fold."""

    def _ask(self, component: str) -> None:
        msg = f"the {component} was asked"
        raise AssertionError(msg)


class Machine:
    """Drives a kernel; after every command, everything is counted again."""

    def __init__(
        self,
        *,
        policies: Policies | None = None,
        pools: Resources | None = None,
        listening: bool = True,
        kernel: type[Kernel] = Kernel,
        **config: Any,
    ) -> None:
        self.policies = policies or Policies()
        #: What there is before the first event.
        self.pools = () if pools is None else pools.units
        settings = KernelConfig(**config)
        self.kernel = kernel(settings, self.policies, Random(7), self.pools)
        self.policies.kernel = self.kernel
        self.now = SEC
        self.sink: list[tuple[tuple[Any, ...], Any]] = []
        if listening:
            self.kernel.listen(self.sink, frozenset(CATALOGUE))
        self.worker(LOCAL)
        self.kernel.unpause()
        #: Every attempt that was started, and every other effect, in order.
        self.started: list[tuple[str, int]] = []
        self.effects: list[Effect] = []

    # -- commands ------------------------------------------------------------------

    def do(self, *commands: Command) -> list[str]:
        """Handle *commands*; ids of the tasks that started."""
        try:
            starts, effects = handle(self.kernel, commands, self.now)
        finally:
            check_invariants(self.kernel)
        self.effects += effects
        self.started += [(row.id, row.attempt) for row in starts]
        for row in starts:
            self.check_start(row)
        return [row.id for row in starts]

    def check_start(self, row: TaskRow) -> None:
        assert row.state is S.RUNNING
        assert row.bucket.workers_version < 0 or row.worker in row.bucket.matching

    def settle(self) -> list[str]:
        """Let start what can start."""
        return self.do()

    def at(self, now: int) -> list[str]:
        """Go to a time, by way of everything that is due before."""
        found = []
        while (due := self.kernel.next_due()) is not None and due <= now:
            self.now = max(self.now, due)
            found += self.do()
        self.now = now
        return found + self.do()

    def after(self, ns: int) -> list[str]:
        """Let time pass."""
        return self.at(self.now + ns)

    def worker(self, name: str, *capabilities: str, **options: Any) -> WorkerRow:
        """A worker joins."""
        info = Agent(name, capabilities=tuple(sorted(capabilities)), **options)
        row = self.kernel.add_worker(info, self.now)
        check_invariants(self.kernel)
        return row

    def submit(
        self,
        task_id: str,
        *,
        after: Iterable[str] = (),
        priority: int = 0,
        not_before: int | None = None,
        deadline: int | None = None,
        cargo: Any = None,
        join: str | int = "all",
        on_failure: str = "block",
        wait: tuple[str | None, int | None, bool] | None = None,
        remind: int = 0,
        **spec: Any,
    ) -> list[str]:
        """Submit a task; ids of what starts."""
        spec.setdefault("type", "call")
        terms = None
        if wait is not None or (join, on_failure) != USUAL:
            terms = Terms(join, on_failure, wait=wait, remind_ns=remind)
        if "resources" in spec:
            spec["elastic"] = elasticity_of(spec["resources"])
            spec["resources"] = spec["resources"].units
        return self.do(
            SubmitTask(
                task_id,
                Spec(**spec),
                cargo=cargo,
                priority=priority,
                after=tuple(after),
                not_before_ns=not_before,
                deadline_ns=deadline,
                terms=terms,
            )
        )

    def submit_all(self, *ids: str, **options: Any) -> list[str]:
        """Submit tasks that are alike."""
        return [started for name in ids for started in self.submit(name, **options)]

    def end(
        self,
        task_id: str,
        outcome: str = "completed",
        *,
        attempt: int | None = None,
        error: BaseException | None = None,
        usage: Units = (),
    ) -> list[str]:
        """An attempt ends; ids of what starts."""
        number = self.row(task_id).attempt if attempt is None else attempt
        row = self.kernel.tasks.get(task_id)
        if outcome == "completed" and row is not None and not usage:
            # As the runtime does it.
            self.kernel.tick(self.now)
            self.kernel.complete(row, number, self.now)
            check_invariants(self.kernel)
            return self.do()
        if outcome in ("failed", "lost") and error is None:
            error = ValueError("it went wrong")
        return self.do(EndAttempt(task_id, number, outcome, error, usage=usage))

    def fail(self, task_id: str) -> list[str]:
        """An attempt fails."""
        return self.end(task_id, "failed")

    def checkpoint(self, task_id: str, attempt: int = 0) -> list[str]:
        """A running attempt is at a checkpoint; ids of what starts."""
        return self.do(ReachCheckpoint(task_id, attempt or self.row(task_id).attempt))

    def cancel(self, task_id: str) -> list[str]:
        return self.do(CancelTask(task_id, "called off"))

    def add_parents(self, task_id: str, *after: str) -> list[str]:
        return self.do(AddParents(task_id, after))

    def suspend(self, task_id: str, *, holdable: bool = False) -> list[str]:
        return self.do(SuspendTask(task_id, holdable))

    def resume(self, task_id: str) -> list[str]:
        return self.do(ResumeTask(task_id))

    def prioritise(self, task_id: str, priority: int) -> list[str]:
        return self.do(SetPriority(task_id, priority))

    def change(
        self,
        task_id: str,
        *names: str,
        priority: int = 0,
        not_before: int | None = None,
        deadline: int | None = None,
        **spec: Any,
    ) -> list[str]:
        """A task has other options, those of *names*; ids of what starts."""
        names = (*names, *spec)
        if "resources" in spec:
            spec["elastic"] = elasticity_of(spec["resources"])
            spec["resources"] = spec["resources"].units
        changed = attrs.evolve(self.row(task_id).bucket.spec, **spec)
        return self.do(
            ChangeOptions(task_id, names, changed, priority, not_before, deadline)
        )

    def decide(self, task_id: str, verdict: str, reason: str = "") -> list[str]:
        return self.do(DecideTask(task_id, verdict, reason))

    def answer(
        self, task_id: str, by: str, choice: str, verdict: str = ""
    ) -> list[str]:
        """Somebody answers a question; ids of what starts."""
        vote = (by, choice, "", None)
        self.kernel.answer([self.row(task_id)], vote, verdict, self.now)
        return self.settle()

    def emit(self, name: str, cargo: Any = None, keep: int = 0) -> list[str]:
        """An event comes from outside; ids of what starts."""
        return self.do(EmitEvent(name, cargo, keep))

    def expire(self, older_than: int) -> list[str]:
        return self.do(ExpireTasks(older_than))

    def change_quotas(self, *quotas: Quota) -> list[str]:
        """Let those who are named have these quotas; ids of what starts."""
        changes = tuple((*quota.subject, quota.limits) for quota in quotas)
        return self.do(ChangeQuotas(changes))

    def change_pools(
        self, *, gone: tuple[str, ...] = (), **totals: float | NamedUnits
    ) -> list[str]:
        """Let there be so much; ids of what starts."""
        said = Resources(**totals)
        units = (*said.units, *((name, 0) for name in said.zeros))
        return self.do(ChangePools(units, gone, said.unit_names))

    def allocate(
        self, allocation_id: str, owner: str = "ann", **amounts: float
    ) -> bool:
        """Take by hand, or wait for it; whether it was granted."""
        self.do(Allocate(allocation_id, owner, Resources(**amounts).units))
        return allocation_id in self.kernel.allocations

    def release(self, allocation_id: str) -> list[str]:
        """Give back what was taken by hand; ids of what starts."""
        return self.do(ReleaseAllocation(allocation_id))

    def beat(self, name: str, *attempts: tuple[str, int]) -> list[tuple[str, int]]:
        """A worker gives a sign of life; what it is to stop."""
        abandoned = self.kernel.beat(name, attempts, self.now)
        self.settle()
        return abandoned

    def rerun(self, task_id: str) -> str:
        """Run a finished task again, and let its dependents wait for that."""
        kernel, row = self.kernel, self.row(task_id)
        number = 2
        # One that has left memory keeps its id.
        while (name := f"{task_id}~{number}") in kernel.tasks or name in kernel.evicted:
            number += 1
        parents = [] if row.links is None else row.links.parents
        terms = None if row.links is None else row.links.terms
        refuse_rerun([row], name, parents)
        again = kernel.submit_general(
            name,
            row.bucket,
            row.cargo,
            self.now,
            parents=parents,
            rerun_of=row,
            terms=None
            if terms is None
            else Terms(terms.join, terms.on_failure, wait=terms.wait),
        )
        kernel.repoint(row, again, self.now)
        self.settle()
        return name

    # -- other incarnations ------------------------------------------------------------

    def folded(
        self, events: int | None = None, policies: Policies | None = None
    ) -> Kernel:
        """Another kernel, to which the first so many events (or all) were told."""
        old = self.kernel
        folding = policies or Nobody(
            ranks=self.policies.ranks, backfills=self.policies.backfills
        )
        kernel = Kernel(old.config, folding, Random(7), self.pools)
        for event, cargo in self.sink[:events]:
            fold(kernel, event, cargo)
        return kernel

    def restart(self) -> None:
        """We die, and begin anew with nothing but the events; all workers are away."""
        epoch = self.kernel.epoch + 1
        asked = len(self.policies.asked)
        self.kernel = self.policies.kernel = self.folded(policies=self.policies)
        assert len(self.policies.asked) == asked
        self.kernel.listen(self.sink, frozenset(CATALOGUE))
        recover(self.kernel, epoch, self.now)
        check_invariants(self.kernel)

    def reopen(self) -> list[str]:
        """All workers join again, and work goes on; ids of what starts."""
        for worker in list(self.kernel.workers.values()):
            self.kernel.add_worker(worker.info, self.now)
        self.kernel.unpause()
        return self.settle()

    # -- questions -----------------------------------------------------------------

    def row(self, task_id: str) -> TaskRow:
        return self.kernel.row(task_id)

    def extra(self, task_id: str) -> RowExtra:
        extra = self.row(task_id).extra
        assert extra is not None
        return extra

    def error(self, task_id: str) -> tuple[str, str, str]:
        error = self.extra(task_id).error
        assert error is not None
        return error

    def worker_of(self, task_id: str) -> str:
        worker = self.row(task_id).worker
        assert worker is not None
        return worker.name

    def state(self, task_id: str) -> TaskState:
        row = self.kernel.tasks.get(task_id)
        state = self.kernel.evicted.get(task_id) if row is None else row.state
        assert state is not None
        return state

    def states(self, *ids: str) -> list[TaskState]:
        return [self.state(name) for name in ids]

    def running(self) -> list[str]:
        return [i for i, row in self.kernel.tasks.items() if row.state is S.RUNNING]

    def why(self, task_id: str) -> Explanation:
        return explain(self.kernel, self.row(task_id), self.now)

    def kinds(self, task_id: str) -> list[str]:
        return [blocker.kind for blocker in self.why(task_id).blockers]

    def told(self, *classes: type[Event]) -> list[tuple[Any, ...]]:
        """The events of *classes*, without class, number and time."""
        return [said_in(event) for event, _ in self.sink if type(event) in classes]

    def names(self) -> list[str]:
        """The names of all events."""
        return [event[0].__name__ for event, _ in self.sink]


class Twin(Machine):
    """A machine whose events are folded, after every command, into a second kernel."""

    shadow: Kernel | None = None
    seen = 0

    def do(self, *commands: Command) -> list[str]:
        try:
            return super().do(*commands)
        finally:
            self.mirror()

    def worker(self, name: str, *capabilities: str, **options: Any) -> WorkerRow:
        row = super().worker(name, *capabilities, **options)
        self.mirror()
        return row

    def restart(self) -> None:
        super().restart()
        self.mirror()

    def mirror(self) -> None:
        """Both kernels are in the same state."""
        if self.shadow is None:
            self.shadow = self.folded(0)
        for event, cargo in self.sink[self.seen :]:
            fold(self.shadow, event, cargo)
        self.seen = len(self.sink)
        assert unlike(self.kernel, self.shadow, self.now) == []
        check_invariants(self.shadow)


def unlike(live: Kernel, folded: Kernel, now: int) -> list[str]:
    """In what two kernels differ; more than `differences` looks at."""
    found = differences(live, folded)
    one, other = _rest_of(live, now), _rest_of(folded, now)
    return found + [f"{k}: {v} and {other[k]}" for k, v in one.items() if v != other[k]]


def _rest_of(kernel: Kernel, now: int) -> dict[str, Any]:
    """What is counted for reports, what leaves memory next, and what is due when."""
    types = {
        name: (*counts, list(r.samples), list(r.failing or ()))
        for name, r in kernel.types.items()
        if any(counts := (r.completed, r.failed, r.cancelled, r.failures))
    }
    due = {
        (when, kind, row.id)
        for when, _, kind, row, _ in filter(is_alive, kernel.timers)
        # What has rung already does nothing; when a worker was heard of is no event.
        if when > now and kind != LEASE and isinstance(row, TaskRow)
    }
    return {
        "types": types,
        "causes": kernel.causes,
        "finished": [row.id for row in kernel.finished],
        "due": sorted(due),
    }


def said_in(event: Event) -> tuple[Any, ...]:
    """The fields of *event* after its time, without those at its end that are as usual."""
    said, usual = list(event[3:]), list(defaults_of(type(event)).values())
    while usual and said and said[-1] == usual.pop():
        said.pop()
    return tuple(said)


def rates_of(kernel: Kernel) -> dict[tuple[str, str], RateRow]:
    """The rates that there are, by whom they are for."""
    rates = of_kernel(kernel)
    return {} if rates is None else rates.by_subject
