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
from tests.api.tools import PATIENCE, eventually, part
from tests.ext.command_line.tools import taskorch, told
from tests.ext.mcp.tools import beside, call, run
from tests.ext.notices.test_notifying import Hook
from tests.ext.service.tools import Service, recorded

from taskorch import (
    AtLeast,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.errors import InvalidTransitionError, StepError
from taskorch.ext.mcp import OrchestratorPlace
from taskorch.ext.views import JournalReader
from taskorch.model import TERMINAL
from taskorch.model.ids import stem_of

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


def counts_of_models(place, runs):
    """How many tasks of each run are in which state, by a tool and by a resource."""

    async def story():
        async with beside(place) as client:
            for name in runs:
                whole = await call(client, "why", task=name)
                (page,) = (
                    await client.read_resource(f"taskorch://run/{name}")
                ).contents
                yield name, "why", whole["counts"]
                yield name, "resource", json.loads(page.text)["counts"]

    async def gathered():
        return [each async for each in story()]

    return run(gathered())


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
    """
    The same, in the incarnation that did the work, in the next, and when nobody lives.
    """
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


@pytest.mark.parametrize(
    "when",
    [
        "memory",
        pytest.param(
            "now", marks=pytest.mark.slow("the others have such lives and journals")
        ),
        "later",
        "nobody",
    ],
)
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


# -- members that are left out ---------------------------------------------------------

#: How many rows a run has now.
ROWS: list[int] = []


def rows():
    return [*range(ROWS[-1])]


def of_row(row):
    if len(ROWS) == 1 and row == 2:
        raise ValueError("row 2 is bad")
    current_context().workflow.task(int, row)
    return row


def counted(orch, service, place=None):
    """How many tasks each face says that the run has, all of them completed."""
    (line,) = service.get("/api/v1/runs")["runs"]
    whole = service.get("/api/v1/runs/r")
    calls = whole["maps"]["m"]["states"]
    found = {line["total"], line["completed"], sum(whole["states"].values())}
    assert whole["states"].keys() == calls.keys() == {"completed"}
    if orch is not None:
        place = OrchestratorPlace(orch)
        found |= {len(orch.workflows.status("r").tasks)}
        found |= {len(orch.workflows.get("r").result(0))}
        assert orch.health().status == "ok"
        assert orch.failures() == ()
    for _, _, counts in counts_of_models(place, ["r"]):
        assert counts.keys() == {"completed"}
        found |= {counts["completed"]}
    return found, calls["completed"]


def counts_read(journal):
    """How many tasks models count that read a journal, all of them completed."""
    counts = counts_of_models(JournalReader(journal), ["r"])
    return [states.pop("completed") for *_, states in counts if not [*states][1:]]


def test_members_that_a_run_has_no_more_are_in_no_count(tmp_path, capsys):
    """
    A map with fewer rows leaves calls out, and with more takes them in again.

    So does a definition that has a task no more.
    """
    flow = Workflow("flow")
    flow.map(of_row, flow.task(rows, id="rows"), id="m")
    flow.task(well, id="gone")
    journal = tmp_path / "runs.db"
    kept = {"journal": journal}
    ROWS[:] = [3]
    with served(**kept) as (service, _, _):
        orch = service.orch
        orch.workflows.start(flow, id="r")
        settle(orch)
        # The run has `gone`, `rows`, the map, its calls, and a task that each adds.
        for many, tasks in ((2, 7), (4, 11), (1, 5)):
            ROWS.append(many)
            orch.rerun_task("r/rows")
            settle(orch)
            eventually(lambda want=({tasks}, many): counted(orch, service) == want)
            eventually(lambda want=tasks: counts_read(journal) == [want, want])
    with served(**kept) as (service, _, _):
        eventually(lambda: counted(service.orch, service) == ({5}, 1))
        shorter = Workflow("flow")
        shorter.map(of_row, shorter.task(rows, id="rows"), id="m")
        service.orch.workflows.start(shorter, id="r", definition="as_deployed")
        settle(service.orch)
        eventually(lambda: counted(service.orch, service) == ({4}, 1))
    with recorded(journal) as service:
        place = JournalReader(journal)
        eventually(lambda: counted(None, service, place) == ({4}, 1))
    code, out, err = taskorch(capsys, "explain", journal, "r", "--json")
    assert code == 0, err
    assert told(out)[0]["counts"] == {"completed": 4}


# -- random runs -----------------------------------------------------------------------

#: The bodies that fail, and those of which there are fewer items now.
BAD: set[str] = set()
FEWER: set[str] = set()


def body(name):
    if name in BAD:
        raise ValueError("bad work")
    return name


def items(name):
    return [f"{body(name)}/{number}" for number in range(2 if name in FEWER else 3)]


def stepped(name):
    return current_context().step("one", body, name)


def caught(name):
    with suppress(ValueError, TaskFailedError):
        current_context().step("one", body, name)
    return name


def slept(name):
    current_context().sleep(seconds=0.01)
    return body(name)


def parent(name):
    current_context().child("inner", body, f"{name}.inner")
    return name


def kept_parent(name):
    with suppress(ValueError, TaskFailedError):
        parent(name)
    return body(name)


def adder(name):
    current_context().workflow.task(body, f"{name}.inner", id=f"{name}.added")
    return name


def meets(name):
    """Meet another task of the run, of which there may be none."""
    return current_context().workflow.barrier("all", 2)


WORK = (body, body, items, stepped, caught, slept, parent, kept_parent, adder, meets)
KINDS = (*WORK, "ask", "wait", "time")
JOINS = ("all", "all", "all", "finished", "any", AtLeast(2))
RULES = ("block", "block", "skip", "fail", "run")


def random_parts(random):
    """The parts of a workflow: for each its kind, what it comes after, its options."""
    parts = []
    for number in range(random.randint(1, 5)):
        above = random.sample(range(number), min(number, random.choice([0, 1, 1, 2])))
        options = {"allow_failure": random.random() < 0.25}
        if above:
            options["join"] = random.choice(JOINS[: 4 + len(above)])
            options["on_parent_failure"] = random.choice(RULES)
        fewer = random.choice([{}, {"allow_failures": 1}])
        parts.append((number, random.choice(KINDS), above, options, fewer))
    return parts


def changed_parts(random, parts):
    """What is deployed later: some parts are gone, some of another kind, one is new."""
    left = [each for each in parts if random.random() < 0.8] or parts[:1]
    if random.random() < 0.3:
        left.append((len(parts), random.choice(KINDS), [left[0][0]], {}, {}))
    return [
        (number, random.choice(KINDS) if random.random() < 0.2 else kind, *rest)
        for number, kind, *rest in left
    ]


def made_flow(parts, tag):
    """A workflow of these parts, and the names of the bodies in it."""
    flow, made, bodies = Workflow("flow"), {}, []
    for number, kind, above, more, fewer in parts:
        name, full = f"t{number}", f"{tag}.t{number}"
        options = {"id": name, "after": [made[n] for n in above if n in made], **more}
        if len(options["after"]) < len(above):
            options.pop("join", None)
        if kind == "ask":
            made[number] = flow.add(Task.question("Go on?", **options))
        elif kind == "wait":
            made[number] = flow.wait_for(full, **options)
        elif kind == "time":
            options["id"] = f"{name}-timed"
            ends = {"default": None} if fewer else {}
            made[number] = flow.wait_for(f"{full}.x", timeout=0.01, **ends, **options)
        else:
            bodies += [full, f"{full}.inner", *(f"{full}/{n}" for n in range(3))]
            made[number] = flow.task(kind, full, **options)
        if kind is items:
            made[number] = flow.map(body, made[number], id=f"{name}-map", **fewer)
    return flow, bodies


class RandomRuns:
    """Runs at random, begun by hand and by schedules, and what is done to them."""

    def __init__(self, random, orch, hook, many):
        self.random, self.orch, self.hook = random, orch, hook
        #: The runs, and whether nobody has run anything of them again.
        self.fresh = {}
        #: The parts of the definition of each run, and its schedule, or "".
        self.parts = {}
        self.schedules = {}
        self.listen()
        for number in range(many):
            tag, parts = f"n{number}", random_parts(random)
            flow, bodies = made_flow(parts, tag)
            BAD.update(each for each in bodies if random.random() < 0.3)
            if random.random() < 0.5:
                run, schedule = f"r{number}", ""
                orch.workflows.start(flow, id=run)
            else:
                orch.schedules.add(tag, "@yearly", flow)
                run, schedule = orch.schedules.trigger(tag), tag
            self.fresh[run] = True
            self.parts[run], self.schedules[run] = (tag, parts), schedule

    def listen(self):
        about = ["failure", "recovered"]
        self.orch.notify(self.hook.url, allow_private=True, about=about)

    def begin_again(self, orch):
        """Take another orchestrator, in whose life nothing was told yet."""
        self.hook.got.clear()
        self.orch = orch

    def messages(self):
        return [json.loads(text) for _, text in self.hook.got]

    def told(self):
        """How often the failure of each run was told."""
        runs = Counter(each.get("run") for each in self.messages())
        return {name: runs[name] for name in self.fresh}

    def last_told(self, run_id):
        """The kind of the last message about a run, or of its schedule."""
        mine = [
            each["message_type"]
            for each in self.messages()
            if each.get("run") == run_id
            or (each["schedule"] and each["schedule"] == self.schedules[run_id])
            or each["text"].startswith(f"run {run_id} ")
        ]
        return mine[-1] if mine else ""

    def statuses(self):
        return {name: self.orch.workflows.status(name) for name in self.fresh}

    def is_at_rest(self):
        return not any(
            each.running
            or {"queued", "retrying"} & {*map(str, each.counts)}
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
            acts = ["restart", "as_it_was", "rerun", "alone", "fork", "cancel", ""]
            act = self.random.choice(acts)
            self.fresh[name] &= not act
            with suppress(InvalidTransitionError, StepError):
                if act in ("rerun", "alone") and ended:
                    whole = {} if act == "rerun" else {"downstream": False}
                    task = self.random.choice(ended)
                    self.orch.rerun_task(f"{name}/{task}", **whole)
                elif act == "fork" and ended:
                    task = self.random.choice(ended)
                    self.orch.steps.fork(f"{name}/{task}", at="one")
                elif act == "cancel" and others:
                    self.orch.cancel_task(f"{name}/{self.random.choice(others)}")
                elif act in ("restart", "as_it_was"):
                    how = None if act == "restart" else act
                    self.orch.workflows.restart(name, definition=how)

    def deploy(self):
        """Say other definitions, with shorter maps, and restart some runs as these."""
        names = {f"{tag}.t{n}" for tag, parts in self.parts.values() for n, *_ in parts}
        FEWER.update(random_part(self.random, names))
        BAD.difference_update(random_part(self.random, BAD))
        for run_id, (tag, parts) in self.parts.items():
            flow, _ = made_flow(changed_parts(self.random, parts), tag)
            act = self.random.choice(["as_deployed", "as_it_was", None, ""])
            self.fresh[run_id] &= act == ""
            if self.schedules[run_id]:
                self.orch.schedules.add(tag, "@yearly", flow, start="2020-01-01")
            elif act == "as_deployed":
                self.orch.workflows.start(flow, id=run_id, definition=act)
                continue
            elif act is None:
                act = "as_it_was"
            with suppress(InvalidTransitionError):
                if act != "":
                    self.orch.workflows.restart(run_id, definition=act)

    def differences(self, service):
        """In what the faces differ."""
        lines = {each["id"]: each for each in service.get("/api/v1/runs")["runs"]}
        failed = {n for each in self.orch.failures() for n in each.tasks}
        for name, face, said, want in self.health():
            if said != want:
                yield name, face, said, want
        for name, status in self.statuses().items():
            for face, said, want in faces_of(
                self, service, name, status, lines, failed
            ):
                if said != want:
                    yield name, face, said, want

    def counts(self):
        """In what the counts that models read differ from those of the status."""
        statuses = self.statuses()
        for name, face, said in counts_of_models(
            OrchestratorPlace(self.orch), statuses
        ):
            counts = {str(k): n for k, n in statuses[name].counts.items()}
            if said != counts:
                yield name, face, said, counts

    def health(self):
        """What health says of runs, and of schedules, and must."""
        states = {name: str(each.state) for name, each in self.statuses().items()}
        failing = {each.name: each.failing for each in self.orch.schedules.list()}
        for run_id, schedule in self.schedules.items():
            if schedule in failing and states[run_id] in ("completed", "failed"):
                is_failed = states[run_id] == "failed"
                yield run_id, "schedule", bool(failing[schedule]), is_failed
        failed = {n for n in states if states[n] == "failed" and not self.schedules[n]}
        well = {n for n in states if states[n] == "completed"}
        detail = part(self.orch, "runs").detail
        named = {each.partition(": ")[0] for each in detail.split("; ") if each}
        rest = [each for each in named if each.startswith("and ")]
        if not rest:
            yield "", "health", sorted(failed - named), []
        yield "", "well in health", sorted(well & named), []

    def untold(self):
        """The failed runs that were not told once, or again since they ran again."""
        told = self.told()
        for name, status in self.statuses().items():
            times = told[name] if self.fresh[name] else min(1, told[name])
            if status.state == "failed" and times != 1:
                yield name, "told", times, 1, str(status)
            last = self.last_told(name)
            if str(status.state) == {"failure": "completed", "recovered": "failed"}.get(
                last
            ):
                yield name, "last told", last, str(status)


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
    if state == "completed":
        yield "mended", {n for n in status.tasks if f"{run_id}/{n}" in found}, set()
    for name, each in status.tasks.items():
        yield f"explain {name}", orch.explain(f"{run_id}/{name}").state, each
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

    def agree(look):
        last[:] = look()
        return not last

    # Whoever is given an error is not told besides.
    for look in (world.untold, lambda: world.differences(service), world.counts):
        try:
            eventually(lambda look=look: agree(look))
        except AssertionError:
            pytest.fail(f"the faces differ: {last}")


@pytest.fixture
def hook():
    made = Hook()
    BAD.clear()
    FEWER.clear()
    yield made
    made.close()


#: How many worlds of random runs there are: TASKORCH_WORLDS=500 makes three thousand.
WORLDS = int(os.environ.get("TASKORCH_WORLDS", "2"))


@pytest.mark.parametrize(
    ("seed", "is_durable"), [(seed, seed % 2 == 1) for seed in range(WORLDS)]
)
def test_all_faces_give_one_verdict_on_random_runs(seed, is_durable, hook, tmp_path):
    """
    Whatever the runs have, and is done to them; each failure is told once.

    They have joins, allowed failures, maps, children, steps, sleeps, questions and
    meetings. Tasks are run again, forked and cancelled, runs restarted, with other
    definitions, and an orchestrator ends in mid-work.
    """
    kept = {"journal": tmp_path / "runs.db"} if is_durable else {}
    with served(**kept) as (service, _, _):
        world = RandomRuns(Random(seed), service.orch, hook, 6)
        world.answer()
        same(world, service)
        world.change()
        world.answer()
        same(world, service)
        told = world.told()
        assert not [name for name, new in world.fresh.items() if new and told[name] > 1]
        # It ends in mid-work.
        world.fresh = dict.fromkeys(world.fresh, True)
        world.change()
    if is_durable:
        with served(**kept) as (service, _, _):
            world.begin_again(service.orch)
            world.deploy()
            world.listen()
            world.answer()
            same(world, service)
        with served(**kept) as (service, _, _):
            world.begin_again(service.orch)
            world.fresh = dict.fromkeys(world.fresh, True)
            world.listen()
            same(world, service)
