"""What attempts say that they have spent: programs, processes, and who is killed."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import (
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.errors import InvalidTaskError, TaskorchError, WouldBlockError
from taskorch.ext.views import JournalReader

ROOT = Path(__file__).parents[3]


@pytest.fixture
def orch():
    with TaskOrchestrator(concurrency=8) as orch:
        yield orch


def program(script, tokens=20, **options):
    return Task.program(["sh", "-c", script], resources={"tokens": tokens}, **options)


def said(**amounts):
    """A line of a script that says what it has spent."""
    return f"echo '{json.dumps(amounts)}' >\"$TASKORCH_SPENT\"\n"


def spent(orch, task, name="release"):
    """What a budget has been spent by *task*, and by nothing else."""
    budget = orch.budget(name, tokens=1_000_000, eur=1_000_000)
    before = budget.usage.spent["tokens"]
    with budget:
        handle = orch.submit_task(task)
    assert handle.exception(PATIENCE) is None or True
    return budget.usage.spent["tokens"] - before


def test_a_program_says_what_it_has_spent(orch):
    script = said(tokens=3) + said(tokens=4, eur=0.5)
    with orch.budget("release", tokens=100, eur=2) as budget:
        orch.submit_task(program(script)).result(PATIENCE)
    assert budget.usage.spent == {"tokens": 7, "eur": 0.5}
    assert budget.usage.reserved == {"tokens": 0, "eur": 0}


def test_it_counts_while_the_program_runs(orch, tmp_path):
    go = tmp_path / "go"
    script = said(tokens=30) + f"while [ ! -e {go} ]; do sleep 0.01; done"
    with orch.budget("release", tokens=100) as budget:
        handle = orch.submit_task(program(script))
        eventually(lambda: budget.usage.spent["tokens"] == 30)
        # It was more than it had reserved.
        assert budget.usage.left["tokens"] == 70
    go.touch()
    handle.result(PATIENCE)


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        ("printf '{\"tokens\": 5}'", 5),
        ("printf '\\n\\n{\"tokens\": 5}\\n\\n'", 5),
        ("echo '{\"tokens\": 0}'", 0),
        ("true", 20),
        # Nobody knows what that is.
        ("echo 'tokens 5'", 20),
        ("echo '{\"tokens\": -5}'", 20),
        ("echo '{\"tokens\": NaN}'", 20),
        ("echo '{\"tokens\": true}'", 20),
        ('echo \'{"tokens": 5, "tokens": 6}\'', 20),
        ("echo 7", 20),
        ('printf \'{"tokens": 5}\\n{"tok\'', 20),
        ("printf '{\"tokens\": 50}\\nwhat\\n'", 50),
        ("printf 'what\\n{\"tokens\": 5}'", 25),
        ("head -c 200000 /dev/zero | tr '\\0' x", 20),
    ],
)
def test_what_it_says_is_counted_or_all_that_it_reserved(orch, caplog, words, tokens):
    script = f'{words} >"$TASKORCH_SPENT"'
    assert spent(orch, program(script)) == tokens
    is_known = tokens in (0, 5) or words == "true"
    assert ("TASKORCH_SPENT what is no JSON" in caplog.text) is not is_known


@pytest.mark.parametrize(
    ("end", "tokens", "counted"),
    [
        ("exit 3", 5, 5),
        ("kill -9 $$", 5, 20),
        ("kill -TERM $$", 5, 20),
        ("kill -9 $$", 50, 50),
    ],
)
def test_of_a_program_that_is_cut_off_all_that_it_reserved_counts(
    orch, end, tokens, counted
):
    assert spent(orch, program(said(tokens=tokens) + end)) == counted


@pytest.mark.parametrize(("tokens", "counted"), [(5, 20), (50, 50)])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_so_it_does_of_one_that_is_stopped(orch, how, tokens, counted):
    budget = orch.budget("release", tokens=1_000)
    timeout = 0.5 if how == "timeout" else None
    script = said(tokens=tokens) + "sleep 600"
    handle = orch.submit_task(program(script, timeout=timeout, budget="release"))
    eventually(lambda: budget.usage.spent["tokens"] == tokens)
    if how == "cancel":
        handle.cancel()
    with pytest.raises(TaskorchError):
        handle.result(PATIENCE)
    assert budget.usage.spent["tokens"] == counted


@pytest.mark.parametrize(
    ("amounts", "counted"),
    [
        ({"tokns": 9}, 20),
        ({"tokens": 5, "tokns": 9}, 20),
        ({"tokens": 50, "eru": 1}, 50),
    ],
)
def test_of_a_program_that_names_what_its_budget_has_not_all_counts(
    orch, caplog, amounts, counted
):
    """What it named right counts, too; the log names the other, and what was meant."""
    assert spent(orch, program(said(**amounts))) == counted
    strange = next(name for name in amounts if name != "tokens")
    meant = {"tokns": "tokens", "eru": "eur"}[strange]
    assert f"has no '{strange}'; did you mean '{meant}'?" in caplog.text


@pytest.mark.parametrize("way", ["thread", "process", "coroutine", "part"])
def test_what_its_budget_has_not_is_refused_by_name(orch, way):
    """Nothing of that call counts, so the attempt has spent all that it reserved."""
    orch.budget("release", tokens=100, eur=2)
    budget = orch.budget("part", parent="release", tokens=50)
    options = {"budget": budget.name, "resources": {"tokens": 20}}
    if way == "process":
        options["executor"] = "process"
    fn = slip_in_a_coroutine if way == "coroutine" else slip
    task = Task.call(fn, **options)
    with pytest.raises(
        InvalidTaskError, match=r"has no 'tokns'; did you mean 'tokens'"
    ):
        orch.submit_task(task).result(PATIENCE)
    assert budget.usage.spent == {"tokens": 20}


def test_a_part_takes_what_only_the_whole_has_and_a_task_of_no_budget_anything(orch):
    whole = orch.budget("release", tokens=100, eur=2)
    orch.budget("part", parent="release", tokens=50)
    orch.submit_task(Task.call(pay_euros, budget="part")).result(PATIENCE)
    assert whole.usage.spent["eur"] == 1
    orch.submit(pay_euros).result(PATIENCE)


def pay_euros():
    current_context().spent(eur=1)


def slip():
    current_context().spent(tokns=5, eur=1)


async def slip_in_a_coroutine():
    await current_context().aio.spent(tokns=5, eur=1)


def test_a_program_that_is_held_to_its_scopes_says_it(orch, tmp_path):
    held = {"cwd": tmp_path, "writes": ["out"], "enforce": "if possible"}
    assert spent(orch, program(said(tokens=3), **held)) == 3


def test_only_who_draws_on_a_budget_is_asked(orch):
    show = 'test -z "${TASKORCH_SPENT:-}" && echo none'
    result = orch.submit_task(Task.program(["sh", "-c", show])).result(PATIENCE)
    assert result.stdout_tail == "none\n"
    # What it starts by an orchestrator of its own does not speak for it.
    script = "import os; print(os.environ.get('TASKORCH_SPENT'))"
    nested = (
        "import sys; from taskorch import TaskOrchestrator, Task\n"
        "with TaskOrchestrator() as orch:\n"
        f"    task = Task.program([sys.executable, '-c', {script!r}], inherit_env=True)\n"
        "    print(orch.submit_task(task).result().stdout_tail)"
    )
    with orch.budget("release", tokens=100):
        task = Task.program([sys.executable, "-c", nested], inherit_env=["PYTHONPATH"])
        result = orch.submit_task(task).result(PATIENCE)
    assert result.stdout_tail.split() == ["None"]


def test_many_programs_that_end_as_they_like_never_count_less(orch):
    """Each counts what it has said, or all that it reserved where that is not known."""
    draw = random.Random(20)
    budget = orch.budget("release", tokens=400, eur=5)
    handles, expected = [], 0
    for _ in range(40):
        words = [draw.randint(0, 6) for _ in range(draw.randint(0, 3))]
        script = "".join(said(tokens=many) for many in words)
        end = draw.choice(["", "exit 1", "kill -9 $$", "echo what >$TASKORCH_SPENT"])
        handles.append(orch.submit_task(program(script + end, 12, budget="release")))
        is_known = words and end in ("", "exit 1")
        expected += sum(words) if is_known else max(12, sum(words))
        assert budget.usage.spent["tokens"] + budget.usage.reserved["tokens"] <= 400
    while not all(handle.done() for handle in handles):
        for question in orch.questions():
            more = {"tokens": budget.usage.total["tokens"] + 100}
            orch.answer(question.id, "raise", by="ann", changes=more)
        orch.wait(timeout=0.05)
        # Those that were killed had reserved enough for what they said, or nearly.
        assert budget.usage.reserved["tokens"] <= 8 * 12
    assert budget.usage.spent["tokens"] == expected
    assert budget.usage.reserved["tokens"] == 0


INCARNATION = """
import os, signal, sys
from taskorch import (
    Agent,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)

