"""
The workload that is killed: all that a durable orchestrator promises is in it.

It may be run again on the journal that it was killed over, as often as that happens,
and comes to the same results. What it does and what it was promised stands in a ledger:

    effect ID EPOCH ATTEMPT     a task did its work
    accepted ID                 its submission has returned
    told ID                     an event said that it is completed
    done ID RESULT              its handle gave the result
"""

from collections import Counter
from pathlib import Path

from tests.worlds.faults import ledger

from taskorch import RetryPolicy, SqliteJournal, Task, TaskOrchestrator, current_context
from taskorch.core.engine import _committer
from taskorch.core.journal import _file
from taskorch.events import TaskCancelled, TaskCompleted, TaskFailed, TaskSubmitted
from taskorch.ext.views import JournalReader

ENDS = (TaskCompleted, TaskFailed, TaskCancelled)
RESULTS = {
    "plain": 32,
    "square": 1024,
    "flaky": 5,
    "once": "once",
    "steps": [1, 2, 3],
    "total": 1029,
    "after": "after",
    "keyed": "keyed",
}


def effect(value):
    context = current_context()
    ledger.note("effect", context.task_id, *context.fence)
    return value


def power(base, exponent):
    return effect(base**exponent)


def flaky():
    # Also the second attempt of an incarnation may be the first that comes so far.
    if current_context().attempt == 1:
        raise OSError("once is never")
    return effect(5)


def steps():
    context = current_context()
    done = list(context.restored or ())
    while len(done) < 3:
        done.append(len(done) + 1)
        context.checkpoint(list(done))
    return effect(done)


def total(numbers):
    return effect(sum(numbers))


def submissions(orch):
    """Submit what there is to do, and say so; the handles by name."""
    handles = {}

    def submit(name, fn, *args, **options):
        task = Task.call(fn, *args, **options)
        handles[name] = orch.submit_task(task)
        ledger.note("accepted", name)

    submit("plain", power, 2, 5, id="plain")
    submit("square", power, handles["plain"], 2, id="square")
    retry = RetryPolicy(max_attempts=3, base=0, jitter=0)
    submit("flaky", flaky, id="flaky", retry=retry)
    submit("once", effect, "once", id="once", idempotent=False)
    submit("steps", steps, id="steps")
    submit("total", total, [handles["square"], handles["flaky"]], id="total")
    submit("after", effect, "after", id="after", after=[handles["once"]])
    submit("keyed", effect, "keyed", idempotency_key="keyed")
    return handles


def settle(orch, journal):
    """Decide on what must not run twice as one would who can look whether it ran."""
    if orch.get_task_status("once").state == "blocked":
        if any(task_id == "once" for task_id, *_ in ledger.of(journal, "effect")):
            orch.decide("once", "complete", "once")
        else:
            orch.decide("once", "retry")


def run(journal: Path, **options) -> None:
    """All of it, once more."""
    ledger.open_ledger(journal)
    with TaskOrchestrator(journal=journal, durability="process", **options) as orch:
        orch.signals.task_completed.connect(
            lambda event: ledger.note("told", event.task_id)
        )
        handles = submissions(orch)
        settle(orch, journal)
        for name, handle in handles.items():
            assert handle.result(timeout=30) == RESULTS[name]
            ledger.note("done", handle.task_id, name)


def check(journal: Path) -> None:
    """What must be so, however often and wherever it was killed."""
    entries = list(SqliteJournal(journal).read())
    born = [
        (event[3], document)
        for (event, document) in entries
        if event[0] is TaskSubmitted
    ]
    ids = {document.idempotency_key or task_id: task_id for task_id, document in born}
    assert sorted(ids) == sorted(RESULTS), "every submission is there, once"
    assert len(born) == len(RESULTS)
    names = {task_id: name for name, task_id in ids.items()}

    ends = [(event, document) for event, document in entries if event[0] in ENDS]
    assert Counter(names[event[3]] for event, _ in ends) == dict.fromkeys(RESULTS, 1)
    assert {event[0] for event, _ in ends} == {TaskCompleted}
    assert {names[event[3]]: document for event, document in ends} == RESULTS

    check_effects(journal, names)


def check_effects(journal, names):
    over = set()
    fences = {name: [] for name in RESULTS}
    for kind, task_id, *rest in ledger.lines(journal):
        if kind == "effect":
            assert task_id not in over, f"{task_id} was over, and ran again"
            fences[names[task_id]].append(tuple(map(int, rest)))
        elif kind in ("told", "done"):
            over.add(task_id)
    assert over == set(names)
    for name, seen in fences.items():
        assert seen, f"{name} is completed, and did nothing"
        assert seen == sorted(set(seen)), f"{name}: its fence did not rise: {seen}"
    assert len(fences["once"]) == 1, "it must not run twice"


def run_with_snapshots(journal: Path) -> None:
    """As `run`, with a snapshot after every few events, and tasks that leave memory."""
    _committer._SNAPSHOT_EVENTS = 5
    _committer._SNAPSHOT_SHARE = 0
    run(journal, keep_finished=1)


# -- what ended long ago leaves the journal ------------------------------------------


def run_with_retention(journal: Path) -> None:
    """
    Some incarnations, each of which begins by leaving out what the incarnations before
    have done.
    """
    _file._FREE_PAGES = 1
    _file._FREE_SHARE = 0
    for incarnation in range(2):
        kept = SqliteJournal(journal, durability="process", keep_latest=2)
        orch = TaskOrchestrator(journal=kept, unknown_capability="wait")
        # All at once, so that there are few groups, and few points.
        needed = Task.call(len, "need", id="needed")
        never = Task("for nobody", id="never")
        waits = Task.call(len, "x", id="waits", after=[needed, never])
        pad = {"pad": "x" * 10_000}
        tasks = [
            Task.call(len, "x" * n, id=f"{incarnation}/{n}", metadata=pad)
            for n in range(4)
        ]
        handles = orch.submit_tasks([needed, never, waits, *tasks])
        with orch:
            for handle in handles[3:]:
                handle.result(timeout=30)
            orch.stop(drain=False)


def check_retention(journal: Path) -> None:
    """It is whole, and what is not needed has gone whole, or is there whole."""
    assert SqliteJournal(journal).verify()
    reader = JournalReader(journal)
    found = {one.task_id: one for one in reader.tasks()}
    assert found.pop("needed").result == 4
    assert found.pop("never").state in ("queued", "blocked")
    assert found.pop("waits").state in ("pending", "blocked")
    assert 4 <= len(found) <= 4 + 2
    assert {f"1/{n}" for n in range(4)} <= set(found)
    for name, status in found.items():
        assert status.result == int(name.partition("/")[2])
        assert type(reader.events(name)[0]) is TaskSubmitted
    assert "never" in str(reader.explain("waits"))
