"""Commands that change tasks, and remedies that name them: in a journal, over HTTP."""

from __future__ import annotations

import re
import shlex

import pytest
from tests.ext.command_line.tools import forget, taskorch, told
from tests.ext.service.tools import served

from taskorch import Approval, Task, TaskOrchestrator, Workflow
from taskorch.events import AgentJoined, PoolsChanged, TaskCancelled
from taskorch.ext.views import JournalReader


def build(mended):
    if not mended.exists():
        raise ValueError("not yet")


def ship():
    return "shipped"


def workflow(mended):
    flow = Workflow("flow")
    flow.task(build, mended, id="build")
    flow.task(ship, id="ship", after=["build"])
    flow.phase("say", gate=Approval())
    flow.phase("then").task(ship, id="then")
    flow.add(Task.wait_for("come", id="wait"))
    return flow


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "runs.db"
    run(path)
    yield path
    forget(tmp_path)


def run(path):
    with TaskOrchestrator(journal=path, rerun_failed=False) as orch:
        orch.workflows.start(workflow(path.parent / "mended"), id="flow")
        orch.wait()


def state(path, task_id):
    return JournalReader(path).get_task_status(task_id).state


def remedies(text):
    """What `explain` says is to be done, as words of a command."""
    found = re.findall(r"(?:→|or|complete:) (taskorch .*)", text)
    return [shlex.split(line.replace("NAME", "Ada")) for line in found]


def test_what_explain_advises_can_be_typed_as_it_stands(journal, capsys):
    said = taskorch(capsys, "explain", journal)[1]
    said += taskorch(capsys, "explain", journal, "flow/ship")[1]
    assert "orch." not in said

    found = {words[1]: words for words in remedies(said)}
    assert set(found) == {"rerun", "approve", "emit"}
    (journal.parent / "mended").touch()
    for words in found.values():
        assert taskorch(capsys, *words[1:])[0] == 0, words
    assert state(journal, "flow/build~2") == "queued"
    run(journal)
    for name in ("build", "ship", "then", "wait"):
        assert state(journal, f"flow/{name}") == "completed"


def test_tasks_of_a_journal_that_nobody_uses_are_changed_and_nothing_runs(
    journal, capsys
):
    for verb, name, becomes in (
        ("suspend", "flow/then", "suspended"),
        ("resume", "flow/then", "pending"),
        ("cancel", "flow/then", "cancelled"),
    ):
        code, out, err = taskorch(capsys, verb, journal, name)
        assert (code, err) == (0, "")
        assert f"{name} is {becomes}" in out
        assert state(journal, name) == becomes
    code, out, _ = taskorch(capsys, "cancel", journal, "flow/then", "flow/wait")
    assert code == 1
    assert "flow/then is cancelled: there is nothing to cancel" in out
    assert state(journal, "flow/wait") == "cancelled"
    code, out, _ = taskorch(capsys, "rerun", journal, "flow/build", "--json")
    (said,) = told(out)
    assert said == {"task": "flow/build~2", "changed": True, "state": "queued"}
    assert state(journal, "flow/build~2") == "queued"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["rerun", "none.db", "x"], 2, "there is no journal"),
        (["cancel", "JOURNAL", "no"], 2, "JOURNAL --tasks lists the tasks"),
        (["rerun", "JOURNAL", "flow/ship"], 2, "only what has ended is run again"),
        (["decide", "JOURNAL", "flow/ship", "retry"], 2, "taskorch rerun JOURNAL TASK"),
        (["decide", "JOURNAL", "flow/wait", "fail", "--result", "{"], 2, "is no JSON"),
        (["approve", "JOURNAL", "flow/nobody", "--by", "A"], 2, "it is asked for: say"),
        (["approve", "JOURNAL", "flow", "--by", "Ada"], 2, "write RUN/PHASE"),
        (["cancel", "http://127.0.0.1:1", "x"], 2, "cannot be reached"),
    ],
)
def test_what_cannot_be_changed_is_said_with_what_to_do(
    words, code, said, journal, capsys
):
    given = [journal if word == "JOURNAL" else word for word in words]
    got, _, err = taskorch(capsys, *given)
    assert got == code
    assert said in err.replace(str(journal), "JOURNAL")


