"""
What `explain` names is what happens.

In random states of random runs: of a task that waits, all that is named is lifted in a
copy of the kernel, and then it starts; if any part of that is left out, it does not.
"""

from __future__ import annotations

import io
import json
import pickle
from collections import Counter
from collections.abc import Iterable
from random import Random
from types import FunctionType, MappingProxyType
from typing import Any

import pytest
from tests.core.kernel.harness import SEC, Machine, S, rates_of
from tests.core.kernel.random_run import Run

from taskorch.core.kernel import (
    Kernel,
    Search,
    TaskRow,
    Terms,
    _ends as joins,
    _ends as waits,
    _queue as queue,
    explain,
)
from taskorch.core.kernel._application import _forget_delay, due
from taskorch.core.kernel._control import heard
from taskorch.core.kernel._dependencies import awaits, is_broken, is_lost, is_waiting
from taskorch.core.kernel._explain._people import wait_of
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import SCOPE, TOKEN, PoolRow, RetainedEvent
from taskorch.core.kernel._scopes import units_of
from taskorch.events import TaskDue
from taskorch.model import (
    Agent,
    Blocker,
    Explanation,
    Remedy,
)
from taskorch.model.scopes import EVERYTHING

WAITING = (S.PENDING, S.QUEUED, S.RETRYING, S.BLOCKED, S.SUSPENDED)


class _Out(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shared: list[Any], deciders: Any) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.shared = shared
        self.deciders = deciders

    def persistent_id(self, obj: Any) -> int | None:
        if obj is self.deciders or type(obj) in (FunctionType, MappingProxyType):
            self.shared.append(obj)
            return len(self.shared) - 1
        return None


class _In(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: list[Any]) -> None:
        super().__init__(file)
        self.shared = shared

    def persistent_load(self, pid: int) -> Any:
        return self.shared[pid]


class Image:
    """A kernel as it is now, of which copies can be made."""

    def __init__(self, kernel: Kernel, policies: Any) -> None:
        self.shared: list[Any] = []
        file = io.BytesIO()
        sink = kernel.sink
        kernel.sink = None
        _Out(file, self.shared, policies).dump(kernel)
        kernel.sink = sink
        self.bytes = file.getvalue()

    def copy(self) -> Kernel:
        """A copy that tells nobody, and forgets nothing."""
        kernel: Kernel = _In(io.BytesIO(self.bytes), self.shared).load()
        kernel.listen(None, frozenset())
        kernel.starts = []
        kernel.keep = 1_000_000
        return kernel


