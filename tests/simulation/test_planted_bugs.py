"""
Mistakes that somebody could make, planted one at a time in our own code.

A search that finds nothing proves little unless it would have found something: each of
these changes a line or two, and must be found within a few seeds. A fence that does not
look at the life of the orchestrator takes a rare crash to show, between a start and its
commit: `test_exhaustive` finds that one.
"""

import __future__

import inspect
import textwrap

import pytest
from tests.tools.explore import explore

from taskorch.kernel import (
    Kernel,
    _application,
    _attempts,
    _control,
    _dependencies,
    _ends,
    _fold,
    _limits as kernel_limits,
    _queue,
    _rates,
)
from taskorch.kernel._rows import Bucket
from taskorch.runs import (
    WorkflowContext,
    WorkflowManager,
    WorkflowRun,
    _approvals,
    _gates,
    _limits,
    _progress,
    _reruns,
)
from taskorch.runs._known import KnownRuns
from taskorch.runtime import _submission
from taskorch.runtime._committer import Commits, HeldBack
from taskorch.simulation._life import Life
from taskorch.simulation._world import World
from taskorch.testing import Breach
from taskorch.workflows import Phase

#: Seeds that are tried before a bug counts as not found.
SEEDS = 400

#: What was done wrong: `(where, what stands there, what stands there instead)`.
BUGS = {
    "what a failed attempt held is not released": (
        _application._free,
        "_give_back(kernel, agent_of(row), alloc, slots, share)",
        "_give_back(kernel, agent_of(row), (), slots, share)",
    ),
    "a start of many takes no token": (
        _rates.Rates.begins,
        "used_at(now) + TOKEN",
        "used_at(now) + TOKEN * (now % 2)",
    ),
    "what has come back of a rate is counted twice": (
        _rates.Rates.begins,
        "rate.spent = rate.used_at(now) + TOKEN",
        "rate.spent = max(0, 2 * rate.used_at(now) - rate.spent) + TOKEN",
    ),
    "nobody is woken when a token comes": (
        _rates.Rates.wake,
        "window.look(now)\n    _queue.wake_some(kernel, window.short)",
        "window.look(now)",
    ),
    "who is above a soft quota starts in its turn like all others": (
        kernel_limits.defer_if_over_quota,
        "where = places(kernel, bucket)",
        "where = []",
    ),
    "who is above a soft quota is never tried": (
        kernel_limits.turn,
        "while kernel.above and",
        "while not kernel.above and",
    ),
    "what a completed attempt held is not released": (
        Kernel.complete,
        "_limits.release(kernel, agent, row.alloc)",
        "pass",
    ),
    "a cancelled attempt is released twice": (
        _application.cancelled,
        '_free(kernel, row, "cancelled")',
        (
            '_free(kernel, row, "cancelled")\n'
            "    _give_back(kernel, row.agent, (), 1, None) if row.agent else None"
        ),
    ),
    "the result of an earlier attempt is accepted": (
        _attempts.end,
        "if row.attempt != attempt or row.state is not _RUNNING:",
        "if row.state is not _RUNNING:",
    ),
    "a ring of dependencies is accepted": (
        _submission._refuse_rings,
        "if ring:",
        "if not ring:\n        return\n    if len(ring) == 1:",
    ),
    "the last fact of a batch is not kept": (
        Life.tidy,
        "self.commits.pending += map(self._entry, facts)",
        "self.commits.pending += map(self._entry, facts[:-1] or facts)",
    ),
    "what can start is started before all of an instant is applied": (
        Kernel.complete,
        "return True\n",
        "dispatch(kernel, now)\n    return True\n",
    ),
    "the timeout of a program is lost when it is continued": (
        _application._continue_attempt,
        "_queue.arm(kernel, extra.timer, TIMEOUT, row, row.attempt)",
        "pass",
    ),
    "the delay of a task is lost when it is resumed": (
        _application._resume_unstarted,
        "_queue.arm(kernel, extra.due_ns, _queue.DUE, row)",
        "pass",
    ),
    "timers of tasks that wait are cleaned up": (
        _queue.is_alive,
        "return when == (extra.due_ns if kind == DUE else _next_reminder(row))",
        "return when == extra.due_ns and row.state is TaskState.RETRYING",
    ),
    "who waits for a slot is not woken": (
        _queue.wake,
        "heappush(bucket.open, entry)",
        "pass",
    ),
    "a wake-up is not passed on": (
        _queue.pass_on,
        "if place is not None and place.heap and place.has_room():",
        "if False:",
    ),
    "a crash of ours is counted against the task": (
        _application.retrying,
        'if event.cause == "lost":',
        'if event.cause in ("lost", "interrupted"):',
    ),
    "what may not run twice runs twice": (
        _attempts._gone,
        "elif not row.bucket.spec.idempotent:",
        "elif False:",
    ),
    "a dependent does not wait for the last parent": (
        _dependencies.release,
        "elif not below.waiting:",
        "else:",
    ),
    "younger tasks pass older ones": (
        Bucket.push,
        "if not row.ticket and (not self.fifo or key > self.last_key):",
        "if not row.ticket:",
    ),
    "a pool is given out twice": (
        kernel_limits.acquire,
        "pool.used += units",
        "pool.used += units // 2",
    ),
    "what ran on a lost agent is forgotten": (
        _control._end_all,
        "row, row.attempt, how(row)",
        "row, row.attempt + 1, how(row)",
    ),
    "the delay before a retry is skipped": (
        _application.retrying,
        "elif event.delay_ns:",
        "elif event.delay_ns and event.delay_ns < 10**9:",
    ),
    "callers are told before anything is kept": (
        World._submit,
        "life.commits.when(life.kernel.seq, lambda: self._answer(number))",
        "self._answer(number)",
    ),
    "work begins before its submission is kept": (
        HeldBack.take,
        "if seq <= self._commits.committed:",
        "if True:",
    ),
    "what must not run twice begins before its start is kept": (
        HeldBack.take,
        "seq = submitted if row.bucket.spec.idempotent else last",
        "seq = submitted",
    ),
    "a group that could not be written is dropped": (
        Commits.failed,
        "self._failed = True",
        "self._failed = True; self._group = self._group[:1]",
    ),
    "recovery forgets what was put aside": (
        _fold._about_task,
        "APPLY[type(fact)](kernel, row, fact)",
        "fact.seq and 'TaskSuspended' in str(fact) or APPLY[type(fact)](kernel, row, fact)",
    ),
    "a deadline that passed while we were down is not noticed": (
        _fold.recover,
        "_control.tick(kernel, now)",
        "pass",
    ),
    "a join holds one parent too early": (
        _ends.holds,
        "met = done >= _dependencies.least(terms)",
        "met = done + 1 >= _dependencies.least(terms)",
    ),
    "nobody decides about a dependent when a parent fails": (
        _dependencies.broke,
        'kernel.undecided.append((child, ""))',
        "pass",
    ),
    "a delay goes on while its task is suspended": (
        _application.suspended,
        "max(1, when - now) if when else 0",
        "1 if when else 0",
    ),
    "an event that is kept is not looked for": (
        _ends.begin,
        "known.until_ns > now",
        "False",
    ),
    "the time of a wait is not counted": (
        _application._await,
        "_queue.arm(kernel, extra.due_ns, _queue.DUE, row)",
        "pass",
    ),
    "a ring that is closed later is accepted": (
        _control.add_parents,
        "if way:",
        "if way and len(way) < 3:",
    ),
}