def test_a_journal_that_is_in_use_is_left_alone(journal, capsys):
    with TaskOrchestrator(journal=journal):
        code, _, err = taskorch(capsys, "cancel", journal, "flow/then")
    assert code == 75
    assert "belongs to process" in err
    assert "if it is a service, name its URL" in err
    assert state(journal, "flow/then") == "pending"


def test_what_is_kept_is_read_from_a_journal_that_is_in_use(journal, capsys):
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.question("Ship?", id="night-1-approval"))
        code, out, err = taskorch(capsys, "questions", journal)
        assert (code, "Ship?" in out) == (0, True), err
        code, _, err = taskorch(capsys, "answer", journal, "x", "approve", "--by", "A")
        assert code == 75
        assert taskorch(capsys, "steps", journal, "flow/ship")[0] == 0
        assert taskorch(capsys, "diff", journal, "flow", "flow")[0] == 0
    words = ("approve", "--by", "Ada")
    code, _, err = taskorch(capsys, "answer", journal, "night-*", *words)
    assert code == 2
    assert "'night-*' is a pattern" in err
    assert "answer each of night-1-approval" in err
    assert taskorch(capsys, "answer", journal, "night-1-approval", *words)[0] == 0


#: Of what numbers there are, those that fail.
BAD = set()


def numbers():
    return [1, 2, 3]


def scale(n):
    if n in BAD:
        raise ValueError("two")
    return n


def mapping():
    flow = Workflow("map")
    numbers_ = flow.task(numbers, id="numbers")
    scaled = flow.map(scale, numbers_, id="scale")
    flow.task(sum, scaled, id="total")
    return flow


def run_map(path):
    with TaskOrchestrator(journal=path) as orch:
        orch.workflows.start(mapping(), id="map")
        orch.wait()


@pytest.mark.parametrize("verb", ["rerun", "runs"])
def test_what_is_printed_for_a_failed_map_can_be_typed(tmp_path, capsys, verb):
    """Its failed calls are made again, the others stay, and what waits goes on."""
    path = tmp_path / "runs.db"
    BAD.add(2)
    run_map(path)
    said = taskorch(capsys, "explain", path, "map/scale")[1]
    assert "1 of its 3 calls did not: map/scale/1 (ValueError: two)" in said
    assert "test_control.py" in said
    assert f"taskorch runs {path} restart map runs them again" in said
    words = {
        w[1]: w
        for w in [*remedies(said), ["", "runs", str(path), "restart", "map", "--yes"]]
    }
    BAD.clear()
    assert taskorch(capsys, *words[verb][1:])[0] == 0
    run_map(path)
    assert JournalReader(path).get_task_status("map/total").result == 6
    ids = {status.task_id for status in JournalReader(path).tasks()}
    assert {i for i in ids if "~" in i} == {"map/scale~2", "map/scale/1~2"}


def test_what_a_pattern_means_is_run_again(tmp_path, capsys):
    path = tmp_path / "runs.db"
    run_map(path)
    code, out, _ = taskorch(capsys, "rerun", path, "map/scale/[01]", "--json")
    again = ["map/scale/0~2", "map/scale/1~2"]
    assert (code, [said["task"] for said in told(out)]) == (0, again)
    assert taskorch(capsys, "rerun", path, "map/scale/2")[0] == 0
    assert state(path, "map/total~2") == "pending", "by its name, its run follows"
    code, _, err = taskorch(capsys, "rerun", path, "map/none/*")
    assert (code, "nothing that has ended is called like 'map/none/*'" in err) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("waiting", "says"),
    [(0, "0 tasks go on"), (1, "1 task goes on"), (11, "11 tasks go on")],
)
def test_an_event_says_how_many_go_on(tmp_path, capsys, waiting, says):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_tasks([Task.wait_for("come", id=f"w{n}") for n in range(waiting)])
    assert taskorch(capsys, "emit", path, "come")[:2] == (0, f"come: {says}\n")
    forget(tmp_path)


