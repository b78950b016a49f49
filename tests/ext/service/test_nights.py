"""What the dashboard is told of runs and of nights: the same as whoever knows them says."""

from __future__ import annotations

import gc
import random
from datetime import UTC, datetime, timedelta

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.tools import Service, recorded, shown

from taskorch import Task, TaskOrchestrator, Workflow, current_context

JOINS = ("all", "finished", "any")
FATES = ("block", "skip", "fail", "run")


def well(*_):
    return 1


def ill(*_):
    raise ValueError("it is ill")


def ill_once(*_):
    if "~" not in current_context().task_id:
        raise ValueError("it is ill at first")
    return [1, 2]


def many(numbers):
    return numbers


def call(number):
    if number == 2:
        ill()
    return number


def flow_of(seed):
    """A random workflow, some tasks of which fail; a map, or a question in others."""
    rng = random.Random(seed)
    flow = Workflow(f"flow-{seed}")
    nodes = []
    for number in range(rng.randint(2, 6)):
        above = rng.sample(nodes, min(len(nodes), rng.randint(0, 2)))
        nodes.append(
            flow.task(
                rng.choice((well, well, ill, ill_once)),
                id=f"t{number}",
                after=above,
                join=rng.choice(JOINS) if above else "all",
                on_parent_failure=rng.choice(FATES),
            )
        )
    if rng.random() < 0.3:
        flow.map(call, flow.task(many, [1, 2, 3], id="many"), id="map")
    if rng.random() < 0.2:
        flow.add(Task.question("Well?", id="asked"))
    return flow


def rest(orch):
    # Between two ticks of a backfill, no task is there.
    if any(each.state == "running" for each in orch.schedules.backfills()):
        return False
    numbers = orch.get_stats().state_machine
    return not (numbers.running or numbers.queued or numbers.retrying)


def settle(orch):
    eventually(lambda: rest(orch))


def lines(service):
    eventually(lambda: not service.get("/api/v1/runs")["is_reading"])
    return {each["id"]: each for each in service.get("/api/v1/runs?limit=1000")["runs"]}


def said_of(status):
    counts = {str(state): number for state, number in status.counts.items()}
    return (
        str(status.state),
        len(status.tasks),
        counts.get("completed", 0),
        counts.get("failed", 0),
    )


def shown_of(line):
    state = {"mended": "completed"}.get(line["state"], line["state"])
    return state, line["total"], line["completed"], line["failed"]


def told(service):
    return {name: shown_of(line) for name, line in lines(service).items()}


def test_what_memory_has_is_entered():
    with TaskOrchestrator() as orch:
        runs = [orch.workflows.start(flow_of(seed)) for seed in range(15)]
        settle(orch)
        for run in runs[::2]:
            orch.workflows.restart(run.workflow_id)
        settle(orch)
        want = {run.workflow_id: said_of(run.status()) for run in runs}
        with orch.serve(port=0) as server:
            service = Service(orch, server, server.token)
            assert told(service) == want
            orch.workflows.restart(runs[1].workflow_id)
            settle(orch)
            want[runs[1].workflow_id] = said_of(runs[1].status())
            eventually(
                lambda: (
                    {n: shown_of(line) for n, line in lines(service).items()} == want
                )
            )