#: Likewise, in the managers of workflows: found in runs of random workflows.
BUGS_OF_RUNS = {
    "a gate counts what failed as completed": (
        _gates._all_completed,
        "if work._row.state is not TaskState.COMPLETED",
        "if not work._row.state.is_terminal",
    ),
    "a gate shows its functions what did not complete": (
        _gates._says,
        "if work._row.state is TaskState.COMPLETED",
        "if True",
    ),
    "a gate does not look at the phase before": (
        _gates.gate,
        "if work._row.state is not TaskState.COMPLETED:",
        "if False:",
    ),
    "the verdict of a gate leaves out its last check": (
        _gates.gate,
        "passed = all(holds for _, holds, _ in findings)",
        "passed = all(holds for _, holds, _ in findings[:-1] or findings)",
    ),
    "a gate that goes on says that its phase has passed": (
        _gates.gate,
        '"passed": passed,',
        '"passed": True,',
    ),
    "a rejected phase that goes on is approved": (
        _approvals.decide,
        "verdict = _phases.verdict_of(phase, name, note, passed=passed)",
        "verdict = _phases.verdict_of(phase, name, note, passed=True)",
    ),
    "a rejection completes an approval": (
        _approvals.decide,
        'if passed or on_failure == "continue":',
        'if passed or on_failure != "stop":',
    ),
    "an approval after a rejection is an error": (
        _approvals.decide,
        "rt.is_left(latest) or latest.state in TERMINAL",
        "rt.is_left(latest) or str(latest.state) == 'completed'",
    ),
    "an approval after a rejection says that it has decided": (
        _approvals.decide,
        "return False if was_over",
        "return str(latest.state) == 'failed' if was_over",
    ),
    "of a phase that goes on, what ended counts as completed": (
        _progress._phase,
        "counts.get(_S.COMPLETED, 0),",
        "sum(counts.get(state, 0) for state in TERMINAL),",
    ),
    "a report counts what failed as completed": (
        _progress._phase_report,
        "counts.get(_S.COMPLETED, 0),",
        "sum(counts.get(state, 0) for state in TERMINAL),",
    ),
    "a status says of a phase that failed that it has passed": (
        _progress._phase,
        "if not all(decision.passed for decision in _verdicts(run, name)):",
        "if False:",
    ),
    "there is room for one added task too many": (
        WorkflowContext._check,
        "record.added + len(fresh) > record.max_added",
        "record.added + len(fresh) > record.max_added + 1",
    ),
    "there is room for what is added at once": (
        WorkflowContext._check,
        "record.added + len(fresh) > record.max_added",
        "record.added >= record.max_added",
    ),
    "what is added takes no room": (
        WorkflowContext._admit,
        "record.added += len(fresh)",
        "record.added = len(fresh)",
    ),
    "what an attempt adds again takes room again": (
        WorkflowContext._admit,
        "record.added += len(fresh)",
        "record.added += len(entries)",
    ),
    "what was added before a crash takes no room": (
        KnownRuns.record,
        "record.added = sum(map(_members.is_added, works.values()))",
        "record.added = 0",
    ),
    "nothing can be added again where there is no room": (
        WorkflowContext._check,
        "if fresh and record.added",
        "if record.added",
    ),
    "a gate does not wait for what is added": (
        WorkflowContext._admit,
        "later = [*gates, *(work for work in later if work not in gates)]",
        "gates = []",
    ),
    "what is added to a phase that was skipped is of no phase": (
        _control.can_wait,
        "row.state is not TaskState.CANCELLED",
        "True",
    ),
    "what is added takes no place in its phase": (
        _limits.shared,
        "if names else",
        "if False else",
    ),
    "what is added to what is paused begins": (
        WorkflowContext._admit,
        "if any(map(record.is_paused_at, parts)):",
        "if False:",
    ),
    "the limits of phases are lost in a crash": (
        _limits.restore,
        "run_of(name) not in runs",
        "True",
    ),
    "of a run, all but one part is resumed": (
        WorkflowManager.resume,
        "if not is_below(part, below)]",
        "if part != below]",
    ),
    "to resume all does not resume what is added": (
        WorkflowManager.resume,
        "record.paused[:] = kept",
        "pass",
    ),
    "what is resumed leaves out its first task": (
        WorkflowManager._each,
        "any(in_parts(self._rt, rows, change))",
        "any(in_parts(self._rt, rows[1:] or rows, change))",
    ),
    "a part that is paused leaves out its gate": (
        WorkflowRun._phases,
        "phases[phase] += [n for n in (gate, approval_of(phase)) if n in self._works]",
        "pass",
    ),
    "a restart runs again what completed": (
        _reruns.is_undone,
        "(TaskState.FAILED, TaskState.CANCELLED)",
        "(TaskState.FAILED, TaskState.CANCELLED, TaskState.COMPLETED)",
    ),
    "a restart leaves out what was skipped": (
        _reruns.is_undone,
        "(TaskState.FAILED, TaskState.CANCELLED)",
        "(TaskState.FAILED,)",
    ),
    "a restart does not wait for a gate that has not begun": (
        _reruns.asks_too_early,
        "_may_ask(work) and work._row.attempt",
        "_may_ask(work)",
    ),
    "a restart runs first what waits": (
        _reruns.to_run_again,
        "for name, _ in ordered if name in again",
        "for name, _ in ordered[::-1] if name in again",
    ),
    "what was added is another task when its gate is run again": (
        _submission.given_parents,
        "added -= stems",
        "added.clear()",
    ),
    "an approval is not skipped with its phase": (
        Phase.approval_task,
        "skips = self.on_failure",
        "skips = False and self.on_failure",
    ),
    "a gate waits for all, though it goes on": (
        Phase.gate_task,
        'join="finished" if goes_on else "all"',
        'join="all"',
    ),
}