def test_a_service_is_asked_likewise_and_its_hints_are_requests(
    tmp_path, capsys, monkeypatch
):
    with TaskOrchestrator() as orch, served(orch) as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        orch.workflows.start(workflow(tmp_path / "mended"), id="flow")
        orch.wait()
        url = f"http://127.0.0.1:{service.server.port}"

        hints = [
            service.ask("GET", "/api/v1/stuck").said,
            service.ask("GET", "/api/v1/tasks/flow%2Fship/explanation").said,
            service.ask("POST", "/api/v1/tasks/nobody/cancel").said,
            service.ask("GET", "/api/v1/tasks/flow%2Fbuild/result").said,
        ]
        assert "orch." not in str(hints)
        assert "POST /api/v1/tasks/flow%2Fbuild/rerun" in str(hints)
        assert 'POST /api/v1/workflows/flow/approve {"gate": "say", ' in str(hints)

        (tmp_path / "mended").touch()
        code, out, _ = taskorch(capsys, "runs", url, "restart", "flow", "--yes")
        assert (code, out.partition(":")[0]) == (0, "flow was restarted")
        assert taskorch(capsys, "approve", url, "flow/say", "--by", "Ada")[0] == 0
        assert taskorch(capsys, "emit", url, "come")[1] == "come: 1 task goes on\n"
        orch.wait()
        assert orch.workflows.status("flow").counts == {"completed": 7}
        code, out, _ = taskorch(capsys, "suspend", url, "flow/ship")
        assert (code, out) == (
            1,
            "flow/ship is completed: there is nothing to suspend\n",
        )
        code, _, err = taskorch(capsys, "resume", url, "nobody")
        assert code == 2
        assert "no task has the id 'nobody'" in err


def test_a_question_is_shown_and_answered(tmp_path, capsys):
    path = tmp_path / "asked.db"
    with TaskOrchestrator(journal=path) as orch:
        ask = {"who": ("ada", "bob"), "quorum": 2, "details": {"version": "1.2"}}
        orch.submit_task(Task.question("deploy?", id="ask", **ask))
        orch.submit_task(Task.call(ship, id="ship", after=["ask"]))
        orch.stop(timeout=0)

    code, out, _ = taskorch(capsys, "questions", path)
    assert code == 0
    assert "ask: deploy?" in out
    assert "version: 1.2" in out
    words = ("answer", path, "ask", "approve", "--by")
    assert taskorch(capsys, *words, "zed")[0] == 2
    code, out, _ = taskorch(capsys, *words, "ada")
    assert (code, "needs more answers" in out) == (0, True)
    assert "CHOICE --by NAME" in taskorch(capsys, "explain", path, "ask")[1]
    assert taskorch(capsys, *words, "bob", "--note", "go")[0] == 0
    assert state(path, "ask") == "completed"
    assert "No question" in taskorch(capsys, "questions", path)[1]
    run_again = TaskOrchestrator(journal=path)
    with run_again as orch:
        assert orch.handle("ship").result(60) == "shipped"
    forget(tmp_path)


def test_a_command_changes_no_pool_and_brings_no_worker(tmp_path, capsys):
    """What it is not told to change stays as the last incarnation has left it."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, resources={"gpu": 2}) as orch:
        orch.hold_starts("for the test")
        orch.submit_task(Task.call(ship, id="other", resources={"gpu": 1}))
        orch.stop(drain=False)
    before = max(event.seq for event in JournalReader(path).happened())

    assert taskorch(capsys, "cancel", path, "other")[0] == 0
    news = [
        type(event) for event in JournalReader(path).happened() if event.seq > before
    ]
    assert TaskCancelled in news
    assert not {PoolsChanged, AgentJoined} & {*news}


def test_a_run_that_is_taken_for_a_task_is_named_as_a_run(
    tmp_path, capsys, monkeypatch
):
    path = tmp_path / "j.db"
    night = Workflow("night")
    night.task(pow, 2, 3, id="x")
    acts = {"cancel": "cancel", "rerun": "restart"}
    with TaskOrchestrator(journal=path) as orch:
        orch.workflows.start(night, id="run").result(60)
        with served(orch) as service:
            monkeypatch.setenv("TASKORCH_TOKEN", service.token)
            for command, act in acts.items():
                url = service.server.url
                code, _, err = taskorch(capsys, command, url, "run")
                assert (code, f"taskorch runs {url} {act} run" in err) == (2, True)
    for command, act in acts.items():
        code, _, err = taskorch(capsys, command, path, "run")
        assert (code, f"taskorch runs {path} {act} run" in err) == (2, True)
