"""The small examples run, and do what they say."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from taskorch.ext.views import JournalReader

EXAMPLES = Path(__file__).parents[3] / "examples"


def output_of(name: str, *arguments: object) -> list[str]:
    """Return what an example prints that is run in this process."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as output:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return output.getvalue().splitlines()


def output_of_program(name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_own_router_keeps_a_customer_with_one_agent():
    lines = output_of("own_router.py")

    pairs = [tuple(line.split()) for line in lines]
    assert len(pairs) == 8
    assert len({customer for customer, _ in pairs}) == len(set(pairs))
    assert {worker for _, worker in pairs} == {"paris", "tokyo"}


def test_elastic_shows_who_held_what():
    """Never more than there is; alone it has all, and the rigid one four or none."""
    lines = output_of("elastic.py")

    assert lines[0] == "R render  I index  T totals  B backup"
    bars = [line.split("|")[1] for line in lines[2:]]
    assert all(len(bar) == 16 for bar in bars)
    assert bars[0] == "R" * 16
    assert {bar.count("B") for bar in bars} == {0, 4}
    assert any({*"RIT"} <= {*bar} for bar in bars)


@pytest.mark.slow("three runs of a program")
def test_durable_goes_on_after_a_kill(tmp_path):
    command = [sys.executable, "-W", "error", EXAMPLES / "durable.py"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, tmp_path / "runs.db", *options],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    killed = run("--die")
    # What had ended may not all be kept yet.
    reader = JournalReader(tmp_path / "runs.db")
    kept = [each.task_id for each in reader.tasks(state="completed")]
    resumed, again = run(), run()

    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.splitlines() == [f"fetching page {n}" for n in range(4)]
    lines = resumed.stdout.splitlines()
    pages = [n for n in range(6) if f"page/{n}" not in kept]
    assert lines == [*(f"fetching page {n}" for n in pages), "total 55"]
    assert pages[-3:] == [3, 4, 5]
    assert again.stdout == "total 55\n"


def test_plan_again_takes_the_taxi():
    *first, rest, results = output_of("plan_again.py")
    assert {*first} == {"a book", "there is no train today"}
    assert (rest, results) == ("['go-taxi']", "{'go-taxi': 'taxi'}")


def test_own_learning_router_knows_the_night_before():
    assert output_of("own_learning_router.py") == ["monday ['monday-0']", "tuesday []"]


def test_an_extension_counts_on_in_the_next_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seats, expired in ("2", "A-1"), ("4", "A-1, A-2"):
        lines = output_of("howto/extension.py")
        assert lines == [seats, "4", f"expired: {expired}"]


def test_own_recovery_keeps_its_laws():
    assert output_of("own_recovery.py") == ["they keep their laws"]


def test_own_nice_executor_makes_the_call():
    assert output_of("own_nice_executor.py") == ["1024"]


def test_own_validator_names_every_fault():
    assert output_of("own_validator.py") == [
        "cat.png is 640 wide",
        "refused: payload.width must be int, not 'wide'",
        "refused: payload.height is missing",
    ]


def test_simulate_says_what_a_plan_comes_to():
    lines = output_of("simulate.py")

    assert lines[0].startswith("19 tasks would take 3 h")
    assert any("train → review → send" in line for line in lines)
    assert lines[-1] == "So: 2 more cpu."


def test_workflow_counts_words_and_restarts():
    lines = output_of("workflow.py")

    assert lines[0] == "failed: {'report': OSError('the printer is out of paper')}"
    assert lines[1].startswith("monday is failed: 4 of 5 tasks completed, 1 failed.")
    assert lines[2] == "the 3, cat 2, dog 2"


def test_merge_results_asks_about_the_branch_that_does_not_fit():
    lines = output_of("merge_results.py")

    assert lines[0].startswith("logic_error: a person always decides about it.")
    assert {*lines[1:3]} == {"merge taskorch/docs", "merge taskorch/parser"}
    assert lines[3] == "begin"


def test_phases_fail_once_and_report():
    lines = output_of("phases.py")

    assert lines[0].startswith("failed: {'A2': AssertionError(")
    assert lines[1].startswith("tuesday is failed: 2 of 14 tasks completed, 1 failed, ")
    assert lines[2] == "slowest: 0.8 s"
    completed = "tuesday is completed: 17 tasks, 17 completed, 18 attempts, in "
    assert lines[3].startswith(completed)
    assert [line.split()[0] for line in lines[5::2]] == ["passed"] * 3


def test_own_journal_computes_once(tmp_path):
    for _ in range(2):
        assert output_of("own_journal.py", tmp_path / "runs") == ["204"]


@pytest.mark.slow("worker processes, and kills")
def test_own_executor_holds_and_kills():
    lines = output_of_program("own_executor.py")

    assert lines == ["1024", "running", "suspended", "cancelled"]


def test_spans_show_where_the_time_went():
    # It sets the provider of its whole process.
    assert output_of_program("spans.py") == [
        "uploaded taskorch.whl",
        "nightly",
        "  RUN release",
        "    submit",
        "      compile_wheel v1/wheel:1 success",
        "        allocate",
        "        route",
        "        read sources",
        "      validate",
        "      validate",
        "      upload v1/upload:1 failure",
        "        allocate",
        "        route",
        "        retry",
        "      upload v1/upload:2 success",
        "        allocate",
        "        route",
    ]


@pytest.mark.slow("worker processes, and kills")
def test_processes_lose_a_worker_and_kill_one():
    lines = output_of_program("processes.py")

    assert lines[:2] == [
        "1229 primes in 4 parts",
        "attempt 2 went on with half of it",
    ]
    assert lines[2].endswith("attempt 1 ran longer than its timeout of 1 s")


def test_quickstart_ends_well():
    assert output_of_program("quickstart.py") == [
        "longest word: orchestrator",
        "squares: [0, 1, 4, 9, 16, 25]",
        "review: a.py looks good (attempt 1)",
        "review: engine.py looks good (attempt 2)",
        "program: 42",
        "flour: KeyError('flour')",
        "bake is blocked.",
        "It needs flour, which has failed, and will not complete unless it is run again.",
        "  → Run again what failed, and let it complete: orch.rerun_task('flour').",
        "bake: bread of 500 g of flour",
    ]


@pytest.mark.slow("tries again, and waits for a timeout")
def test_program_agents_are_tried_again_and_ended():
    good, flaky, broken, endless = output_of_program("program_agents.py")

    assert good == "good.py looks good, attempts: 1"
    assert flaky == "flaky.py looks good, attempts: 2"
    assert broken.startswith("ProgramFailedError: ")
    assert "line 7: unexpected end of file" in broken
    assert endless.startswith("TaskTimeoutError: task endless.py: attempt 1 ran longer")


def test_web_handler_answers_and_refuses():
    lines = [line.split(maxsplit=3) for line in output_of("web_handler.py")]

    assert lines[0] == ["GET", "/primes/1000", "200", "168"]
    assert [status for _, path, status, _ in lines if "/reports/" in path] == [
        *["202"] * 5,
        "503",
        *["200", "200", "404"],
    ]
    assert lines[-2][3] == "reports/may is completed"


@pytest.mark.slow("runs pytest")
def test_own_policy_halves_the_wait_and_its_tests_pass():
    *_, average = output_of_program("own_policy_tested.py")
    _, first_come, _, shortest_first, _ = average.split()
    assert int(shortest_first) < int(first_come) / 2

    done = subprocess.run(
        [sys.executable, "-m", "pytest", EXAMPLES / "own_policy_tested.py"],
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_their_page_leads_to_every_example():
    """With what each shows; a new one is entered there."""
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"]
    assert [name for name in names if f"]({name})" not in page] == []


def test_plan_words_does_not_believe_the_model():
    lines = output_of("plan_words.py")

    assert lines[1].startswith("Plan friday: 2 tasks, 1800 s")
    # What the model was told to do is no type: the rules have found the other.
    assert "ship(): ship" in lines


@pytest.mark.slow("learns while it runs")
def test_adaptive_shows_what_was_learnt_when():
    lines = output_of_program("adaptive.py")

    assert lines[0] == "waiting"
    assert lines[31] == "counting"
    assert any(line.startswith("2 threads:") for line in lines)
    assert "thread_utilisation=" in lines[-1]


@pytest.mark.parametrize(
    "where",
    [
        "thread",
        *(
            pytest.param(
                each, marks=pytest.mark.slow("processes, workers, Dask and Ray")
            )
            for each in ["process", "agents", "dask", "ray"]
        ),
    ],
)
def test_one_program_counts_the_same_on_all_machines(where):
    if where in {"dask", "ray"}:
        pytest.importorskip({"dask": "distributed"}.get(where, where))
    done = subprocess.run(
        [sys.executable, EXAMPLES / "many_machines.py", where],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2,262 primes below 20,000\n"


@pytest.mark.parametrize("name", ["examples/howto/postgresql.py"])
def test_what_needs_a_server_is_a_program(name):
    """The types are checked with those of all examples; `test_postgres_page` runs it."""
    path = EXAMPLES.parent / name
    compile(path.read_text(encoding="utf-8"), str(path), "exec")