class Oracle:
    """Asks about one task of a run, and tries the answer out on copies."""

    def __init__(self, run: Run, row: TaskRow) -> None:
        self.run = run
        self.machine: Machine = run.machine
        self.policies = run.machine.policies
        self.id = row.id
        kernel = self.machine.kernel
        self.now = self.machine.now
        self.told: Explanation = explain(kernel, row, self.now, whole=True)
        self.image = Image(kernel, self.policies)
        self.original = kernel

    # -- a copy, and changes to it -------------------------------------------------

    def trial(
        self, blockers: Any, how: str = "pure", less: Blocker | None = None
    ) -> bool:
        """Whether the task starts in a copy in which *blockers* have been lifted."""
        kernel = self.image.copy()
        policies = self.policies
        saved = dict(policies.vetoes), policies.joins, policies.ranking
        machine, self.machine.kernel, policies.kernel = self.machine, kernel, kernel
        row = kernel.row(self.id)
        attempt = row.attempt
        self.again: dict[str, TaskRow] = {}
        # Its turn has come among owners, too.
        policies.ranking = lambda share: share is not row.bucket.share
        try:
            for blocker in sorted(blockers, key=turn):
                self.lift(kernel, row, blocker, how, 1 if blocker is less else 0)
            if row.state not in (S.COMPLETED, S.FAILED, S.CANCELLED, S.RUNNING):
                kernel.set_priority(row, 1_000, self.now)
                # Nor does it come last: a soft quota keeps nobody from running.
                for pool in kernel.pools.values():
                    pool.beyond = 0
                queue.unpark_all(kernel)
                kernel.dispatch(self.now)
            if wait_of(row) is not None:
                # It is no work: it completes.
                kernel.tick(self.now)
                return row.state is S.COMPLETED
            return row.state is S.RUNNING and (
                row.attempt > attempt or self.told.state is S.SUSPENDED
            )
        finally:
            policies.vetoes.clear()
            policies.vetoes.update(saved[0])
            policies.joins, policies.ranking = saved[1:]
            vars(policies).pop("allocate", None)
            vars(policies).pop("match", None)
            machine.kernel = policies.kernel = self.original

    def lift(
        self, kernel: Kernel, row: TaskRow, blocker: Blocker, how: str, less: int
    ) -> None:
        """
        Lift *blocker*, and nothing else; or by its first remedy, if that is *how*.

        Args:
            kernel: The copy.
            row: The task.
            blocker: What keeps it.
            how: `pure` or `remedy`.
            less: By how much less than is needed.
        """
        if how == "remedy" and self.remedy(kernel, row, blocker.remedies[0]):
            return
        books = taken(kernel)
        getattr(self, f"lift_{blocker.kind}")(kernel, row, blocker, less)
        if how == "pure" and blocker.kind == "dependency":
            keep_taken(books)

    def lift_not_started(self, kernel: Kernel, *_: Any) -> None:
        kernel.paused = False

    def lift_suspended(self, kernel: Kernel, row: TaskRow, *_: Any) -> None:
        kernel.resume(row, self.now)

    def lift_decision(self, kernel: Kernel, row: TaskRow, *_: Any) -> None:
        kernel.decide(row, "retry", self.now)

    def lift_delay(self, kernel: Kernel, row: TaskRow, *_: Any) -> None:
        if row.state is S.SUSPENDED:
            row_extra(row).resume_ns = 0
        elif row.state is S.BLOCKED:
            row_extra(row).due_ns = 0
        else:
            due(kernel, row, TaskDue(0, self.now, row.id))
            joins.decide(kernel, self.now)

    def lift_event(
        self, kernel: Kernel, row: TaskRow, blocker: Blocker, *_: Any
    ) -> None:
        if blocker.until == 0:
            # It does not wait at all: the event must be there.
            waits.retain(
                kernel, RetainedEvent(blocker.name, kernel.seq, self.now + 1, None)
            )
        elif blocker.name:
            kernel.emit(blocker.name, None, 0, self.now)
        elif awaits(row):
            waits.time_out(kernel, row, self.now)

    def lift_veto(self, kernel: Kernel, row: TaskRow, *_: Any) -> None:
        del kernel
        self.policies.vetoes.pop((row.id, S.RUNNING), None)

    def lift_allocator(
        self, kernel: Kernel, row: TaskRow, blocker: Blocker, *_: Any
    ) -> None:
        """It grants nothing at all, which is enough."""
        real, worker = self.policies.allocate, kernel.workers[blocker.agent]
        vars(self.policies)["allocate"] = lambda asked, on, *rest: (
            ((), "", False) if asked is row and on is worker else real(asked, on, *rest)
        )

    def lift_capability(
        self, kernel: Kernel, row: TaskRow, blocker: Blocker, *_: Any
    ) -> None:
        self.remedy(kernel, row, blocker.remedies[0])

    def lift_slot(
        self, kernel: Kernel, _: TaskRow, blocker: Blocker, less: int
    ) -> None:
        kernel.concurrency = int(blocker.remedies[-1].amount or 0) - less

    def lift_agent(
        self, kernel: Kernel, _: TaskRow, blocker: Blocker, less: int
    ) -> None:
        worker = kernel.workers[blocker.agent]
        if blocker.need is None or blocker.have is None:
            heard(kernel, worker, self.now)
        elif blocker.resource:
            worker.used[blocker.resource] -= missing(blocker) - less
        else:
            worker.running -= int(blocker.remedies[0].amount or 0) - less

    def lift_resource(
        self, kernel: Kernel, _: TaskRow, blocker: Blocker, less: int
    ) -> None:
        kind, name = blocker.remedies[0].kind, blocker.name
        need = round((blocker.need or 0) * 1e6)
        if kind == "free":
            kernel.pools[name].used -= missing(blocker) - less
            return
        kernel.workers_version += 1
        if kind == "add_agent":
            capacity = kernel.workers[blocker.agent].capacity
            assert capacity is not None
            capacity[name] = need - less
        else:
            kernel.pools.setdefault(name, PoolRow(name, 0)).total = need - less

    def lift_quota(
        self, kernel: Kernel, _: TaskRow, blocker: Blocker, less: int
    ) -> None:
        need = round((blocker.need or 0) * 1e6)
        pool = kernel.pools[f"quota:{blocker.name}"]
        pool.total = pool.used + need - less
        kernel.workers_version += 1

    def lift_scope(
        self, kernel: Kernel, row: TaskRow, blocker: Blocker, *_: Any
    ) -> None:
        if is_turn(blocker):
            scopes = kernel.limits[-1]
            scopes.turns_away(kernel, scopes.first)
            return
        path = "" if blocker.name == EVERYTHING else blocker.name
        lock = kernel.beside[f"{SCOPE}{path}"]
        # As much as its task takes: all of it, or a unit if it is above what it writes.
        units = dict(units_of(kernel, row.bucket))
        lock.used = lock.total - units[lock]

    def lift_rate(self, kernel: Kernel, _: TaskRow, blocker: Blocker, *__: Any) -> None:
        kind, _, who = blocker.name.partition("=")
        rate = rates_of(kernel)[kind, who]
        rate.spent, rate.at_ns = rate.total - TOKEN, self.now

    def remedy(self, kernel: Kernel, row: TaskRow, remedy: Remedy) -> bool:
        """Do for real what *remedy* says, if there is more than one way to do it."""
        match remedy.kind:
            case "free":
                for name in remedy.tasks:
                    self.end(kernel, name)
            case "add_agent":
                self.join(kernel, row, remedy)
            case "enlarge_pool":
                amount = round((remedy.amount or 0) * 1e6)
                kernel.pools.setdefault(remedy.name, PoolRow(remedy.name, 0))
                kernel.pools[remedy.name].total = amount
                kernel.workers_version += 1
            case "agent_back":
                kernel.beat(remedy.name, (), self.now)
            case _:
                return False
        return True

    def end(self, kernel: Kernel, name: str) -> None:
        """The attempt that is called *name* ends."""
        if name.startswith("allocation "):
            held = kernel.allocations.get(name.split(" ")[1])
            if held is not None:
                kernel.release_allocation(held, self.now)
            return
        task_id, _, rest = name.partition(" (attempt ")
        if rest:
            attempt = int(rest.partition(",")[0])
            leak = kernel.leaked.get((task_id, attempt))
            row = None if leak is None else leak.row
        else:
            row = kernel.tasks.get(task_id)
            attempt = 0 if row is None else row.attempt
        if row is None:
            # It has ended already, because it held something else as well.
            return
        kernel.end_attempt(row, attempt, "completed", self.now)

    def join(self, kernel: Kernel, row: TaskRow, remedy: Remedy) -> None:
        """A worker joins as the remedy says, that the registry is content with."""
        for number in range(5):
            info = Agent(
                "new" + "w" * number,
                remedy.capabilities,
                None,
                remedy.resources or None,
            )
            worker = kernel.add_worker(info, self.now)
            if self.policies.knows(row, worker):
                return

    def lift_dependency(
        self, kernel: Kernel, row: TaskRow, blocker: Blocker, _: int
    ) -> None:
        """What *row* needs of others is so."""
        remedy = blocker.remedies[0]
        self.policies.joins = lambda name, states: True
        for name in remedy.tasks[: int(remedy.amount or len(remedy.tasks))]:
            if remedy.kind in ("complete", "decide"):
                finish(kernel, kernel.row(name), self.now)
            elif name not in self.again:
                # Two parents that did not complete may hang on the same.
                self.again[name] = rerun(kernel, name, self.now)
        if remedy.kind in ("rerun", "decide"):
            self.finish_rest(kernel, row, blocker)

    def finish_rest(self, kernel: Kernel, row: TaskRow, blocker: Blocker) -> None:
        """What stands between what is run again and *row* completes by itself."""
        assert row.links is not None
        parents = list(row.links.parents)
        if blocker.name:
            parent = kernel.row(blocker.name)
            parents = [self.again.get(parent.id, parent)]
        else:
            assert not (is_waiting(row) and is_lost(row))
        for parent in parents:
            if is_waiting(row) and parent.state is not S.COMPLETED:
                assert not is_broken(parent) or not blocker.name, (blocker, parent)
                if not is_broken(parent):
                    finish(kernel, parent, self.now)


