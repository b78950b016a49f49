"""
What is written out for speed does what its definition does.

Two kernels are given the same commands: the one of the library, and one whose verbs are
the definitions. After each command all that can be seen of them is the same: events,
starts, effects, rows, books and the samples of the estimates.
"""

from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.core.kernel.commands import CancelTask, EndAttempt
from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import (
    LOCAL,
    Kernel,
    PolicyFault,
    Spec,
    TaskRow,
    Terms,
    _admission,
    _attempts,
    _dispatch,
    _queue,
    check_invariants,
    differences,
)
from taskorch.core.kernel._history import past_of, row_extra
from taskorch.errors import UsageError
from taskorch.events import CATALOGUE, TaskCompleted, TaskStarted, TaskSubmitted
from taskorch.model import Quota, Resources

FREQUENT = (TaskSubmitted, TaskStarted, TaskCompleted)
UNITS = (
    (),
    Resources(cpu=1).units,
    Resources(cpu=3).units,
    Resources(memory_mb=1).units,
)
SPECS = [
    Spec(name, requires, resources, timeout_ns=timeout)
    for name in "pq"
    for requires in (None, ("x",), ("x",))
    for resources in UNITS
    for timeout in (None, None, 2 * SEC)
]


class Defined(Kernel):
    """A kernel in which every task takes the general way."""

    def submit(
        self, task_id, bucket, cargo, now, priority=0, parents=(), *, named=False
    ):
        row = TaskRow(task_id, self.submissions, bucket, cargo, now)
        row.named = named
        admitted = _admission.consider(
            self, row, now, priority=priority, parents=parents
        )
        _admission.accept(self, admitted, now)
        return row

    def complete(self, row, attempt, now):
        return _attempts.end(self, row, attempt, "completed", now)

    def complete_for_next(self, row, attempt, now):
        """Leave it to the two."""

    def dispatch(self, now):
        """Ask everybody about the first of all that nothing is known to keep."""
        if self.returning:
            _attempts.serve_returning(self, now)
        while self.running < self.concurrency and not self.paused:
            for bucket in list(self.buckets.values()):
                row = bucket.head()
                if bucket.caller is not None and (
                    row is None or bucket.entry[:2] != (row.key, row.seq)
                ):
                    # It was woken for another, which a veto, say, has set aside.
                    _queue.pass_on(self, bucket)
            heads = [
                row
                for bucket in self.buckets.values()
                if bucket.parked is None and (row := bucket.head()) is not None
            ]
            if not heads:
                return
            row = min(heads, key=lambda row: (row.key, row.seq))
            row.bucket.route = None
            _dispatch.place(self, row.bucket, row, now)


