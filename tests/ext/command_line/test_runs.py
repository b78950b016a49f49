"""`taskorch runs`: what it lists, shows and changes, in a journal and at a service."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from tests.api.tools import eventually
from tests.ext.command_line.tools import taskorch, told
from tests.ext.service.tools import recorded, served, shown

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.ext.views import JournalReader

pytest.importorskip("cronsim")

TICK = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)


def numbers():
    return [1, 2, 3]


def call(number):
    if number == 2 and "~" not in current_context().task_id:
        raise ValueError("no page \x1b[31m2")
    return number


def well(*_):
    return 1


def pipeline():
    flow = Workflow("pipeline")
    flow.map(call, flow.task(numbers, id="many"), id="pages")
    flow.task(well, id="load", after=["pages"])
    return flow


def run(path):
    """Two nights of a pipeline, three of a task alone, a run that asks somebody."""
    with TaskOrchestrator(journal=path, rerun_failed=False) as orch:
        orch.schedules.add("night", "0 3 * * *", pipeline(), zone="Europe/Berlin")
        orch.schedules.backfill(
            "night", TICK - timedelta(hours=2), TICK + timedelta(days=1), limit=9
        )
        orch.schedules.add("alone", "0 4 * * *", well, overlap="queue")
        orch.schedules.backfill("alone", TICK, TICK + timedelta(days=3), limit=9)
        asks = Workflow("asks")
        asks.add(Task.question("Well?", who=["ada"], id="sign"))
        asks.task(well, id="then", after=["sign"])
        orch.workflows.start(asks, id="asks-1", parameters={"shop": "rome"})
        orch.wait()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "runs.db"
    run(path)
    return path.read_bytes()


@pytest.fixture
def journal(made, tmp_path):
    path = tmp_path / "runs.db"
    path.write_bytes(made)
    return path


def listed(capsys, place, *words):
    code, out, _ = taskorch(capsys, "runs", place, "list", *words, "--json")
    assert code == 0
    return told(out)


def ids(rows):
    return [row["id"] for row in rows]


def state(path, run_id):
    """The state of a run, by the journal alone."""
    tasks = JournalReader(path).tasks(id=f"{run_id}/*")
    latest = {each.task_id.partition("~")[0]: str(each.state) for each in tasks}
    return {name.rpartition("/")[2]: each for name, each in latest.items()}


FILTERS = (
    (),
    ("--state", "failed"),
    ("--state", "open"),
    ("--state", "broken", "--id", "night-*"),
    ("--schedule", "alone"),
    ("--day", "2026-01-03"),
    ("--since", "2026-01-03T00:00+00:00", "--until", "2026-01-03T03:30+00:00"),
    ("--since", "1h"),
    ("--limit", "2", "--id", "*-*"),
)


def test_a_journal_and_its_service_list_and_show_the_same(journal, capsys, monkeypatch):
    with recorded(journal) as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        url = service.server.url
        for which in FILTERS:
            rows = listed(capsys, journal, *which)
            assert ids(rows) == ids(listed(capsys, url, *which)), which
        for run_id in ids(listed(capsys, journal, "--limit", "0")):
            words = ("show", run_id, "--json")
            here, there = (
                told(taskorch(capsys, "runs", place, *words)[1])[0]
                for place in (journal, url)
            )
            for each in (here, there):
                # It goes on.
                each["run"].pop("seconds")
            assert here == there


def test_the_list_is_of_what_is_wanted_newest_first(journal, capsys):
    rows = listed(capsys, journal)
    assert [row["submitted"] for row in rows] == sorted(
        (row["submitted"] for row in rows), reverse=True
    )
    states = {row["id"]: row["state"] for row in rows}
    assert states["asks-1"] == "blocked"
    failed = {name for name, each in states.items() if each == "failed"}
    assert failed == {"night-2026-01-02T0200Z", "night-2026-01-03T0200Z"}
    assert len(states) == 6
    assert set(ids(listed(capsys, journal, "--state", "failed"))) == failed
    assert ids(listed(capsys, journal, "--state", "open")) == ["asks-1"]
    # A night is one of the schedule's own zone.
    assert ids(listed(capsys, journal, "--day", "2026-01-03", "--id", "night*")) == [
        "night-2026-01-03T0200Z"
    ]
    assert {
        row["schedule"] for row in listed(capsys, journal, "--schedule", "alone")
    } == {"alone"}
    assert ids(listed(capsys, journal, "--since", "1h")) == ["asks-1"]
    assert len(listed(capsys, journal, "--until", "1h")) == 5
    only = listed(capsys, journal, *FILTERS[6])
    assert ids(only) == ["night-2026-01-03T0200Z"]


@pytest.mark.parametrize("limit", [1, 4, 6, 7])
def test_pages_of_the_list_are_the_whole_list(journal, capsys, limit):
    rows, after = [], ()
    while page := listed(capsys, journal, "--limit", limit, *after):
        assert len(page) <= limit
        rows += ids(page)
        after = ("--after", page[-1]["id"])
    assert rows == ids(listed(capsys, journal, "--limit", "0"))


def test_a_long_list_is_asked_for_in_pages(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.schedules.add("often", "*/15 * * * *", well, overlap="queue")
        orch.schedules.backfill("often", TICK, TICK + timedelta(hours=60), limit=300)
        orch.wait()
    every = ids(listed(capsys, path, "--limit", "0"))
    assert len(every) == len({*every}) == 241
    assert ids(listed(capsys, path, "--limit", "210")) == every[:210]


def test_the_list_says_who_began_a_run_and_what_failed(journal, capsys):
    code, out, _ = taskorch(capsys, "runs", journal, "--limit", "5")
    assert code == 0
    head, *lines, more = out.splitlines()
    assert "(UTC)" in head
    assert len(lines) == 5
    text = next(each for each in lines if "night-2026-01-03" in each)
    assert "a backfill" in text
    assert r"ValueError: no page \x1b[31m2" in text
    assert "a program" in next(each for each in lines if "asks-1" in each)
    assert more.startswith("There are more: --after ")
    assert taskorch(capsys, "runs", journal, "--id", "x")[1] == "No run is like that.\n"


def test_a_run_is_shown_with_its_tasks_and_what_blocks_it(journal, capsys):
    out = taskorch(capsys, "runs", journal, "show", "night-2026-01-03T0200Z")[1]
    lines = dict(
        line.strip().split("  ", 1) for line in out.splitlines() if "  " in line.strip()
    )
    said = {name: " ".join(text.split()) for name, text in lines.items()}
    assert out.startswith("night-2026-01-03T0200Z is failed\n")
    assert said["began by"] == "a backfill"
    assert said["schedule"] == "night"
    assert said["scheduled"] == "2026-01-03 03:00 Europe/Berlin"
    assert said["tasks"] == "3 of 6 completed, 2 failed, 1 stuck"
    assert said["started"].endswith(" UTC")
    assert "completed 1 " in said["many"]
    assert r"failed 1" in said["pages/1"]
    assert r"ValueError: no page \x1b[31m2" in said["pages/1"]
    assert "1 failed, 2 completed" in said["3 calls"]
    assert "taskorch rerun" in out
    assert "last good" not in out

    asks = taskorch(capsys, "runs", journal, "show", "asks-1")[1]
    assert "parameters  shop='rome'" in asks
    assert "taskorch answer" in asks
    good = "alone/2026-01-04T0400Z"
    both = taskorch(capsys, "runs", journal, "show", good, "asks-1")[1]
    assert both.startswith(f"{good} is completed")
    assert "last good  alone/2026-01-03T0400Z" in both
    assert both.endswith(asks)


# -- acts ------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


NIGHTS = ("night-2026-01-02T0200Z", "night-2026-01-03T0200Z")


def test_what_cannot_be_undone_is_asked_and_nobody_is_no_yes(
    journal, capsys, monkeypatch
):
    before = {name: state(journal, name) for name in NIGHTS}
    words = ("runs", journal, "restart", NIGHTS[0])
    code, out, err = taskorch(capsys, *words)
    assert (code, out) == (2, "")
    assert f"{NIGHTS[0]}: Runs 2 tasks again. As it was: nobody says here" in err
    assert "1 task that waited goes on." in err
    assert "--yes" in err
    for answer in ("", "n\n", "maybe\n", "\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        code, out, err = taskorch(capsys, *words)
        assert (code, out) == (1, "Nothing was done.\n")
        assert "Go on? [y/N]" in err
    # Programs are not asked.
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert taskorch(capsys, *words, "--json")[0] == 2
    assert {name: state(journal, name) for name in NIGHTS} == before

    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    code, out, _ = taskorch(capsys, *words)
    assert code == 0
    assert out.startswith(f"{NIGHTS[0]} was restarted")
    assert "It runs when the program is run again" in out
    with TaskOrchestrator(journal=journal, rerun_failed=False) as orch:
        orch.wait()
    assert set(state(journal, NIGHTS[0]).values()) == {"completed"}
    assert state(journal, NIGHTS[1]) == before[NIGHTS[1]]
    assert listed(capsys, journal, "--id", NIGHTS[0])[0]["state"] == "mended"
    code, out, _ = taskorch(capsys, *words, "--yes")
    assert (code, out.startswith(f"{NIGHTS[0]} has nothing to restart")) == (1, True)


def test_a_pattern_means_what_is_broken_or_open(journal, capsys):
    code, out, _ = taskorch(capsys, "runs", journal, "restart", "*", "--yes", "--json")
    assert code == 0
    done = {row["run"]: row["changed"] for row in told(out)}
    # What waits for a person has not ended, and is blocked.
    assert done.keys() - {"asks-1"} == {*NIGHTS}
    assert all(done[name] for name in NIGHTS)
    code, out, _ = taskorch(
        capsys, "runs", journal, "cancel", "asks-*", "--yes", "--reason", "too late"
    )
    assert (code, "asks-1 was cancelled: Cancels 2 tasks." in out) == (0, True)
    assert set(state(journal, "asks-1").values()) == {"cancelled"}
    assert "too late" in taskorch(capsys, "inspect", journal, "asks-1/sign")[1]
    code, _, err = taskorch(capsys, "runs", journal, "cancel", "asks-*", "--yes")
    assert (code, "no run that is open is called like 'asks-*'" in err) == (2, True)


def test_runs_of_a_service_are_changed(capsys, monkeypatch):
    with shown() as service:
        orch = service.orch
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        place = service.server.url
        flow = Workflow("flow")
        flow.add(Task.wait_for("go", id="a"))
        flow.task(well, id="b", after=["a"])
        orch.workflows.start(flow, id="flow")
        orch.schedules.add("alone", "0 4 * * *", well)
        (alone,) = orch.schedules.backfill("alone", TICK, TICK + timedelta(hours=5))
        orch.handle(alone).result(60)

        def act(*words):
            code, out, _ = taskorch(capsys, "runs", place, *words)
            return code, out.strip()

        assert act("pause", "flow") == (0, "flow is paused")
        assert orch.get_task_status("flow/a").state == "suspended"
        assert act("resume", "flow") == (0, "flow goes on")

        assert act("cancel", "flow", "--yes") == (
            0,
            "flow was cancelled: Cancels 2 tasks.",
        )
        assert orch.get_task_status("flow/a").state == "cancelled"
        # One task, which a schedule has made, is a run.
        assert act("restart", alone, "--yes")[0] == 0
        eventually(lambda: orch.get_task_status(f"{alone}~2").state == "completed")
        code, out = act("cancel", alone, "--yes")
        assert (code, f"{alone} has nothing to cancel" in out) == (1, True)


def test_a_service_without_a_dashboard_says_so(capsys, monkeypatch):
    with served(TaskOrchestrator()) as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        code, out, err = taskorch(capsys, "runs", service.server.url)
    assert (code, out) == (2, "")
    assert "the service has no dashboard" in err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("show", "nothing"), "there is no run 'nothing'"),
        (("show",), "runs show: which run?"),
        (("restart",), "runs restart: which run?"),
        (("restart", "nothing", "--yes"), "nothing"),
        (("pause", "nothing"), "'nothing' (taskorch runs JOURNAL lists all)"),
        (("list", "night"), "is one word too many"),
        (("list", "--after", "gone"), "there is no run 'gone' any more"),
        (("list", "--state", "odd"), "invalid choice"),
        (("list", "--day", "2026-13-45"), "not '2026-13-45' (such as 2026-11-25)"),
        (("list", "--day", "tuesday"), "day: a date is needed, not 'tuesday'"),
        (("list", "--schedule", "nigth"), "did you mean 'night'?"),
        (("list", "--since", "odd"), "is no time"),
        (("fly", "night"), "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused(journal, capsys, words, why):
    code, out, err = taskorch(capsys, "runs", journal, *words)
    assert (code, out) == (2, "")
    assert why in err
