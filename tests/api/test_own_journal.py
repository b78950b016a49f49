"""A durable orchestrator on journals that know nothing but the protocol."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.core.workflows.functions import BROKEN, CALLS, step
from tests.house.own_journal import EXAMPLES, LinesJournal

from taskorch import (
    JournalTakenError,
    RetryPolicy,
    SqliteJournal,
    Task,
    TaskOrchestrator,
    TaskState,
    Workflow,
    WorkflowFailedError,
)
from taskorch.errors import ResultGoneError

RAN: list[object] = []
BAD: set[object] = set()


def work(value):
    RAN.append(value)
    if value in BAD:
        BAD.remove(value)
        raise ValueError(value)
    return [value]


class MinimalJournal:
    """A Journal, and no DurableJournal."""

    def __init__(self, path):
        journal = LinesJournal(path)
        self.claim, self.document = journal.claim, journal.document
        self.append, self.read, self.close = journal.append, journal.read, journal.close


@pytest.fixture(autouse=True)
def _clean():
    for each in (RAN, BAD, CALLS, BROKEN):
        each.clear()


def opens(made, tmp_path):
    return lambda **options: TaskOrchestrator(
        journal=made(tmp_path / "runs"), **options
    )


@pytest.fixture(params=[LinesJournal, MinimalJournal, SqliteJournal])
def incarnation(request, tmp_path):
    """Opens an orchestrator with a journal of each kind."""
    return opens(request.param, tmp_path)


@pytest.fixture(params=[LinesJournal, SqliteJournal])
def durable(request, tmp_path):
    """Opens an orchestrator with a journal that can be asked."""
    return opens(request.param, tmp_path)


@pytest.fixture
def lines(tmp_path):
    return opens(LinesJournal, tmp_path)


def test_what_was_done_is_not_done_again(incarnation):
    for _ in range(3):
        with incarnation() as orch:
            tasks = [Task.call(work, n, id=f"task/{n}") for n in range(20)]
            results = [handle.result(PATIENCE) for handle in orch.submit_tasks(tasks)]
            assert results == [[n] for n in range(20)]
    assert sorted(RAN) == list(range(20))


def test_what_was_left_goes_on(incarnation):
    later = datetime.now(UTC) + timedelta(hours=1)
    with incarnation() as orch:
        orch.submit_task(Task.call(work, "held", id="held", not_before=later))
        orch.submit_task(Task.call(work, "then", id="then", after=["held"]))
        orch.stop(drain=False)
    assert RAN == []
    with incarnation() as orch:
        assert orch.get_task_status("then").state is TaskState.PENDING
        orch.submit_task(Task.call(work, "held", id="held"), replace=True)
        assert orch.handle("then").result(PATIENCE) == ["then"]
    assert RAN == ["held", "then"]


def test_a_key_means_the_same_task(incarnation):
    ids = set()
    for n in range(3):
        with incarnation() as orch:
            task = Task.call(work, "keyed", idempotency_key="é/1")
            handle = orch.submit_task(task)
            ids.add(handle.task_id)
            assert handle.result(PATIENCE) == ["keyed"], n
    assert len(ids) == 1
    assert RAN == ["keyed"]


def test_attempts_are_counted_on(incarnation):
    BAD.add("flaky")
    with incarnation() as orch:
        policy = RetryPolicy(3, base=0.001)
        task = Task.call(work, "flaky", id="flaky", retry=policy)
        assert orch.submit_task(task).result(PATIENCE) == ["flaky"]
    with incarnation() as orch:
        assert orch.get_task_status("flaky").attempts == 2
        assert orch.handle("flaky").result(PATIENCE) == ["flaky"]
    assert RAN == ["flaky", "flaky"]


def test_a_run_is_restarted_where_it_failed(incarnation):
    wf = Workflow("sums")
    a = wf.task(step, "a", id="a")
    wf.task(step, "b", a, id="b")
    BROKEN.add("b")
    with incarnation() as orch, pytest.raises(WorkflowFailedError):
        orch.workflows.start(wf, id="x").result(PATIENCE)
    BROKEN.clear()
    with incarnation() as orch:
        run = orch.workflows.get("x")
        assert run.status().tasks == {"a": "completed", "b": "failed"}
        orch.workflows.restart("x")
        assert run.result(PATIENCE)["b"] == "b(a())"
    assert CALLS == ["a", "b", "b"]


def test_what_has_left_memory_is_asked_for(durable):
    with durable(keep_finished=0) as orch:
        handles = orch.submit_tasks([Task.call(work, n, id=f"t/{n}") for n in range(9)])
        orch.wait(PATIENCE)
        keyed = orch.submit_task(Task.call(work, "key", idempotency_key="k"))
        assert keyed.result(PATIENCE) == ["key"]
        del handles
    with durable(keep_finished=0) as orch:
        assert [s.task_id for s in orch.tasks()][:9] == [f"t/{n}" for n in range(9)]
        assert orch.handle("t/7").result(PATIENCE) == [7]
        below = Task.call(work, "below", after=["t/8"])
        assert orch.submit_task(below).result(PATIENCE) == ["below"]
        again = orch.submit_task(Task.call(work, "key", idempotency_key="k"))
        assert again.task_id == keyed.task_id
    assert RAN.count("key") == 1


def test_one_that_cannot_be_asked_forgets_and_says_so(tmp_path):
    incarnation = opens(MinimalJournal, tmp_path)
    with incarnation(keep_finished=0) as orch:
        orch.submit_task(Task.call(work, 1, id="one"))
        orch.wait(PATIENCE)
    with incarnation(keep_finished=0) as orch:
        assert orch.get_task_status("one").state is TaskState.COMPLETED
        with pytest.raises(ResultGoneError):
            orch.handle("one").result(PATIENCE)
        checks = {check.component: check for check in orch.health().checks}
        said = "MinimalJournal is no DurableJournal: what has left memory is forgotten"
        assert (checks["journal"].status, checks["journal"].detail) == ("ok", said)


def test_opening_begins_with_the_snapshot(lines, tmp_path):
    with lines() as orch:
        orch.submit_task(Task.call(work, 1, id="one"))
    journal = LinesJournal(tmp_path / "runs")
    saved, last = journal.snapshot(), [event[1] for event, _ in journal.read()][-1]
    assert saved[0] == last
    with lines() as orch:
        assert orch.handle("one").result(PATIENCE) == [1]
    assert RAN == [1]


def test_a_second_owner_is_refused(durable):
    with durable() as orch:
        with pytest.raises(JournalTakenError):
            durable().start()
        assert orch.submit(work, 1).result(PATIENCE) == [1]


def test_logs_of_programs_are_beside_it(lines, tmp_path):
    with lines() as orch:
        program = Task.program([sys.executable, "-c", "print('hello')"], id="p")
        result = orch.submit_task(program).result(PATIENCE)
    assert result.stdout_tail == "hello\n"
    assert [path for path in (tmp_path / "runs.logs").rglob("*") if path.is_file()]


class Ailing(LinesJournal):
    """It has something to do while nobody writes, and that does not help."""

    def __init__(self, path):
        super().__init__(path)
        self.calls = count()
        self.done = 0

    def needs_upkeep(self):
        return next(self.calls) >= 0 and self.done < 2

    def upkeep(self, epoch):
        assert epoch == self._epoch
        self.done += 1

    def troubles(self):
        return ["the shelf is full: make room", "and it is old"]


def test_what_ails_it_is_said(tmp_path, caplog):
    journal = Ailing(tmp_path / "runs")
    said = "the shelf is full: make room; and it is old"
    with (
        caplog.at_level(logging.ERROR, logger="taskorch"),
        TaskOrchestrator(journal=journal) as orch,
    ):
        orch.submit(work, 1).result(PATIENCE)
        eventually(lambda: journal.done == 2, "nobody has put it in order")
        health = orch.health()
    checks = {check.component: check for check in health.checks}
    assert (checks["journal"].status, checks["journal"].detail) == ("degraded", said)
    assert said in [record.getMessage() for record in caplog.records]


KILLED = """
    import os, signal, sys
    sys.path.append(sys.argv[1])
    from own_journal import LinesJournal
    from taskorch import Task, TaskOrchestrator

    def ends(n):
        if n == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        with open(f"ran-{n}", "a") as file:
            file.write("x")
        return n

    if __name__ == "__main__":
        with TaskOrchestrator(journal=LinesJournal("runs"), concurrency=1) as orch:
            tasks = [Task.call(ends, n, id=f"t/{n}") for n in range(8)]
            handles = orch.submit_tasks(tasks)
            print("accepted", flush=True)
            print(sum(handle.result() for handle in handles))