class Pair:
    """Two kernels that are to do the same."""

    def __init__(
        self, kernels: tuple[type[Kernel], ...], options: dict[str, Any]
    ) -> None:
        options = dict(options)
        self.specs = options.pop("specs")
        self.machines = [self.machine(kernel, **options) for kernel in kernels]
        self.count = 0

    @staticmethod
    def machine(
        kernel: type[Kernel],
        *,
        told: tuple[Any, ...] | None,
        concurrency: int,
        keep: int,
        **policies: Any,
    ) -> Machine:
        answers = Policies(rigid=policies.pop("rigid"))
        for name, value in policies.items():
            setattr(answers, name, value)
        if not answers.admits_all:
            answers.admits = lambda row: (
                "it is full" if row.seq % 7 == 6 else None,
                (None, 3 * SEC)[row.seq % 2],
            )
        machine = Machine(
            kernel=kernel,
            policies=answers,
            listening=False,
            concurrency=concurrency,
            keep_finished=keep,
            pools=Resources(cpu=4),
            refuse_unknown=False,
        )
        if told is not None:
            machine.kernel.listen(
                machine.sink,
                frozenset(CATALOGUE) - {*FREQUENT} | {*told},
                ready=TaskCompleted in told,
            )
        machine.worker("a", "x", max_concurrency=1, capacity=Resources(memory_mb=1))
        return machine

    def do(self, name: str, a: int, b: int, c: int) -> None:
        self.count += 1
        outcomes = []
        for machine in self.machines:
            try:
                outcomes.append(getattr(self, name)(machine, a, b, c))
            except (UsageError, PolicyFault) as error:
                outcomes.append(repr(error))
            check_invariants(machine.kernel)
        assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
        seen = [self.seen(machine) for machine in self.machines]
        assert seen[0] == seen[1]
        assert not differences(*(machine.kernel for machine in self.machines))

    @staticmethod
    def seen(machine: Machine) -> Any:
        kernel = machine.kernel
        return {
            "facts": machine.sink,
            "starts": machine.started,
            "effects": [repr(effect) for effect in machine.effects],
            "due": sorted(timer[0] for timer in kernel.timers),
            "finished": [row.id for row in kernel.finished],
            "rows": [
                (row.id, row.named, row.reason, row.bucket.size, past_of(row))
                for row in kernel.tasks.values()
            ],
            "samples": {
                name: (row.completed, list(row.samples))
                for name, row in kernel.types.items()
            },
            "vetoed": [row.id for row in kernel.vetoed],
        }

    # -- commands: on each of the two ----------------------------------------------

    def submit(self, machine: Machine, a: int, b: int, c: int) -> None:
        """As the runtime does it, plainly."""
        kernel = machine.kernel
        bucket = kernel.bucket(self.specs[a % len(self.specs)])
        known = list(kernel.tasks.values())
        number = (0, 0, 0, 1, 2)[b % 5]
        parents = (
            tuple(dict.fromkeys(known[(c + n) % len(known)] for n in range(number)))
            if known
            else ()
        )
        kernel.submit(
            f"t{self.count}",
            bucket,
            None,
            machine.now,
            (0, 0, 1, -2)[c % 4],
            parents,
            named=b % 2 == 1,
        )

    def submit_some(self, machine: Machine, a: int, b: int, c: int) -> None:
        """Many of one kind, and a dispatch."""
        bucket = machine.kernel.bucket(self.specs[a % len(self.specs)])
        names = [f"t{self.count}.{number}" for number in range(b % 6)]
        for name in names:
            machine.kernel.submit(name, bucket, None, machine.now)
        machine.settle()

    def submit_generally(self, machine: Machine, a: int, b: int, c: int) -> None:
        known = list(machine.kernel.tasks.values())
        parents = [known[c % len(known)]] if known and b % 3 else []
        waits = (None, 5 * SEC, True)
        terms = (
            None,
            None,
            Terms("any", "skip"),
            Terms("finished"),
            Terms(1, "fail"),
            Terms(wait=waits),
        )[b % 6]
        machine.kernel.submit_general(
            f"t{self.count}",
            machine.kernel.bucket(self.specs[a % len(self.specs)]),
            None,
            machine.now,
            parents=parents,
            terms=terms,
            not_before_ns=(None, None, machine.now + SEC)[c % 3],
            deadline_ns=(None, None, None, machine.now + 4 * SEC)[a % 4],
        )

    def complete(self, machine: Machine, a: int, b: int, c: int) -> bool | None:
        """Mostly of the current attempt."""
        rows = [row for row in machine.kernel.tasks.values() if row.state is S.RUNNING]
        rows = rows if c % 8 else list(machine.kernel.tasks.values())
        if not rows:
            return None
        row = rows[a % len(rows)]
        kernel, attempt = machine.kernel, row.attempt - (b % 8 == 7)
        if not c % 3:
            return kernel.complete(row, attempt, machine.now)
        following = kernel.complete_for_next(row, attempt, machine.now)
        if following is None:
            counted = kernel.complete(row, attempt, machine.now)
        else:
            counted = True
            kernel.starts.append(following)
        machine.settle()
        return counted

    def on_one(self, machine: Machine, a: int, b: int, c: int) -> None:
        """Something else befalls a task."""
        rows = list(machine.kernel.tasks.values())
        if not rows:
            return
        row = rows[a % len(rows)]
        kernel, now = machine.kernel, machine.now
        machine.policies.delays[row.id] = [(0, SEC)[b % 2]] * (c % 2)
        error = ValueError("it went wrong")
        what = (
            lambda: kernel.end_attempt(row, row.attempt, "failed", now, error),
            lambda: kernel.cancel(row, now, "called off"),
            lambda: kernel.suspend(row, now, holdable=c % 2 == 0),
            lambda: kernel.resume(row, now),
            lambda: kernel.set_priority(row, b % 5 - 2, now),
            lambda: kernel.decide(row, "complete", now, ""),
            lambda: machine.rerun(row.id),
        )
        what[b % len(what)]()

    def slot(self, machine: Machine, a: int, b: int, c: int) -> bool | None:
        """An attempt waits for another task, or has waited."""
        kernel = machine.kernel
        rows = [row for row in kernel.tasks.values() if row.state is S.RUNNING]
        if not rows:
            return None
        row = rows[a % len(rows)]
        waits = row.extra is not None and row.extra.yielded
        change = kernel.reclaim_slot if waits else kernel.yield_slot
        return change(row, row.attempt, machine.now)

    def on_all(self, machine: Machine, a: int, b: int, c: int) -> None:
        """Something else befalls the system."""
        kernel = machine.kernel
        match b % 7:
            case 0:
                kernel.paused = not kernel.paused
            case 1:
                kernel.concurrency = max(1, kernel.running, a % 5)
            case 2 if len(kernel.workers) < 5:
                machine.worker(f"n{self.count}", "x", max_concurrency=1 + a % 2)
            # What a policy has said for good, it may not take back.
            case 3 if not machine.policies.keeps_alloc:
                machine.policies.refuses = lambda row, worker: (
                    "not now" if row.seq % 3 == a % 3 else None
                )
            case 4:
                machine.policies.vetoes.clear()
                for row in kernel.tasks.values():
                    if row.seq % 3 == a % 3:
                        machine.policies.vetoes[row.id, S.RUNNING] = "not now"
            case 5:
                kept = machine.policies.keeps_route and machine.policies.keeps_alloc
                names = ("queue",) if kept else ("router", "queue", "allocator")
                machine.policies.broken ^= {names[a % len(names)]}
            case 6:
                machine.after((1, SEC, 3 * SEC)[c % 3])

    def settle(self, machine: Machine, a: int, b: int, c: int) -> list[str]:
        return machine.settle()