def plant(monkeypatch, function, old, new):
    """Put *new* where *old* stands in *function*, for whoever calls it."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{function.__name__}: {source.count(old)} of {old}"
    indent = source.split(old)[0].rpartition("\n")[2]
    indent = indent[: len(indent) - len(indent.lstrip())]
    made = source.replace(old, new.replace("\n    ", f"\n{indent}"))
    namespace = dict(function.__globals__)
    flag = __future__.annotations.compiler_flag
    exec(compile(made, f"<{function.__name__} with a bug>", "exec", flag), namespace)
    planted = namespace[function.__name__]
    monkeypatch.setattr(function, "__code__", planted.__code__)


def hunt(seeds=SEEDS, **options):
    """The first seed that finds something, and what it says; or None."""
    for seed in range(seeds):
        try:
            explore(seed, **options)
        except Breach as breach:
            return seed, breach.law, str(breach)
        except Exception as error:
            return seed, type(error).__name__, str(error)
    return None


@pytest.mark.parametrize("name", [*BUGS, *BUGS_OF_RUNS])
def test_a_bug_can_be_planted(monkeypatch, name):
    """What it replaces is in the code: that is known before the slow tests run."""
    plant(monkeypatch, *(BUGS | BUGS_OF_RUNS)[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(monkeypatch, name, record_property):
    """Within a few seeds, by name of the guarantee that it breaks."""
    plant(monkeypatch, *BUGS[name])

    found = hunt()

    assert found is not None
    record_property("found", found)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS_OF_RUNS)
def test_a_planted_bug_in_the_managers_of_workflows_is_found(
    monkeypatch, name, record_property
):
    """By a run of a random workflow that does not end as its plan says."""
    plant(monkeypatch, *BUGS_OF_RUNS[name])

    found = hunt(workflows=True)

    assert found is not None
    record_property("found", found)


def main() -> None:
    """Say which check finds which."""
    all_bugs = [(name, bug, False) for name, bug in BUGS.items()]
    all_bugs += [(name, bug, True) for name, bug in BUGS_OF_RUNS.items()]
    for name, bug, workflows in all_bugs:
        with pytest.MonkeyPatch.context() as monkeypatch:
            plant(monkeypatch, *bug)
            found = hunt(workflows=workflows)
        seed, law, message = found or ("-", "NOT FOUND", "")
        print(f"{name:65} seed {seed:>3}  {law:14} {message[:90]}", flush=True)


if __name__ == "__main__":
    main()