def turn(blocker: Blocker) -> int:
    """Who is resumed too early may be skipped, and who is not waiting hears nothing."""
    if blocker.kind == "event":
        return 3 if blocker.until != 0 else 0
    return 2 if blocker.kind == "suspended" else 1


def is_turn(blocker: Blocker) -> bool:
    """Whether it is another's turn to write: nobody has that who is put first."""
    return blocker.kind == "scope" and blocker.remedies[0].kind == "complete"


def missing(blocker: Blocker) -> int:
    """How much is missing, in millionths."""
    (remedy,) = [each for each in blocker.remedies if each.kind == "free"]
    return round((remedy.amount or 0) * 1e6)


def taken(kernel: Kernel) -> list[tuple[Any, str, Any]]:
    """All that is taken: objects, attributes and values."""
    found: list[tuple[Any, str, Any]] = [(kernel, "running", kernel.running)]
    pools = (*kernel.pools.values(), *kernel.beside.values())
    found += [(pool, "used", pool.used) for pool in pools]
    for worker in kernel.workers.values():
        found += [
            (worker, "running", worker.running),
            (worker, "used", {**worker.used}),
        ]
    return found


def keep_taken(books: list[tuple[Any, str, Any]]) -> None:
    """What was taken then is taken still."""
    for owner, name, value in books:
        setattr(owner, name, value)


