"""A number is the same wherever it is read: on the page, in `top`, by commands, by models."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

pytest.importorskip("mcp")
pytest.importorskip("cronsim")

from mcp import types
from tests.cli.tools import taskorch, told
from tests.frontends.mcp.tools import beside, call, run
from tests.frontends.service.tools import Service, recorded
from tests.integration.test_notifying import Hook
from tests.integration.tools import PATIENCE, eventually

from taskorch import (
    AtLeast,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.errors import InvalidTransitionError
from taskorch.frontends.mcp import OrchestratorPlace
from taskorch.model import TERMINAL
from taskorch.model.ids import stem_of
from taskorch.reading import JournalReader

RUN = "night-1"
#: What the world below comes to: its failed runs that nothing has mended, by error.
FAILED = {"ValueError": 2, "KeyError": 2, "LookupError": 1, "DependencyFailedError": 2}
#: The states of the latest runs of the tasks of `RUN`.
STATES = {"completed": 2, "failed": 3, "blocked": 1}


def well(*_):
    return 1


def ill_once():
    if "~" not in current_context().task_id:
        raise OSError("the disk is full")


def ill(row=7):
    raise ValueError(f"row {row} has no price")


def sick():
    raise KeyError("page")


def lost():
    raise LookupError("no such table")


def settle(orch):
    orch.wait(PATIENCE)


def make(orch):
    """Failures of which one is mended, one is allowed, and one came twice."""
    flow = Workflow("night")
    once = flow.task(ill_once, id="once")
    flow.task(well, once, id="load")
    bad = flow.task(ill, id="bad")
    flow.task(well, bad, id="waits")
    flow.task(well, bad, id="with", on_parent_failure="fail")
    flow.task(ill, id="may", allow_failure=True)
    orch.workflows.start(flow, id=RUN)
    settle(orch)
    for name in ("once", "bad"):
        orch.rerun_task(f"{RUN}/{name}")
        settle(orch)
    now = datetime.now(UTC)
    for name, work in (("nightly", sick), ("old", well)):
        orch.schedules.add(name, "0 3 * * *", work)
        orch.schedules.backfill(name, now - timedelta(days=2), now, limit=9)
        eventually(lambda: all(e.state == "done" for e in orch.schedules.backfills()))
        settle(orch)
    # Its runs are still shown, and it is no schedule any more.
    orch.schedules.remove("old")
    orch.submit_task(Task.call(lost, id="alone"))
    orch.submit_task(Task.question("Load it?", id="sign-off"))
    eventually(lambda: orch.get_task_status("alone").is_terminal and orch.questions())


def of_models(place):
    """What tools and resources say."""

    async def story():
        async with beside(place) as client:
            troubles = await call(client, "why")
            # A journal takes no answers, so that it has no such tool.
            stuck = [each for each in troubles["stuck"] if each["kind"] == "event"]
            asked = stuck
            if not isinstance(place, JournalReader):
                asked = (await call(client, "questions"))["questions"]
                assert len(stuck) == len(asked)
            answer = await client.read_resource(f"taskorch://run/{RUN}")
            (page,) = answer.contents
            assert isinstance(page, types.TextResourceContents)
            whole = await call(client, "why", task=RUN)
            return troubles, asked, json.loads(page.text), whole

    troubles, asked, page, whole = run(story())
    causes = Counter()
    for each in troubles["failures"]:
        causes[each["error_type"]] += each["count"]
    assert whole["counts"] == page["counts"]
    return {
        "failed": causes,
        "questions": len(asked),
        "states": page["counts"],
    }


def of_page(service):
    """What the dashboard asks for."""
    eventually(lambda: not service.get("/api/v1/nights")["is_reading"])
    nights, board = service.get("/api/v1/nights"), service.get("/api/v1/board")
    causes = Counter()
    for each in service.get("/api/v1/failures")["failures"]:
        causes[each["error_type"]] += each["count"]
    failed = service.get("/api/v1/tasks?state=failed&mended=false")["tasks"]
    assert nights["broken"]["count"] == board["broken"] == len(failed)
    assert Counter(each["error"]["type"] for each in failed) == causes
    own = Counter()
    for each in nights["broken"]["causes"]:
        own[each["error_type"]] += each["count"]
    assert own == {
        k: many for k, many in causes.items() if k != "DependencyFailedError"
    }
    (line,) = (e for e in service.get("/api/v1/runs")["runs"] if e["id"] == RUN)
    whole = service.get(f"/api/v1/runs/{RUN}")
    assert whole["run"] == {**line, "seconds": whole["run"]["seconds"]}
    assert line["completed"] == whole["states"]["completed"]
    assert line["total"] == sum(whole["states"].values())
    assert line["failed"] + line["allowed"] == whole["states"]["failed"]
    for each in whole["tasks"]:
        task = service.get(f"/api/v1/tasks/{each['id'].replace('/', '%2F')}")
        assert (each["state"], each["seconds"]) == (task["state"], task["duration"])
    assert nights["questions"]["count"] == len(
        service.get("/api/v1/questions")["questions"]
    )
    return {
        "failed": causes,
        "questions": nights["questions"]["count"],
        "states": whole["states"],
    }, nights


def of_commands(place, capsys):
    """What commands say, to people and to programs."""

    def asked(*words):
        code, out, err = taskorch(capsys, *words)
        assert code == 0, err
        return out

    (nights,) = told(asked("top", place, "--once", "--json"))
    text = asked("top", place, "--once")
    count = sum(FAILED.values())
    assert f"{count} tasks failed and are not mended" in text
    assert nights["broken"]["count"] == count
    schedules = told(asked("schedules", place, "--json"))
    assert f"The latest run of 0 of {len(schedules)} schedule completed." in text
    failing = {e["name"]: e["failing"] for e in nights["schedules"] if not e["removed"]}
    assert {each["name"]: each["failing"] for each in schedules} == failing
    assert "(2 in a row)" in failing["nightly"]
    # What is not listed by its cause is counted below that.
    assert f"and {FAILED['DependencyFailedError']} more failures\n" in text
    listed = told(asked("inspect", place, "--state", "failed", "--no-mended", "--json"))
    assert f"Failed, and not mended since, {count}" in asked("inspect", place)
    (line,) = (e for e in told(asked("runs", place, "--json")) if e["id"] == RUN)
    (whole,) = told(asked("runs", place, "show", RUN, "--json"))
    assert whole["run"] == {**line, "seconds": whole["run"]["seconds"]}
    (explained,) = told(asked("explain", place, RUN, "--json"))
    assert explained["counts"] == whole["states"]
    for each in whole["tasks"]:
        (task,) = told(asked("inspect", place, each["id"], "--json"))
        assert (each["state"], each["seconds"]) == (task["state"], task["duration"])
    return {
        "failed": Counter(each["error"]["type"] for each in listed),
        "questions": nights["questions"]["count"],
        "states": whole["states"],
    }, nights


#: What the first view says that is not of the moment.
STEADY = ("verdict", "broken", "questions")


@contextmanager
def served(work=None, **options):
    """The service of an orchestrator, the place of its commands, and of its tools."""
    with TaskOrchestrator(rerun_failed=False, **options) as orch:
        if work is not None:
            work(orch)
        with orch.serve(port=0) as server:
            service = Service(orch, server, server.token)
            yield service, server.url, OrchestratorPlace(orch)
        orch.stop(drain=False)


@contextmanager
def faces(path, when):
    """The same, in the life that did the work, in the next, and when nobody lives."""
    # What has ended long ago has left memory.
    kept = {"memory": {}, "now": {"journal": path}}.get(
        when, {"journal": path, "keep_finished": 1}
    )
    if when in ("memory", "now"):
        with served(make, **kept) as places:
            yield places
        return
    with served(make, **kept):
        pass
    if when == "later":
        with served(**kept) as places:
            yield places
        return
    with recorded(path) as service:
        yield service, path, JournalReader(path)


@pytest.mark.parametrize("when", ["memory", "now", "later", "nobody"])
def test_all_faces_say_the_same_numbers(when, tmp_path, capsys, monkeypatch):
    want = {"failed": FAILED, "questions": 1, "states": STATES}
    with faces(tmp_path / "runs.db", when) as (service, place, tools):
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        page, shown = of_page(service)
        commands, printed = of_commands(place, capsys)
        assert page == want
        assert commands == want
        assert of_models(tools) == want
        for name in STEADY:
            assert shown[name] == printed[name], name


# -- random runs -----------------------------------------------------------------------

#: The bodies that fail.
BAD: set[str] = set()


def body(name):
    if name in BAD:
        raise ValueError("bad work")
    return name


def items(name):
    return [f"{body(name)}/{number}" for number in range(3)]


def stepped(name):
    return current_context().step("one", body, name)


def caught(name):
    with suppress(ValueError, TaskFailedError):
        current_context().step("one", body, name)
    return name


def parent(name):
    current_context().child("inner", body, f"{name}.inner")
    return name


def kept_parent(name):
    with suppress(ValueError, TaskFailedError):
        parent(name)
    return body(name)


KINDS = (body, body, items, stepped, caught, parent, kept_parent, "ask", "wait", "time")
JOINS = ("all", "all", "all", "finished", "any", AtLeast(2))
RULES = ("block", "block", "skip", "fail", "run")


def random_flow(random, tag):
    """A workflow of a few tasks of any kind, and the bodies in it."""
    flow, made, bodies = Workflow("flow"), [], []
    for number in range(random.randint(1, 5)):
        name, full, kind = f"t{number}", f"{tag}.t{number}", random.choice(KINDS)
        above = random.sample(made, min(len(made), random.choice([0, 1, 1, 2])))
        options = {"id": name, "after": above, "allow_failure": random.random() < 0.25}
        if above:
            options["join"] = random.choice(JOINS[: 4 + len(above)])
            options["on_parent_failure"] = random.choice(RULES)
        if kind == "ask":
            made.append(flow.add(Task.question("Go on?", **options)))
        elif kind == "wait":
            made.append(flow.wait_for(full, **options))
        elif kind == "time":
            options["id"] = f"{name}-timed"
            ends = random.choice([{}, {"default": None}])
            made.append(flow.wait_for(f"{full}.x", timeout=0.01, **ends, **options))
        else:
            bodies += [full, f"{full}.inner", *(f"{full}/{n}" for n in range(3))]
            made.append(flow.task(kind, full, **options))
        if kind is items:
            fewer = random.choice([{}, {"allow_failures": 1}])
            made.append(flow.map(body, made[-1], id=f"{name}-map", **fewer))
    return flow, bodies


class RandomRuns:
    """Runs at random, begun by hand and by schedules, and what is done to them."""

    def __init__(self, random, orch, hook, many):
        self.random, self.orch, self.hook = random, orch, hook
        #: The runs, and whether nobody has run anything of them again.
        self.fresh = {}
        orch.notify(hook.url, allow_private=True, about=["failure"])
        for number in range(many):
            flow, bodies = random_flow(random, f"n{number}")
            BAD.update(each for each in bodies if random.random() < 0.3)
            if random.random() < 0.5:
                orch.workflows.start(flow, id=f"r{number}")
                self.fresh[f"r{number}"] = True
            else:
                orch.schedules.add(f"n{number}", "@yearly", flow)
                self.fresh[orch.schedules.trigger(f"n{number}")] = True

    def told(self):
        runs = Counter(json.loads(text)["run"] for _, text in self.hook.got)
        return {name: runs[name] for name in self.fresh}

    def statuses(self):
        return {name: self.orch.workflows.status(name) for name in self.fresh}

    def is_at_rest(self):
        goes_on = {"running", "queued", "retrying"}
        return not any(
            goes_on & {*map(str, each.counts)}
            or any(name.endswith("-timed") for name in each.asks)
            for each in self.statuses().values()
        )

    def answer(self):
        """Decide about some that wait, in a few rounds."""
        for _ in range(3):
            eventually(self.is_at_rest)
            for name, status in self.statuses().items():
                for task in status.asks:
                    verdict = self.random.choice(["complete", "fail", ""])
                    with suppress(InvalidTransitionError):
                        if verdict:
                            self.orch.decide(f"{name}/{task}", verdict)
        eventually(self.is_at_rest)

    def change(self):
        """Mend some bodies, and run again, restart or cancel."""
        BAD.difference_update(random_part(self.random, BAD))
        for name, status in self.statuses().items():
            ended = [n for n, state in status.tasks.items() if state in TERMINAL]
            others = [n for n in status.tasks if n not in ended]
            act = self.random.choice(["restart", "as_it_was", "rerun", "cancel", ""])
            self.fresh[name] = not act
            with suppress(InvalidTransitionError):
                if act == "rerun" and ended:
                    self.orch.rerun_task(f"{name}/{self.random.choice(ended)}")
                elif act == "cancel" and others:
                    self.orch.cancel_task(f"{name}/{self.random.choice(others)}")
                elif act in ("restart", "as_it_was"):
                    how = None if act == "restart" else act
                    self.orch.workflows.restart(name, definition=how)

    def differences(self, service):
        """In what the faces differ."""
        lines = {each["id"]: each for each in service.get("/api/v1/runs")["runs"]}
        failed = {n for each in self.orch.failures() for n in each.tasks}
        for name, status in self.statuses().items():
            for face, said, want in faces_of(
                self, service, name, status, lines, failed
            ):
                if said != want:
                    yield name, face, said, want

    def untold(self):
        """The failed runs that were not told once, or again since they ran again."""
        told, failed = self.told(), self.statuses().items()
        return {
            name: told[name]
            for name, status in failed
            if status.state == "failed"
            and not (told[name] == 1 if self.fresh[name] else told[name])
        }


def random_part(random, names):
    return {each for each in sorted(names) if random.random() < 0.6}


def faces_of(world, service, run_id, status, lines, failed):
    """What each face says of a run, and what it must say."""
    state, counts = str(status.state), {str(k): n for k, n in status.counts.items()}
    orch, line = world.orch, lines.get(run_id, {})
    whole = service.get(f"/api/v1/runs/{run_id}")
    yield "report", str(orch.workflows.get(run_id).report().state), state
    yield "when", str(orch.when(run_id, budget=0.01).state), state
    document = service.get(f"/api/v1/workflows/{run_id}")
    yield "document", document["state"], state
    yield "line", str(line.get("state")).replace("mended", "completed"), state
    yield "total", line.get("total"), len(status.tasks)
    yield "completed", line.get("completed"), counts.get("completed", 0)
    yield "allowed", line.get("allowed"), len(status.allowed)
    own = counts.get("failed", 0) - len(status.allowed)
    yield "failed", line.get("failed"), own
    yield "page", whole["states"], counts
    yield "page's line", {**whole["run"], "seconds": 0}, {**line, "seconds": 0}
    named = {
        name
        for name, each in status.tasks.items()
        if each == "failed" and name not in status.allowed
    }
    found = {stem_of(each) for each in failed}
    yield "failures", {n for n in named if f"{run_id}/{n}" not in found}, set()
    if state in ("completed", "failed"):
        yield "error", bool(line.get("error")), state == "failed"
    yield "result", *outcome_of(orch, run_id, status, state)


def outcome_of(orch, run_id, status, state):
    """What a wait for a run comes to, and what it must."""
    had = {n for n, each in status.tasks.items() if each != "cancelled"}
    ended = {"completed": had, "failed": "raises", "cancelled": "raises"}
    try:
        return {*orch.workflows.get(run_id).result(0)}, ended.get(state, "open")
    except WorkflowFailedError:
        return "raises", ended.get(state, "open")
    except TimeoutError:
        return "open", ended.get(state, "open")


def same(world, service):
    """Wait until all faces have heard of all, and agree."""
    last = []
    # Whoever is given an error is not told besides.
    eventually(lambda: not world.untold(), "a failed run was not told once")

    def agree():
        last[:] = world.differences(service)
        return not last

    try:
        eventually(agree)
    except AssertionError:
        pytest.fail(f"the faces differ: {last}")


@pytest.fixture
def hook():
    made = Hook()
    BAD.clear()
    yield made
    made.close()


#: How many worlds of random runs there are: TASKORCH_WORLDS=250 makes five thousand.
WORLDS = int(os.environ.get("TASKORCH_WORLDS", "2"))


@pytest.mark.parametrize("is_durable", [False, True])
@pytest.mark.parametrize("seed", range(WORLDS))
def test_all_faces_give_one_verdict_on_random_runs(seed, is_durable, hook, tmp_path):
    """Joins, allowed failures, maps, children, steps, questions; each failure once."""
    kept = {"journal": tmp_path / "runs.db"} if is_durable else {}
    with served(**kept) as (service, _, _):
        world = RandomRuns(Random(seed), service.orch, hook, 20)
        world.answer()
        same(world, service)
        world.change()
        world.answer()
        same(world, service)
    told = world.told()
    assert not [name for name, new in world.fresh.items() if new and told[name] > 1]
    if is_durable:
        hook.got.clear()
        with served(**kept) as (service, _, _):
            service.orch.notify(hook.url, allow_private=True, about=["failure"])
            world.orch = service.orch
            world.fresh = dict.fromkeys(world.fresh, True)
            same(world, service)
