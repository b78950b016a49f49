"""Two tasks that may write the same file do not run together."""

from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings, strategies as st
from tests.core.kernel.harness import SEC, Machine
from tests.house.tools.examples import examples

from taskorch.core.kernel import Search, check_invariants, explain
from taskorch.core.kernel._application import begin as begin_attempt
from taskorch.errors import InternalError
from taskorch.model import (
    TaskState,
)
from taskorch.model.scopes import prefixes_of, scopes_overlap

S = TaskState
PARTS = ("a", "b", "c")
prefixes = st.lists(st.sampled_from(PARTS), max_size=3).map("/".join)
scopes = st.lists(prefixes, min_size=1, max_size=3).map(prefixes_of)


@pytest.fixture
def machine():
    return Machine(concurrency=50)


def writes(machine, task_id, *paths, **options):
    return machine.submit(task_id, writes=prefixes_of(paths), **options)


def why(machine, task_id):
    return explain(machine.kernel, machine.row(task_id), machine.now)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("src/a/**", "src/a/**", False),
        ("src/**", "src/a/b.py", False),
        ("src/a/b.py", "src/**", False),
        ("src/a", "src/ab", True),
        ("src/a/**", "src/b/**", True),
        ("**", "docs/x.md", False),
        ("src/*.py", "src/a/b", False),
        ("Src/A", "src/a/b", False),
        ("straße", "STRASSE/x", False),
        ("e\u0301", "\u00c9/x", False),
        ("./src//a/", "src/a", False),
    ],
)
def test_prefixes_exclude_each_other(machine, one, other, together):
    assert writes(machine, "one", one) == ["one"]
    assert writes(machine, "other", other) == (["other"] if together else [])
    assert scopes_overlap(prefixes_of([one]), prefixes_of([other])) is not together
    assert machine.end("one") == ([] if together else ["other"])


def test_explain_names_who_may_write_it_and_what(machine):
    writes(machine, "one", "src/a/**", "docs/x.md")
    writes(machine, "two", "src/**")
    (blocker,) = why(machine, "two").blockers
    assert blocker.kind == "scope"
    assert blocker.holders == ("one",)
    assert "src, and so may one (docs/x.md, src/a)" in blocker.detail
    writes(machine, "three", "src/b")
    (blocker,) = why(machine, "three").blockers
    assert (blocker.kind, blocker.name) == ("scope", "two")
    writes(machine, "four", "**")
    assert "may write **, and so may one" in str(why(machine, "four"))


def test_what_a_stuck_attempt_may_write_keeps_others():
    machine = Machine()
    writes(machine, "one", "src/a")
    machine.suspend("one", holdable=True)
    writes(machine, "two", "src")
    search = Search(machine.kernel, machine.now, {})
    for _ in search.slices():
        pass
    assert "two" in {name for group in search.groups for name in group.tasks}


def test_locks_that_nobody_needs_are_forgotten():
    machine = Machine(listening=False, keep_finished=0)
    kernel = machine.kernel
    writes(machine, "lasts", "keep/me")
    kernel.most_buckets = kernel.limits[-1].most = 20
    for number in range(100):
        writes(machine, f"t{number}", f"x/{number}")
        machine.end(f"t{number}")
        kernel.most_buckets = kernel.limits[-1].most = 20
    assert len(kernel.beside) < 60
    assert writes(machine, "last", "keep") == []
    assert machine.end("lasts") == ["last"]


def test_locks_and_folders_of_who_waits_are_not_forgotten(machine):
    kernel = machine.kernel
    writes(machine, "one", "docs")
    writes(machine, "waits", "docs", "x/1")
    kernel.limits[-1].most = 0
    assert writes(machine, "other", "y") == ["other"]
    assert machine.end("one") == ["waits"]
    assert writes(machine, "wide", "x") == []
    assert machine.end("waits") == ["wide"]