def newest(kernel: Kernel, row: TaskRow) -> TaskRow:
    """The latest re-run of *row*, or itself."""
    while row.extra is not None and row.extra.rerun_id in kernel.tasks:
        row = kernel.tasks[row.extra.rerun_id]
    return row


def rerun(kernel: Kernel, name: str, now: int) -> TaskRow:
    """Run a task again, as the runtime does: after the latest of what it needs."""
    row = kernel.row(name)
    links = row.links
    parents = [] if links is None else [newest(kernel, p) for p in links.parents]
    terms = None if links is None or links.terms is None else links.terms
    again = kernel.submit_general(
        f"{name}~{len(kernel.tasks)}",
        row.bucket,
        None,
        now,
        parents=parents,
        rerun_of=row,
        terms=None if terms is None else Terms(terms.join, terms.on_failure),
    )
    kernel.repoint(row, again, now)
    return again


def finish(kernel: Kernel, row: TaskRow, now: int) -> None:
    """*row* completes, wherever it stands."""
    extra = row_extra(row)
    if row.state is S.SUSPENDED and extra.held:
        kernel.resume(row, now)
    if row.state is S.RUNNING:
        extra.stop = ""
        extra.suspending = False
        kernel.end_attempt(row, row.attempt, "completed", now)
        return
    if row.state is S.QUEUED:
        queue.remove(kernel, row)
    _forget_delay(kernel, row)
    if row.state is not S.BLOCKED:
        kernel.count(row.state, -1)
        kernel.count(S.BLOCKED, 1)
        row.state = S.BLOCKED
    kernel.decide(row, "complete", now)


# -- the law ---------------------------------------------------------------------------


def covered(way: tuple[Blocker, ...], lifted: list[Blocker]) -> bool:
    """Whether what was lifted of one way happens to be all that another one needs."""

    def same(one: Blocker, other: Blocker) -> bool:
        if one == other:
            return True
        alike = (one.kind, one.name, one.resource) == (
            other.kind,
            other.name,
            other.resource,
        )
        return alike and one.kind in ("resource", "slot")

    return all(any(same(blocker, other) for other in lifted) for blocker in way)