"""


@pytest.mark.slow("a process that is killed, and another")
@pytest.mark.parametrize("dies_at", [0, 5])
def test_what_was_accepted_outlives_a_kill(tmp_path, dies_at):
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED), encoding="utf-8")

    def run(n):
        return subprocess.run(
            [sys.executable, script, EXAMPLES, str(n)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    killed = run(dies_at)
    assert killed.returncode < 0, killed.stderr
    # What a write that was cut short would leave.
    with (tmp_path / "runs").open("ab") as file:
        file.write(b'0123abcd ["group", [99, "Task')
    done = run(-1)
    assert done.stdout.splitlines() == ["accepted", "28"], done.stderr
    ran = [(tmp_path / f"ran-{n}").read_text(encoding="utf-8") for n in range(8)]
    assert all(ran)
    again = run(-1)
    assert again.stdout == done.stdout, again.stderr
    assert [
        (tmp_path / f"ran-{n}").read_text(encoding="utf-8") for n in range(8)
    ] == ran


FORKED = """
    import os, sys
    sys.path.append(sys.argv[1])
    from own_journal import LinesJournal
    from taskorch import JournalTakenError
    from taskorch.events import OrchestratorStarted

    journal = LinesJournal("runs")
    epoch = journal.claim()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writes)
        try:
            journal.append(epoch, [(OrchestratorStarted(1, 1, 1), None)])
        except JournalTakenError:
            os.read(reads, 1)
            os._exit(3)
        os._exit(4)
    os.close(reads)
    journal.close()
    other = LinesJournal("runs")
    print(other.claim(), list(other.read()))
    os.close(writes)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_no_part_in_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKED), EXAMPLES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "2 []\n3\n", done.stderr