def test_the_nights_of_schedules_and_what_waits():
    pytest.importorskip("cronsim")
    now = datetime.now(UTC)
    with shown() as service:
        orch = service.orch
        flow = Workflow("pipeline")
        flow.task(ill, id="load")
        orch.schedules.add("good", "0 3 * * *", Task.call(well))
        orch.schedules.add("bad", "0 3 * * *", flow, zone="Europe/Berlin")
        for name in ("good", "bad"):
            orch.schedules.backfill(name, now - timedelta(days=5), now, limit=9)
        settle(orch)
        orch.schedules.pause("good", "no supplier")
        orch.submit_task(Task.question("Ship?", id="ship"))

        def nights(query=""):
            return service.get(f"/api/v1/nights{query}")

        eventually(lambda: nights()["questions"]["count"] == 1)
        said = nights()
        rows = {each["name"]: each for each in said["schedules"]}
        assert rows["good"]["paused"] == "no supplier"
        assert [each["state"] for each in rows["good"]["cells"]] == ["completed"] * 5
        assert [each["state"] for each in rows["bad"]["cells"]] == ["failed"] * 5
        # The latest stands first, and a night is a day of the schedule's zone.
        days = [each["at"] for each in rows["bad"]["cells"]]
        assert days == sorted(days, reverse=True)
        assert said["broken"]["count"] == 5
        assert said["broken"]["tasks"][0]["message"] == "it is ill"
        run = rows["bad"]["cells"][0]["run"]
        assert run["by"] == "backfill"
        (found,) = service.get(f"/api/v1/runs?schedule=bad&day={days[0]}")["runs"]
        assert found["id"] == run["id"]
        assert len(service.get("/api/v1/runs?state=broken")["runs"]) == 5
        assert len(nights("?by=ticks&days=2")["schedules"][0]["cells"]) == 2
        for wrong in ("?by=weeks", "?until=soon", "?days=0", "?days=401"):
            assert service.ask("GET", f"/api/v1/nights{wrong}").status == 400


def test_a_night_is_a_day_of_the_schedules_zone(tmp_path):
    """Whether its events are heard or read, or memory has what it made."""
    pytest.importorskip("cronsim")
    path = tmp_path / "runs.db"
    moment = datetime(2026, 1, 5, 12, tzinfo=UTC)

    def days(service):
        eventually(lambda: not service.get("/api/v1/nights")["is_reading"])
        said = service.get("/api/v1/nights?until=2026-01-05&days=3")
        (row,) = said["schedules"]
        return [each["at"] for each in row["cells"]]

    want = ["2026-01-05", "2026-01-04"]
    for options in ({}, {"journal": path}):
        with TaskOrchestrator(**options) as orch:
            # In UTC it is the day before.
            times = "0 0 * * *"
            orch.schedules.add("s", times, Task.call(well), zone="Europe/Berlin")
            orch.schedules.backfill("s", moment - timedelta(days=2), moment)
            settle(orch)
            with orch.serve(port=0) as server:
                assert days(Service(orch, server, server.token)) == want
    with recorded(path) as service:
        assert days(service) == want


def test_ticks_that_got_nothing_are_shown_with_the_reason():
    pytest.importorskip("cronsim")
    with shown() as service:
        schedules = service.orch.schedules
        schedules.add("s", 0.2, Task.call(well))
        eventually(lambda: service.get("/api/v1/runs")["runs"])
        schedules.pause("s", "no supplier")

        def skipped():
            (row,) = service.get("/api/v1/nights?by=ticks")["schedules"]
            return [each for each in row["cells"] if each["state"] == "skipped"]

        while not skipped():
            schedules.resume("s")
            schedules.pause("s", "no supplier")
        assert "no supplier" in skipped()[0]["reason"]
        assert skipped()[0]["run"] is None


def test_runs_are_listed_page_by_page_the_latest_first():
    with shown() as service:
        for number in range(5):
            flow = Workflow("flow")
            flow.task(well, id="a")
            service.orch.workflows.start(flow, id=f"run-{number}").result(PATIENCE)
        eventually(lambda: len(lines(service)) == 5)
        names, after = [], ""
        for _ in range(3):
            said = service.get(f"/api/v1/runs?limit=2&after={after}")
            names += [each["id"] for each in said["runs"]]
            after = said["next"]
        assert names == [f"run-{number}" for number in (4, 3, 2, 1, 0)]
        assert after is None
        for query, count in (("id=*-3", 1), ("state=completed", 5), ("state=open", 0)):
            assert len(service.get(f"/api/v1/runs?{query}")["runs"]) == count
        # A run that a page has shown may be in another state by the next one.
        behind = service.get("/api/v1/runs?state=completed&id=*-[01]&after=run-3")
        assert [each["id"] for each in behind["runs"]] == ["run-1", "run-0"]
        answer = service.ask("GET", "/api/v1/runs?after=gone")
        assert answer.status == 400
        assert "begin anew" in answer.said["detail"]