OPTIONS = st.fixed_dictionaries(
    {
        # Few: the second of a kind is what is quick.
        "specs": st.lists(st.sampled_from(SPECS), min_size=1, max_size=3),
        "told": st.sampled_from(
            [FREQUENT, FREQUENT, FREQUENT[:1], FREQUENT[1:], (), None]
        ),
        "concurrency": st.integers(1, 4),
        "keep": st.sampled_from([0, 2, 1000]),
        "rigid": st.booleans(),
        "aging_ns": st.sampled_from([60 * SEC, 60 * SEC, 0, None]),
        "admits_all": st.sampled_from([True, True, False]),
        "max_age_ns": st.sampled_from([None, None, 3 * SEC]),
        "watches": st.sampled_from(
            [frozenset(), frozenset(), frozenset({(S.QUEUED, S.RUNNING)}), None]
        ),
        "keeps_match": st.sampled_from([True] * 5 + [False]),
        "keeps_route": st.sampled_from([True] * 5 + [False]),
        "keeps_alloc": st.sampled_from([True] * 5 + [False]),
    }
)
NAMES = (
    ["submit"] * 4
    + ["submit_some"] * 2
    + ["complete"] * 5
    + ["submit_generally", "on_one", "on_all", "slot", "slot", "settle"]
)
NUMBERS = st.integers(0, 63)
COMMANDS = st.lists(
    st.tuples(st.sampled_from(NAMES), NUMBERS, NUMBERS, NUMBERS),
    min_size=30,
    max_size=80,
)
#: Policies that need not be asked twice, and what else there is, one at a time.
USUAL = {
    "told": FREQUENT,
    "concurrency": 3,
    "keep": 2,
    "rigid": True,
    "aging_ns": 60 * SEC,
    "admits_all": True,
    "max_age_ns": None,
    "watches": frozenset(),
    "keeps_match": True,
    "keeps_route": True,
    "keeps_alloc": True,
}
OTHERS = {
    "usual": {},
    "only submissions are told": {"told": (TaskSubmitted,)},
    "only starts are told": {"told": (TaskStarted,)},
    "only ends are told": {"told": (TaskCompleted,)},
    "nobody listens": {"told": None},
    "one at a time": {"concurrency": 1},
    "nothing is kept": {"keep": 0},
    "an allocator that may grant less": {"rigid": False},
    "no aging": {"aging_ns": 0},
    "a queue of the user's": {"aging_ns": None},
    "admission": {"admits_all": False},
    "admission to a queue of the user's": {"aging_ns": None, "admits_all": False},
    "a largest age": {"max_age_ns": 3 * SEC},
    "starts are watched": {"watches": frozenset({(S.QUEUED, S.RUNNING)})},
    "all is watched": {"watches": None},
    "each match is asked for": {"keeps_match": False},
    "each route is asked for": {"keeps_route": False},
    "each grant is asked for": {"keeps_alloc": False},
}


#: Each with a timeout or without one.
PAIRS = [
    pytest.param(
        other,
        timeout,
        marks=pytest.mark.slow("the same with a timeout, or without")
        if (place + bool(timeout)) % 2
        else (),
        id=f"{other}-{'timeout' if timeout else 'no timeout'}",
    )
    for place, other in enumerate(OTHERS)
    for timeout in (None, 2 * SEC)
]