@given(st.lists(st.tuples(scopes, st.integers(0, 2)), max_size=12), st.randoms())
@settings(max_examples=examples(40), deadline=None)
def test_by_brute_force(tasks, dice):
    machine = Machine(concurrency=8, listening=False)
    running: dict[str, tuple[str, ...]] = {}
    for number, (paths, priority) in enumerate(tasks):
        begin(
            machine,
            running,
            machine.submit(f"t{number}", writes=paths, priority=priority),
        )
        if running and dice.random() < 0.4:
            name = dice.choice([*running])
            del running[name]
            begin(machine, running, machine.end(name))
    while running:
        name = dice.choice([*running])
        del running[name]
        begin(machine, running, machine.end(name))
    assert all(row.state is S.COMPLETED for row in machine.kernel.tasks.values())


def begin(machine, running, names):
    """These have begun: no two that run may write the same, nobody waits for nothing."""
    running |= {name: machine.row(name).bucket.spec.writes for name in names}
    for one, other in combinations(running.values(), 2):
        assert not scopes_overlap(one, other)
    for row in machine.kernel.tasks.values():
        if row.state is S.QUEUED and len(running) < 8:
            assert not explain(machine.kernel, row, machine.now).runnable


def bent(machine, change):
    writes(machine, "one", "src/a")
    writes(machine, "wide", "src/**")
    check_invariants(machine.kernel)
    change(machine.kernel)
    with pytest.raises(InternalError) as fault:
        check_invariants(machine.kernel)
    return str(fault.value)


def also_runs(kernel):
    """Another one runs, whatever it may write."""
    row = kernel.tasks["wide"]
    row.bucket.pop(row)
    begin_attempt(kernel, row, kernel.workers["local"], (), "", SEC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (also_runs, "wide and one may write the same, and both run"),
        (lambda k: setattr(k.beside["quota:writes=src/a"], "used", 0), "not known"),
        (lambda k: k.beside.pop("quota:writes=src/a"), "not known"),
        (
            lambda k: k.limits[-1].writers.update({("one", 1): None}),
            "keep what they may write",
        ),
        (
            lambda k: setattr(k.limits[-1], "first", k.tasks["one"]),
            "turn of one, which is running",
        ),
        (lambda k: setattr(k.limits[-1].turn, "used", 0), "would not wait for it"),
        (lambda k: setattr(k.limits[-1], "first", None), "would not wait for it"),
    ],
)
def test_what_is_bent_is_noticed(machine, change, words):
    assert words in bent(machine, change)


def optimum(tasks):
    """The fewest rounds in which all *tasks* run, those of a round side by side."""
    count = len(tasks)
    others = [
        sum(
            1 << j
            for j in range(count)
            if j != i and scopes_overlap(tasks[i], tasks[j])
        )
        for i in range(count)
    ]
    alone, best = [True], [0]
    for chosen in range(1, 1 << count):
        low = (chosen & -chosen).bit_length() - 1
        rest = chosen & (chosen - 1)
        alone.append(alone[rest] and not others[low] & chosen)
        part, fewest = chosen, count
        while part:
            if alone[part]:
                fewest = min(fewest, best[chosen ^ part] + 1)
            part = (part - 1) & chosen
        best.append(fewest)
    return best[-1]


def rounds(tasks, *, by_one):
    """How many rounds the kernel takes, if all tasks take equally long."""
    machine = Machine(concurrency=50, listening=False)
    running: list[str] = []
    if not by_one:
        machine.kernel.pause()
    for number, paths in enumerate(tasks):
        running += machine.submit(f"t{number}", writes=paths)
        machine.now += 1
    machine.kernel.unpause()
    running += machine.settle()
    count = 0
    while running:
        count += 1
        for name in running:
            row = machine.row(name)
            machine.kernel.complete(row, row.attempt, machine.now)
        running = machine.settle()
    return count


def parallelism(seeds, count):
    """The rounds of the exact optimum, in parts of those that the kernel takes."""
    fewest = batch = stream = 0
    for seed in seeds:
        dice = Random(seed)
        tasks = [
            prefixes_of(
                f"{dice.choice('abcd')}/{dice.choice('abcd')}"[: dice.choice([1, 3, 3])]
                for _ in range(3)
            )
            for _ in range(count)
        ]
        fewest += optimum(tasks)
        batch += rounds(tasks, by_one=False)
        stream += rounds(tasks, by_one=True)
    return fewest / batch, fewest / stream


@pytest.mark.slow("sixty exact optima")
def test_nearly_as_many_run_together_as_could_of_more():
    assert min(parallelism(range(60), 9)) >= 0.9