def test_a_run_says_what_comes_after_what_and_folds_its_maps(tmp_path):
    path = tmp_path / "runs.db"
    flow = Workflow("flow")
    first = flow.task(many, [1, 2, 3], id="first")
    flow.task(well, flow.map(call, first, id="each"), id="last")
    with TaskOrchestrator(journal=path) as orch, orch.serve(port=0) as server:
        run = orch.workflows.start(flow, id="r")
        settle(orch)
        heard = Service(orch, server, server.token).get("/api/v1/runs/r")
        with recorded(path) as service:
            told = service.get("/api/v1/runs/r")
        for said in (heard, told):
            names = {each["name"]: each for each in said["tasks"]}
            assert names.keys() == {"first", "each", "last"}
            assert names["last"]["after"] == ["each"]
            assert names["each"]["after"] == ["first"]
            assert said["maps"]["each"]["states"] == {"failed": 1, "completed": 2}
            assert said["maps"]["each"]["left_out"] == 0
            # What failed stands first.
            error = said["maps"]["each"]["first"][0]["error"]
            assert error["message"].endswith("it is ill")
            attempts = sum(handle.status.attempts for handle in run.handles.values())
            spans = [each["spans"] for each in names.values()]
            spans += [each["spans"] for each in said["maps"]["each"]["first"]]
            assert sum(map(len, spans)) == said["attempts"] == attempts
        calls = Service(orch, server, server.token).get("/api/v1/runs/r?under=each")[
            "tasks"
        ]
        assert [each["state"] for each in calls] == ["failed", "completed", "completed"]
        assert (
            Service(orch, server, server.token).ask("GET", "/api/v1/runs/no").status
            == 404
        )


def test_of_a_run_all_tasks_that_left_memory_are_counted():
    """Also the calls of a map that are not shown."""
    flow = Workflow("flow")
    flow.map(well, flow.task(many, [*range(150)], id="first"), id="each")
    with shown(keep_finished=1) as service:
        # Who has a handle keeps what it stands for.
        service.orch.workflows.start(flow, id="r").result(PATIENCE)
        gc.collect()
        service.orch.submit(well).result(PATIENCE)
        each = service.get("/api/v1/runs/r")["maps"]["each"]
        assert (len(each["first"]), each["left_out"]) == (100, 50)
        # The task that adds them, the map, and its calls.
        eventually(lambda: service.get("/api/v1/runs/r")["left_memory"] == 152)


def test_a_task_has_its_runs_those_of_earlier_nights_and_its_arguments():
    with shown() as service:
        orch = service.orch
        for number in range(3):
            flow = Workflow("night")
            flow.task(ill_once, number, id="load")
            orch.workflows.start(flow, id=f"night-{number}")
        settle(orch)
        orch.rerun_task("night-2/load").result(PATIENCE)
        eventually(lambda: len(lines(service)) == 3)
        said = service.get("/api/v1/tasks/night-2%2Fload/earlier")
        names = [each["run_id"] for each in said["runs"]]
        assert names[:2] == ["night-2/load~2", "night-2/load~1"]
        assert set(names[2:]) == {"night-0/load", "night-1/load"}
        assert said["arguments"] == [["0", "2"]]
        assert lines(service)["night-2"]["state"] == "mended"
        # What a run is compared with: the latest good one before it.
        assert service.get("/api/v1/runs/night-2")["last_good"] is None
        good = Workflow("night")
        good.task(well, id="load")
        orch.workflows.start(good, id="night-3").result(PATIENCE)
        flow = Workflow("night")
        flow.task(ill, id="load")
        orch.workflows.start(flow, id="night-4")
        settle(orch)
        eventually(
            lambda: service.get("/api/v1/runs/night-4")["last_good"] == "night-3"
        )
        # A later one says nothing of how it was before.
        assert service.get("/api/v1/runs/night-1")["last_good"] is None
        failed = {f"night-{number}/load" for number in (0, 1, 4)}

        def broken():
            tasks = service.get("/api/v1/nights")["broken"]["tasks"]
            return {each["task"] for each in tasks}

        eventually(lambda: broken() == failed)