@pytest.mark.parametrize(("other", "timeout"), PAIRS)
def test_the_quick_ways_do_so_whatever_they_look_at(other, timeout):
    """Tasks that are alike, of each kind that there is, and chance."""
    dice = Random(f"{other} {timeout}")
    for spec in (
        Spec("p", timeout_ns=timeout),
        Spec("p", ("x",), timeout_ns=timeout),
        Spec("p", ("x",), Resources(cpu=2).units, timeout_ns=timeout),
    ):
        pair = Pair((Kernel, Defined), USUAL | OTHERS[other] | {"specs": [spec]})
        for _ in range(45):
            pair.do(dice.choice(NAMES), *(dice.randrange(64) for _ in "abc"))


@given(options=OPTIONS, commands=COMMANDS)
def test_the_quick_ways_do_what_their_definitions_do(options, commands):
    pair = Pair((Kernel, Defined), options)
    for command in commands:
        pair.do(*command)


def test_the_next_of_a_backlog_has_the_slot_in_one_step(monkeypatch):
    """Nothing but the bucket is looked at."""
    machine = Machine(concurrency=1)
    bucket = machine.kernel.bucket(Spec("call"))
    for name in "abc":
        machine.kernel.submit(name, bucket, None, machine.now)
    assert machine.settle() == ["a"]
    # That somebody can do the second is looked up once.
    assert machine.end("a") == ["b"]
    kernel, b = machine.kernel, machine.row("b")
    following = kernel.complete_for_next(b, 1, machine.now)
    assert following is machine.row("c")
    assert (b.state, following.state) == (S.COMPLETED, S.RUNNING)
    assert kernel.starts == []
    assert kernel.complete_for_next(following, 1, machine.now) is None
    assert following.state is S.RUNNING


def _wait_for_slot(machine):
    row = machine.row("a")
    machine.kernel.yield_slot(row, 1, machine.now)
    machine.settle()
    assert not machine.kernel.reclaim_slot(row, 1, machine.now)


MORE = {
    "it has ended before": lambda m: m.kernel.complete(m.row("b"), 1, m.now),
    "another waits for it": lambda m: m.submit("z", after=["b"]),
    "an attempt waits for its slot": _wait_for_slot,
    "another kind waits": lambda m: m.kernel.submit(
        "z", m.kernel.bucket(Spec("other")), None, m.now
    ),
    "nothing is to start": lambda m: setattr(m.kernel, "paused", True),
    "there are more slots": lambda m: setattr(m.kernel, "concurrency", 4),
    "there are fewer slots": lambda m: setattr(m.kernel, "concurrency", 1),
    "the next has a priority": lambda m: m.kernel.set_priority(m.row("d"), 1, m.now),
    "a worker has come": lambda m: m.worker("new", "call"),
    "its agent runs too many": lambda m: setattr(m.kernel.workers[LOCAL], "limit", 1),
    "what was granted may grow": lambda m: setattr(m.kernel, "growing", True),
    "it has a past": lambda m: row_extra(m.row("b")),
    "the next has a past": lambda m: row_extra(m.row("c")),
    "another attempt": lambda m: setattr(m.row("b"), "attempt", 2),
    "it is held": lambda m: m.kernel.suspend(m.row("b"), m.now, holdable=True),
    "it holds something": lambda m: setattr(m.row("b"), "alloc", (("cpu", 1),)),
    "it has a time limit": lambda m: setattr(
        m.row("b").bucket, "spec", Spec("call", timeout_ns=SEC)
    ),
    "the first was woken": lambda m: setattr(
        m.row("b").bucket, "caller", m.kernel.workers[LOCAL].slots
    ),
    "it ran elsewhere": lambda m: setattr(m.row("b").bucket, "route", m.kernel.by_hand),
    "nothing is left": lambda m: [m.kernel.cancel(m.row(x), m.now, "") for x in "cde"],
}


@pytest.mark.parametrize("more", MORE)
def test_where_there_is_more_to_it_both_ways_are_gone(more):
    machine = Machine(concurrency=2)
    bucket = machine.kernel.bucket(Spec("call"))
    for name in "abcde":
        machine.kernel.submit(name, bucket, None, machine.now)
    assert machine.settle() == ["a", "b"]
    MORE[more](machine)
    row, seq = machine.row("b"), machine.kernel.seq
    assert machine.kernel.complete_for_next(row, 1, machine.now) is None
    assert machine.kernel.seq == seq