def impossible(row: TaskRow) -> bool:
    """Whether more parents must complete than there are."""
    terms = None if row.links is None else row.links.terms
    if row.links is None or terms is None or isinstance(terms.join, str):
        return False
    if terms.joined:
        return False
    return terms.join > len(row.links.parents)


def above(row: TaskRow) -> dict[TaskRow, None]:
    """All that *row* depends on, and itself."""
    found = {row: None}
    stack = [row]
    while stack:
        links = stack.pop().links
        for parent in () if links is None else links.parents:
            if parent not in found:
                found[parent] = None
                stack.append(parent)
    return found


def alike(kernel: Kernel, row: TaskRow) -> bool:
    """Whether something that *row* depends on completes at once, or with its event."""
    mine = wait_of(row)
    there = {None: False, **dict.fromkeys(kernel.retained, True)}
    waits = [wait_of(parent) for parent in above(row) if parent is not row]
    return any(
        wait is not None
        and (
            wait[1] == 0
            or there.get(wait[0], False)
            or (mine is not None and wait[0] == mine[0])
        )
        for wait in waits
    )


def returns(kernel: Kernel, lifted: Iterable[Blocker]) -> bool:
    """Whether the end of what the task depends on leaves more slots than it held."""
    names = {
        name
        for blocker in lifted
        if blocker.kind == "dependency"
        for name in blocker.remedies[0].tasks
    }
    return any(row.id in names for row in kernel.returning)


def check(run: Run, row: TaskRow, seen: Counter[str]) -> None:
    """All that is named starts the task; less does not."""
    kernel = run.machine.kernel
    oracle = Oracle(run, row)
    told = oracle.told
    found = [*told.blockers, *told.then]
    seen.update(blocker.kind for blocker in found)
    if any(blocker.kind == "deadline" for blocker in found):
        return
    if any(impossible(other) for other in above(row)):
        seen["beyond help"] += 1
        return
    if any(not blocker.remedies for blocker in found):
        # What would have to be run again has left memory.
        assert not kernel.config.keep_finished > 100
        seen["beyond help"] += 1
        return
    if is_refused(run, told):
        seen["beyond help"] += 1
        return
    dies = any(blocker.kind == "capability" for blocker in found)
    if dies and (not kernel.rigid or not run.machine.policies.keeps_match):
        seen["whims"] += 1
        return
    ways = told.ways or ((),)
    for way in ways:
        assert oracle.trial(way), (str(told), way)
        assert oracle.trial(way, "remedy"), (str(told), way)
        for left_out in way:
            lifted = [blocker for blocker in way if blocker is not left_out]
            free = told.more_agents or returns(kernel, lifted) or alike(kernel, row)
            free = free or is_turn(left_out)
            if free or any(covered(other, lifted) for other in ways):
                seen["covered"] += 1
                continue
            assert not oracle.trial(lifted), (str(told), left_out)
            seen["necessary"] += 1
            if kernel.rigid and left_out.kind in ("slot", "agent", "resource"):
                numeric = left_out.need is not None and not returns(kernel, way)
                assert not numeric or not oracle.trial(way, less=left_out), (
                    str(told),
                    left_out,
                )
        seen["ways"] += 1


def is_refused(run: Run, told: Explanation) -> bool:
    """Whether what is to be run again is refused, as nobody can do it now."""
    kernel = run.machine.kernel
    return any(
        not (bucket := kernel.row(name).bucket).workers
        or bucket.workers_version != kernel.workers_version
        for blocker in (*told.blockers, *told.then)
        for remedy in blocker.remedies[:1]
        if remedy.kind == "rerun"
        for name in remedy.tasks
    )


def readable(run: Run, rows: Iterable[TaskRow]) -> None:
    """Every answer can be read, and stored; a guess is a time or a reason."""
    for row in rows:
        told = explain(
            run.machine.kernel, row, run.machine.now, whole=True, estimates=True
        )
        assert str(told)
        assert json.loads(json.dumps(told.to_dict()))["task_id"] == row.id
        guess = told.estimate
        assert guess is None or guess.seconds is None or guess.seconds >= 0
        assert guess is None or guess.basis