def test_what_waits_for_what_failed_has_failed_and_who_is_asked_is_waited_for():
    with shown() as service:
        orch = service.orch
        flow = Workflow("stuck")
        flow.task(well, id="b", after=[flow.task(ill, id="a")])
        orch.workflows.start(flow, id="stuck")
        asks = Workflow("asks")
        asks.add(Task.question("Well?", id="q"))
        orch.workflows.start(asks, id="asks")

        def states():
            return {name: line["state"] for name, line in lines(service).items()}

        eventually(lambda: states() == {"stuck": "failed", "asks": "blocked"})
        assert lines(service)["stuck"]["stuck"] == 1
        assert lines(service)["asks"]["ended"] is None
        orch.workflows.pause("asks")
        eventually(lambda: states()["asks"] == "suspended")
        orch.workflows.resume("asks")
        eventually(lambda: states()["asks"] == "blocked")


def test_previews_say_what_would_be_touched_and_touch_nothing():
    pytest.importorskip("cronsim")
    now = datetime.now(UTC)
    with shown(concurrency=1) as service:
        orch = service.orch
        orch.schedules.add("nightly", "0 3 * * *", Task.call(well))
        orch.schedules.backfill("nightly", now - timedelta(days=2), now, limit=9)
        orch.submit_task(Task.call(ill, id="ill"))
        orch.submit_task(Task.call(well, id="after", after=["ill"]))
        settle(orch)

        def preview(operation, subject, **more):
            asked = {"operation": operation, "subject": subject, **more}
            query = "&".join(f"{key}={value}" for key, value in asked.items())
            return service.get(f"/api/v1/previews?{query}")

        said = preview("rerun_task", "ill")
        assert said["tasks"] == ["ill"]
        assert said["text"] == "Runs 1 task again. 1 task waits for what it comes to."
        assert preview("cancel_task", "ill")["does_something"] is False
        assert preview("cancel_task", "after")["tasks"] == ["after"]
        since = (now - timedelta(days=4)).isoformat()[:19]
        said = preview(
            "backfill_schedule", "nightly", since=since, until=now.isoformat()[:19]
        )
        assert (said["count"], said["text"]) == (
            2,
            "Makes 2 of 4 ticks. 2 have been made already, and stay as they are.",
        )
        assert preview("trigger_schedule", "nightly")["text"].startswith("Starts ")
        assert preview("trigger_schedule", "nightly")["parameters"] == []
        assert len(orch.schedules.list()) == 1
        assert len(list(orch.tasks(id="nightly/*"))) == 2
        for query in ("operation=stop&subject=x", "subject=x"):
            assert service.ask("GET", f"/api/v1/previews?{query}").status == 400
        asked = "operation=rerun_task&subject=nobody"
        assert service.ask("GET", f"/api/v1/previews?{asked}").status == 404


def test_the_times_of_a_schedule_can_be_changed_and_nothing_else_of_it():
    pytest.importorskip("cronsim")
    with shown() as service:
        schedules = service.orch.schedules
        schedules.add("nightly", "0 3 * * *", Task.call(well), jitter=5)
        path = "/api/v1/schedules/nightly/edit"
        said = service.post(path, {"when": "30 4 * * *", "overlap": "queue"}).said
        assert said["definition"]["when"] == "30 4 * * *"
        status = schedules.status("nightly")
        assert (status.overlap, status.jitter, status.catch_up) == (
            "queue",
            5.0,
            "last",
        )
        assert service.post(path, {"when": "whenever"}).status == 422
        assert service.post(path, {"task": {}}).status == 422
        assert schedules.status("nightly").when == "30 4 * * *"


def test_the_log_says_who_has_done_what(caplog):
    caplog.set_level("INFO")
    with shown() as service:
        service.orch.submit_task(Task.call(well, id="it")).result(PATIENCE)
        service.ask("POST", "/api/v1/tasks/it/rerun", {}, X_Taskorch_By="ada%0Aeve")
        service.ask("POST", "/api/v1/tasks/it/rerun", {})
    said = [each.message for each in caplog.records if "rerun_task" in each.message]
    assert len(said) == 1
    assert said[0].startswith("ada")
    assert said[0].endswith("eve: rerun_task it")
    assert "\n" not in said[0]