def work(life):
    current_context().spent(tokens=50)
    os.kill(life, signal.SIGKILL)

if __name__ == "__main__":
    with TaskOrchestrator(journal="runs.db") as orch:
        with orch.budget("release", tokens=100):
            where = {"executor": sys.argv[1]} if sys.argv[1] else {}
            needs = {"tokens": 20}
            orch.submit_task(Task.call(work, os.getpid(), resources=needs, **where))
        orch.wait()
"""


@pytest.mark.parametrize("executor", ["", "process"])
def test_what_was_said_is_known_after_a_kill(tmp_path, executor):
    """As soon as `spent` has returned, though it was more than was reserved."""
    (tmp_path / "flow.py").write_text(INCARNATION)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    command = [sys.executable, "flow.py", executor]
    incarnation = subprocess.run(command, env=env, cwd=tmp_path, check=False)
    assert incarnation.returncode == -signal.SIGKILL
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        (budget,) = orch.resources.budgets()
        assert budget.spent["tokens"] == 50
        orch.stop(drain=False, timeout=0)


async def by_await():
    await current_context().aio.spent(tokens=3)


async def by_blocking():
    current_context().spent(tokens=3)


def test_coroutines_wait_for_it_by_await(tmp_path):
    with (
        TaskOrchestrator(journal=tmp_path / "runs.db") as orch,
        orch.budget("release", tokens=10) as budget,
    ):
        orch.submit(by_await).result(PATIENCE)
        assert budget.usage.spent["tokens"] == 3
        with pytest.raises(WouldBlockError):
            orch.submit(by_blocking).result(PATIENCE)
        assert budget.usage.spent["tokens"] == 3


def test_a_result_from_the_cache_has_spent_nothing(orch):
    """Whoever makes it has, in threads, coroutines and processes."""

    async def in_loop(page):
        await current_context().aio.spent(tokens=3)
        return page

    budget = orch.budget("release", tokens=100)
    options = {"cache": True, "budget": "release", "resources": {"tokens": 20}}
    for number, task in enumerate(
        (
            Task.call(_cached, 7, **options),
            Task.call(in_loop, 7, **options),
            Task.call(_cached, 8, executor="process", **options),
        ),
        1,
    ):
        for _ in range(3):
            handle = orch.submit_task(task)
            handle.result(PATIENCE)
            eventually(lambda n=number: budget.usage.spent["tokens"] == 3 * n)
        assert budget.usage.reserved["tokens"] == 0
        assert orch.get_task_status(handle.task_id).spent == {"tokens": 0}


def _cached(page):
    current_context().spent(tokens=3)
    return page


def test_a_task_and_a_run_say_what_all_attempts_have_spent(orch):
    orch.budget("release", tokens=1_000, eur=5)
    script = said(tokens=5) + "exit 3"
    task = program(script, id="a", budget="release", retry=RetryPolicy(2, base=0.001))
    with pytest.raises(TaskorchError):
        orch.submit_task(task).result(PATIENCE)
    assert orch.get_task_status("a").spent == {"tokens": 10}
    assert orch.get_task_status("a").to_dict()["spent"] == {"tokens": 10}
    workflow = Workflow("w")
    workflow.program(
        ["true"], id="b", budget="release", resources={"tokens": 7, "eur": 0.5}
    )
    workflow.program(["true"], id="c")
    run = orch.workflows.start(workflow)
    run.result(PATIENCE)
    report = run.report()
    spent = {task.name: task.spent for task in report.tasks}
    assert spent == {"b": {"tokens": 7, "eur": 0.5}, "c": None}
    assert report.spent == {"tokens": 7, "eur": 0.5}
    assert "spent 0.5 eur and 7 tokens" in str(report)
    orch.rerun_task(f"{run.workflow_id}/b").result(PATIENCE)
    assert run.report().spent == {"tokens": 14, "eur": 1}


def fails_first(tokens):
    context = current_context()
    context.spent(tokens=tokens)
    if context.attempt == 1:
        raise OSError


def test_what_a_task_has_spent_is_known_once_it_has_left_memory(tmp_path):
    """In its status and to the journal's reader: the same as while it was there."""
    path = tmp_path / "runs.db"
    retry = RetryPolicy(2, base=0)
    some = {"budget": "release", "resources": {"tokens": 20}}
    tasks = [
        Task.call(_cached, 1, id="said", **some),
        Task.call(fails_first, 5, id="again", retry=retry, **some),
        Task.call(fails_first, 50, id="failed", **some),
        Task.call(os.getpid, id="silent", **some),
        program(said(tokens=7) + "kill -9 $$", id="cut", budget="release"),
        Task.call(os.getpid, id="free"),
    ]
    counted = {"said": 3, "again": 10, "failed": 50, "silent": 20, "cut": 20}
    with TaskOrchestrator(journal=path, keep_finished=1) as orch:
        budget = orch.budget("release", tokens=1_000)
        for task in tasks:
            handle = orch.submit_task(task)
            assert handle.exception(PATIENCE) is None or True
        for name, tokens in counted.items():
            assert orch.get_task_status(name).spent == {"tokens": tokens}, name
        assert orch.get_task_status("free").spent is None
        assert budget.usage.spent["tokens"] == sum(counted.values())
    reader = JournalReader(path)
    spent = {s.task_id: s.spent for s in reader.tasks()}
    assert {n: (spent[n] or {}).get("tokens") for n in counted} == counted
    for name, tokens in counted.items():
        assert reader.get_task_status(name).spent == {"tokens": tokens}, name