def states(seed: int, steps: int, seen: Counter[str]) -> None:
    """Ask about a task or two after each step of a random run."""
    dice = Random(seed)
    run = Run(Random(seed))
    if run.machine.policies.rigid:
        # It has promised to grant all that fits.
        run.machine.policies.keeps_alloc = True
    for _ in range(steps):
        run.step()
        rows = run.rows(*WAITING)
        if rows:
            run.machine.kernel.paused = dice.random() < 0.1
            check(run, dice.choice(rows), seen)
            run.machine.kernel.paused = False
            seen["states"] += 1
        readable(run, dice.sample(rows, min(len(rows), 2)))


# -- what is stuck ---------------------------------------------------------------------


def search(kernel: Kernel, now: int) -> dict[str, str]:
    """Who is stuck, and the kind of the cause."""
    found = Search(kernel, now, {})
    for _ in found.slices():
        pass
    assert all(map(str, found.groups))
    return {name: group.kind for group in found.groups for name in group.tasks}


def left_alone(machine: Machine, rounds: int) -> None:
    """All that can go on by itself does: attempts complete, time passes."""
    kernel = machine.kernel
    for _ in range(rounds):
        machine.settle()
        running = [row for row in kernel.tasks.values() if row.state is S.RUNNING]
        for row in running:
            outcome = "stopped" if row_extra(row).stop else "completed"
            kernel.end_attempt(row, row.attempt, outcome, machine.now)
        for worker in kernel.workers.values():
            if worker.lease_ns and not worker.lost:
                kernel.beat(worker.name, (), machine.now)
        machine.now += 2 * SEC
        machine.settle()


def stays(seed: int, steps: int, seen: Counter[str]) -> None:
    """What is said to be stuck in a random state does not move; what is not, does."""
    run = Run(Random(seed))
    machine, policies = run.machine, run.machine.policies
    for _ in range(steps):
        run.step()
    policies.vetoes.clear()
    policies.refuses = lambda row, worker: None
    kernel = machine.kernel
    queue.ask_again(kernel)
    before = search(kernel, machine.now)
    states = {name: kernel.row(name).state for name in before}
    left_alone(machine, 60)
    for name, kind in before.items():
        row = kernel.tasks.get(name)
        state = kernel.evicted.get(name) if row is None else row.state
        moved = state in (S.RUNNING, S.COMPLETED, S.RETRYING)
        assert not moved or state is states[name], (name, kind, state)
        seen[kind] += 1
    if not policies.keeps_match or not policies.admits_all:
        # It is not known what such a registry says of all, or what expires when.
        return
    after = search(kernel, machine.now)
    for row in run.rows(*WAITING):
        assert row.id in after, str(explain(kernel, row, machine.now, whole=True))
        seen["left"] += 1


def test_what_is_stuck_stays_and_all_else_goes_on() -> None:
    """Left alone, nothing that is named ever moves, and everything else ends."""
    seen: Counter[str] = Counter()
    for seed in range(16):
        stays(seed, 30, seen)
    assert seen["left"] > 8
    assert {"suspended", "dependency", "capability", "decision"} <= seen.keys()


def test_what_is_named_is_what_happens() -> None:
    """All that `explain` names starts the task, and less does not."""
    seen: Counter[str] = Counter()
    for seed in range(2):
        states(seed, 60, seen)
    assert seen["states"] > 60
    assert seen["necessary"] > 60


@pytest.mark.slow("a thousand states")
def test_what_is_named_is_what_happens_in_many_states() -> None:
    """All that `explain` names starts the task, and less does not."""
    seen: Counter[str] = Counter()
    for seed in range(100, 125):
        states(seed, 60, seen)
    assert seen["states"] > 1_000
    kinds = {"dependency", "slot", "delay", "resource", "agent", "suspended"}
    kinds |= {"allocator", "veto", "decision", "capability", "not_started", "scope"}
    assert kinds <= seen.keys()