def test_tasks_are_listed_the_latest_first(tmp_path):
    """In memory, in a journal that goes on, and in one that nobody has open."""
    path = tmp_path / "runs.db"

    def pages(service):
        names, cursor = [], ""
        for _ in range(10):
            said = service.get(f"/api/v1/tasks?newest=true&limit=3&id=t*{cursor}")
            names += [each["task_id"] for each in said["tasks"]]
            if said["next"] is None:
                return names
            cursor = f"&cursor={said['next']}"
        return names

    want = [f"t{number}" for number in reversed(range(8))]
    for options in ({}, {"journal": path, "keep_finished": 2}):
        with shown(**options) as service:
            for number in range(8):
                service.orch.submit_task(Task.call(int, id=f"t{number}"))
            assert service.orch.wait(PATIENCE)
            assert pages(service) == want
            asked = service.ask("GET", "/api/v1/tasks?newest=perhaps")
            assert asked.status == 400
    with recorded(path) as service:
        assert pages(service) == want


def add_pieces():
    run = current_context().workflow
    for _number in range(40):
        run.task(well)
    run.task(ill, id="single")


def add_by_their_own_ids():
    run = current_context().workflow
    for number in range(12):
        run.task(well, id=f"price/{number}", before=["end"])
    run.task(well, id="rate/eu", before=["end"])


def test_what_is_added_by_ids_of_its_own_stands_after_what_added_it(tmp_path):
    path = tmp_path / "runs.db"
    flow = Workflow("flow")
    fan = flow.task(add_by_their_own_ids, id="fan")
    flow.task(well, id="end", after=[fan])

    def look(service):
        said = service.get("/api/v1/runs/f1")
        assert {each["name"]: each["after"] for each in said["tasks"]} == {
            "fan": [],
            "end": ["fan", "price …", "rate/eu"],
            "price …": ["fan"],
            "rate/eu": ["fan"],
        }
        assert said["maps"]["price …"]["states"] == {"completed": 12}
        under = service.get("/api/v1/runs/f1?under=price%20%E2%80%A6")["tasks"]
        assert {each["name"] for each in under} == {f"price/{n}" for n in range(12)}

    with shown(journal=path) as service:
        service.orch.workflows.start(flow, id="f1")
        settle(service.orch)
        eventually(lambda: service.get("/api/v1/runs/f1")["run"].get("ended"))
        look(service)
    with recorded(path) as service:
        look(service)


def test_a_fan_is_one_folded_row_after_what_added_it(tmp_path):
    """Whether a task has added it, or the workflow has it; of both kinds of services."""
    path = tmp_path / "runs.db"
    flow = Workflow("flow")
    fan = flow.task(add_pieces, id="fan")
    tasks = [flow.task(well, id=f"shop-{n}", after=[fan]) for n in range(20)]
    flow.task(well, id="end", after=tasks)

    def look(service):
        said = service.get("/api/v1/runs/f1")
        after = {each["name"]: each["after"] for each in said["tasks"]}
        assert after == {
            "fan": [],
            "end": ["shop …"],
            "shop …": ["fan"],
            "fan/well …": ["fan"],
            "single": ["fan"],
        }
        maps = {name: each["states"] for name, each in said["maps"].items()}
        many = {"shop …": {"completed": 20}, "fan/well …": {"completed": 40}}
        assert (maps, said["left_out"]) == (many, 0)
        under = service.get("/api/v1/runs/f1?under=fan%2Fwell%20%E2%80%A6")["tasks"]
        assert len(under) == 40

    with shown(journal=path) as service:
        service.orch.workflows.start(flow, id="f1")
        settle(service.orch)
        eventually(lambda: service.get("/api/v1/runs/f1")["run"].get("ended"))
        look(service)
    with recorded(path) as service:
        look(service)