def test_at_the_limit_of_its_worker_the_next_has_the_slot():
    machine = Machine(concurrency=2)
    machine.worker("n", "x", max_concurrency=2)
    assert machine.submit_all(*"abcd", requires=("x",)) == ["a", "b"]
    kernel = machine.kernel
    following = kernel.complete_for_next(machine.row("a"), 1, machine.now)
    assert following is machine.row("c")
    check_invariants(kernel)


def _at_once(machine):
    """Submit "z", and then tasks of a kind of their own, at one moment."""
    machine.kernel.pause()
    machine.submit("z", type="other", resources=Resources(cpu=1))
    machine.submit_all(*"abcde")
    machine.kernel.unpause()
    assert machine.settle() == ["a", "b"]
    assert machine.row("z").bucket.parked is not None


def test_who_has_ended_leaves_no_slot_to_the_next():
    machine = Machine(concurrency=1)
    machine.submit_all(*"abc")
    assert machine.end("a") == ["b"]
    kernel = machine.kernel
    assert kernel.complete_for_next(machine.row("a"), 1, machine.now) is None
    assert (kernel.completed, machine.state("c")) == (1, S.QUEUED)


def test_where_another_was_put_off_it_is_asked_about_first():
    machine = Machine(concurrency=2, pools=Resources(cpu=4))
    machine.policies.refuses = lambda row, worker: "no" if row.id == "z" else None
    _at_once(machine)
    kernel, row = machine.kernel, machine.row("b")
    assert kernel.complete_for_next(row, 1, machine.now) is None
    machine.policies.refuses = lambda row, worker: None
    assert machine.end("b") == ["z"]


def test_where_another_is_above_its_quota_both_ways_are_gone():
    machine = Machine(concurrency=2, pools=Resources(cpu=4))
    machine.change_quotas(Quota(type="other", max_parallel=0, soft=True))
    _at_once(machine)
    kernel, row = machine.kernel, machine.row("b")
    assert kernel.complete_for_next(row, 1, machine.now) is None
    assert machine.end("b") == ["c"]


def test_where_others_wait_for_a_slot_of_the_worker_the_first_of_them_has_it():
    machine = Machine(concurrency=4)
    machine.worker("n", "x", max_concurrency=2)
    assert machine.submit("b", type="kind", requires=("x",)) == ["b"]
    assert machine.submit_all("a", "c", requires=("x",)) == ["a"]
    assert machine.submit("elsewhere") == ["elsewhere"]
    machine.kernel.concurrency = 3
    machine.submit("d", type="kind", requires=("x",))
    kernel, row = machine.kernel, machine.row("b")
    assert kernel.complete_for_next(row, 1, machine.now) is None
    assert machine.end("b") == ["c"]


def test_of_those_that_came_out_of_order_the_first_has_the_slot():
    policies = Policies()
    policies.aging_ns = None
    policies.key = lambda row, priority, now: {"b": 0, "c": 9}.get(row.id, 1)
    machine = Machine(policies=policies, concurrency=1)
    assert machine.submit_all(*"abcd") == ["a"]
    assert machine.end("a") == ["b"]
    kernel, row = machine.kernel, machine.row("b")
    assert kernel.complete_for_next(row, 1, machine.now) is None
    assert machine.end("b") == ["d"]


@pytest.mark.parametrize("release", [False, True])
def test_who_was_woken_and_has_gone_wakes_the_next(release):
    """All of it at one moment: an end, which wakes it, and that it is called off."""
    machine = Machine(concurrency=9)
    machine.worker("n", "x", max_concurrency=1)
    machine.submit("a", requires=("x",))
    machine.submit("b", type="second", requires=("x",))
    machine.submit("c", type="third", requires=("x",))
    end, call_off = EndAttempt("a", 1, "completed"), CancelTask("b", "")
    assert machine.do(*([end, call_off] if release else [call_off, end])) == ["c"]


@pytest.mark.parametrize("ranks", [False, True])
def test_where_the_first_that_was_woken_has_gone_its_next_comes_in_its_turn(ranks):
    machine = Machine(policies=Policies(ranks=ranks), concurrency=9)
    machine.worker("n", "x", max_concurrency=1)
    machine.submit("a", requires=("x",))
    for name, kind in (("b", "second"), ("c", "third"), ("d", "second")):
        machine.now += SEC
        machine.submit(name, type=kind, requires=("x",))
    assert machine.do(EndAttempt("a", 1, "completed"), CancelTask("b", "")) == ["c"]
    assert machine.end("c") == ["d"]


def test_nothing_but_the_ways_is_different():
    """What is asserted of the two rests on their being two."""
    verbs = "submit", "complete", "complete_for_next", "dispatch"
    for verb in verbs:
        assert getattr(Kernel, verb) is not getattr(Defined, verb)
