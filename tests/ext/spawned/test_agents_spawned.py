"""`orch.agents`: workers that are spawned from templates, and pools of them."""

import sys
import time
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold
from tests.house.pids import is_alive

from taskorch import RetryPolicy, Task, TaskOrchestrator, TaskState
from taskorch.errors import (
    AgentProgramError,
    AttemptLostError,
    InvalidTaskError,
    InvalidTransitionError,
    TaskTimeoutError,
    UnknownAgentError,
)
from taskorch.model import Breaker, Capability, NamedUnits

EXAMPLES = Path(__file__).parents[3] / "examples"
ECHO = """
import json, sys
for line in sys.stdin:
    task = json.loads(line)
    if task["payload"] == "die":
        sys.exit(3)
    if task["payload"] == "babble":
        print("no JSON", flush=True)
        continue
    if task["payload"] == "refuse":
        print(json.dumps({"id": task["id"], "error": "not today"}), flush=True)
        continue
    if task["payload"] == "sleep":
        import time
        time.sleep(600)
    print(json.dumps({"id": task["id"], "progress": 0.5}), flush=True)
    print(json.dumps({"id": task["id"], "result": task["payload"]}), flush=True)
"""
LINES = [sys.executable, "-c", ECHO]


def do(task, _context):
    return task.payload


def until(holds, seconds=PATIENCE):
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def latest(orch):
    """The latest decision of a pool; it may not have made one yet."""
    return until(orch.agents.explain_scaling)[-1]


@pytest.fixture
def orch():
    with TaskOrchestrator(unknown_capability="wait") as made:
        yield made


def test_spawn_and_terminate(orch):
    orch.agents.template("tester", kind="test", capabilities={"test": 3}, handler=do)
    worker = orch.agents.spawn("tester", {"id": "agent_007"})
    assert (worker.id, worker.type, worker.kind) == ("agent_007", "tester", "test")
    assert (worker.capabilities, worker.status, worker.workload) == (
        {"test": 3},
        "idle",
        0,
    )
    good = Task("t", 5, requires=[Capability("test", level=2)])
    assert orch.submit_task(good).result(PATIENCE) == 5
    assert orch.agents.health("agent_007").success_rate == 1.0
    assert set(orch.agents.health()) == {"local", "agent_007"}
    orch.agents.terminate("agent_007")
    assert "agent_007" not in [one.id for one in orch.agents.list()]
    waits = orch.submit_task(Task("t", 6, requires=["test"]))
    assert orch.agents.spawn("tester", {"id": "agent_007"}).id == "agent_007"
    assert waits.result(PATIENCE) == 6


def test_match_says_why_others_do_not(orch):
    orch.agents.template("junior", capabilities={"test": 1}, handler=do)
    orch.agents.template(
        "senior", capabilities={"test": 3}, handler=do, affinities={"slow": 2.0}
    )
    for name in ("junior", "senior", "senior"):
        orch.agents.spawn(name)
    orch.agents.drain("senior-2")
    found = orch.agents.match([Capability("test", 2)])
    assert [(one.agent.id, one.matches) for one in found] == [
        ("senior-1", True),
        ("junior-1", False),
        ("senior-2", False),
    ]
    assert found[1].reason == "its test is of level 1, and 2 is needed"
    assert found[2].reason == "it is draining"
    best = orch.agents.match(["test"], type="slow")[0]
    assert (best.agent.id, best.reason.endswith("affinity 2")) == ("senior-1", True)


def test_a_program_of_lines(orch):
    orch.agents.template("echo", executor="lines", capabilities=["e"], start=LINES)
    orch.agents.spawn("echo")
    first = orch.submit_task(Task("e", [1, {"a": 2}], requires=["e"]))
    assert first.result(PATIENCE) == [1, {"a": 2}]
    pid = orch.agents.get("echo-1").pid
    assert pid
    for payload, words in (
        ("refuse", "not today"),
        ("babble", "not a line of JSON"),
        ("die", "ended with 3"),
    ):
        with pytest.raises((AgentProgramError, AttemptLostError), match=words):
            orch.submit_task(Task("e", payload, requires=["e"])).result(PATIENCE)
    # It was started anew.
    assert orch.submit_task(Task("e", "x", requires=["e"])).result(PATIENCE) == "x"
    assert orch.agents.get("echo-1").pid != pid


def test_a_program_of_lines_is_out_of_time(orch):
    orch.agents.template("echo", executor="lines", capabilities=["e"], start=LINES)
    orch.agents.spawn("echo")
    slow = orch.submit_task(Task("e", "sleep", requires=["e"], timeout=0.5))
    assert slow.exception(PATIENCE) is not None
    assert orch.submit_task(Task("e", "x", requires=["e"])).result(PATIENCE) == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="it is for a shell")
def test_the_example_in_shell(orch):
    start = ["sh", str(EXAMPLES / "line_agent.sh")]
    orch.agents.template("counter", executor="lines", capabilities=["n"], start=start)
    orch.agents.spawn("counter")
    assert orch.submit_task(Task("n", "hello", requires=["n"])).result(PATIENCE) == 5
    with pytest.raises(AgentProgramError, match="no plain text"):
        orch.submit_task(Task("n", 7, requires=["n"])).result(PATIENCE)


def test_a_template_whose_workers_fail_is_asked_about(orch):
    start = [sys.executable, "-c", "raise SystemExit(7)"]
    orch.agents.template("bad", executor="service", capabilities=["z"], start=start)
    orch.agents.pool("bad", min_agents=1, max_agents=2, interval=0.05)
    (question,) = until(orch.questions)
    assert "5 have failed in 60 s; the last: its process ended with 7" in question.text
    with pytest.raises(InvalidTaskError, match="not spawned"):
        orch.agents.spawn("bad")
    until(lambda: "no more are spawned" in latest(orch).reason)
    orch.answer(question.id, "leave it", by="ada")


def test_the_next_incarnation_spawns_again_and_asks_no_more(tmp_path):
    """Else an answer would do nothing: this incarnation has given nothing up yet."""
    start = [sys.executable, "-c", "raise SystemExit(7)"]
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, stop_timeout=1) as orch:
        give_up(orch, start)
    with TaskOrchestrator(journal=path, stop_timeout=1) as orch:
        earlier = orch.questions()
        give_up(orch, start)
        # The question that is asked by now is another, and the only one.
        (question,) = orch.questions()
        assert question.id not in {each.id for each in earlier}
        orch.agents.template("bad", executor="service", capabilities=["z"], start=start)
        assert orch.questions() == []


def test_an_answer_about_one_template_is_none_about_another(orch):
    """What it has drained gets work again; what another has drained does not."""
    script = "import sys; sys.stdin.readline(); sys.exit(3)"
    for name in ("left", "right"):
        orch.agents.template(
            name,
            executor="lines",
            capabilities=[name],
            start=[sys.executable, "-c", script],
        )
        orch.agents.spawn(name)
        orch.submit_tasks([Task("t", number, requires=[name]) for number in range(9)])
        until(lambda of=f"of {name} ": [q for q in orch.questions() if of in q.text])
    asked = next(q for q in orch.questions() if "of left " in q.text)
    until(lambda: orch.agents.get("right-1").status == "draining")
    until(lambda: orch.agents.get("left-1").status == "draining")
    orch.answer(asked.id, "spawn", by="ada")
    until(lambda: orch.agents.get("left-1").status != "draining")
    assert orch.agents.get("right-1").status == "draining"


def give_up(orch, start):
    """Have a template of workers fail until it is asked about in this incarnation."""
    orch.agents.template("bad", executor="service", capabilities=["z"], start=start)
    for _ in range(5):
        name = orch.agents.spawn("bad").id
        until(lambda name=name: orch.agents.health(name).status == "failed")
    until(orch.questions)


def test_failures_that_are_minutes_apart_stop_no_template(orch, monkeypatch):
    """Five in a minute do; who names the template anew begins to count anew."""
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])

    def template():
        orch.agents.template(
            "gone", executor="lines", capabilities=["e"], start=["/no/x"]
        )

    template()
    for _ in range(2):
        for _ in range(4):
            with pytest.raises(InvalidTaskError, match=r"worker gone-1: .* be started"):
                orch.agents.spawn("gone")
        ahead[0] += 61
    for _ in range(2):
        for _ in range(5):
            with pytest.raises(InvalidTaskError, match=r"worker gone-1: .* be started"):
                orch.agents.spawn("gone")
        with pytest.raises(InvalidTaskError, match="not spawned: 5 have failed"):
            orch.agents.spawn("gone")
        template()


def test_of_those_that_have_failed_the_latest_twenty_are_listed(orch):
    """With the reason; those before them are as if they had never been."""
    names = [f"bad-{number:02}" for number in range(24)]
    for part in range(0, len(names), 4):
        # It begins anew: five that fail would be the end of it.
        orch.agents.template(
            "bad", executor="service", capabilities=["z"], start=["sh", "-c", "exit 7"]
        )
        for name in names[part : part + 4]:
            orch.agents.spawn("bad", {"id": name})
        for name in names[part : part + 4]:
            until(lambda name=name: orch.agents.health(name).status == "failed")
    listed = {one.id: one.status for one in orch.agents.list() if one.id != "local"}
    assert listed == dict.fromkeys(names[-20:], "failed")
    (why,) = orch.agents.health(names[-20]).reasons
    assert "ended with 7" in why
    for name in names[:-20]:
        with pytest.raises(UnknownAgentError, match=name):
            orch.agents.get(name)


def test_a_command_that_is_missing(orch):
    for kind in ("service", "lines"):
        orch.agents.template(kind, executor=kind, capabilities=[kind], start=["/no/x"])
        with pytest.raises(InvalidTaskError, match="'/no/x' cannot be started: No"):
            orch.agents.spawn(kind)
    assert [one.id for one in orch.agents.list()] == ["local"]


def test_a_command_that_has_gone_is_said_to_the_task(orch, tmp_path):
    program = tmp_path / "agent"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    template = {"executor": "lines", "capabilities": ["e"]}
    orch.agents.template("gone", **template, start=[str(program)])
    orch.agents.spawn("gone")
    until(lambda: orch.agents.get("gone-1").pid is None)
    program.unlink()
    with pytest.raises(AgentProgramError, match="cannot be started"):
        orch.submit_task(Task("t", 1, requires=["e"])).result(PATIENCE)


def test_a_pool_starts_no_worker_for_what_none_of_them_can_hold(orch):
    template = {"capabilities": ["test"], "capacity": {"memory_mb": 100}}
    orch.agents.template("tester", **template, handler=do)
    orch.agents.pool("tester", max_agents=3, interval=0.02)
    large = [
        Task("t", n, id=f"large-{n}", requires=["test"], resources={"memory_mb": 200})
        for n in range(3)
    ]
    orch.submit_tasks(large)
    said = str(orch.explain("large-2"))
    assert (
        "it asks for 200 memory_mb, and a worker of the pool tester has 100 at most"
    ) in said
    small = Task("t", 7, requires=["test"], resources={"memory_mb": 100})
    assert orch.submit_task(small).result(PATIENCE) == 7
    (decision,) = orch.agents.explain_scaling("tester")
    assert (decision.before, decision.after) == (0, 1)
    assert "200 memory_mb" in str(orch.explain("large-2"))


def test_a_pool_that_is_too_small_is_no_reason_if_another_one_fits(orch):
    large = Task(
        "t", 1, id="large", requires=["test"], resources={"memory_mb": 200, "gpu": 1}
    )
    for name, amounts in [
        ("small", {"memory_mb": 100, "gpu": 1}),
        ("bare", {"memory_mb": 500, "gpu": 0}),
    ]:
        orch.agents.template(name, capabilities=["test"], handler=do, capacity=amounts)
        orch.agents.pool(name, max_agents=1, interval=3600)
        if name == "small":
            orch.submit_task(large)
            assert "a worker of the pool small has 100 at most" in str(
                orch.explain("large")
            )
    assert "it asks for 1 gpu, and a worker of the pool bare has none" in str(
        orch.explain("large")
    )
    orch.agents.template(
        "big", capabilities=["test"], handler=do, capacity={"memory_mb": 500, "gpu": 1}
    )
    orch.agents.pool("big", max_agents=1, interval=3600)
    assert "a worker of the pool" not in str(orch.explain("large"))


def test_a_pool_looks_at_once_when_a_task_finds_no_slot(orch):
    """Also if it waited for its parents: no look is due for hours."""
    orch.agents.template("tester", capabilities=["test"], handler=do)
    orch.agents.pool("tester", max_agents=3, interval=3_600)
    parent = orch.submit_task(Task("t", 0, id="parent", requires=["test"]))
    assert parent.result(PATIENCE) == 0
    children = [Task("t", n, requires=["test"], after=["parent"]) for n in (1, 2, 3)]
    handles = orch.submit_tasks(children)
    assert [handle.result(PATIENCE) for handle in handles] == [1, 2, 3]


def test_provision(orch):
    orch.agents.template("gpu", capabilities={"gpu": 2}, handler=do)
    found = orch.agents.provision_new_agent(["gpu"])
    assert found.id == "gpu-1"
    assert orch.agents.provision_new_agent(["gpu"]).id == "gpu-1"
    assert orch.agents.provision_new_agent(["tpu"]) is None
    assert latest(orch).reason == "no template has tpu"


def test_a_worker_is_provided_by_its_memory_and_cores(orch):
    """A worker that is there has what its tasks leave; a template, its capacity."""
    provide = orch.agents.provision_new_agent
    orch.agents.template(
        "small", capabilities=["test"], handler=do, capacity={"memory_mb": 512}
    )
    assert provide(["test"], {"memory_mb": 2048}) is None
    assert latest(orch).reason == "no template has test, 2048 memory_mb"
    large = {"memory_mb": 4096, "cpu": 0}
    orch.agents.template("large", capabilities=["test"], handler=do, capacity=large)
    assert provide(["test"], {"memory_mb": 2048}).id == "large-1"
    assert provide(["test"], {"memory_mb": 2048, "gpu": 1}).id == "large-1"
    assert provide(["test"], {"memory_mb": 512, "cpu": 1}).id == "small-1"
    with pytest.raises(InvalidTaskError, match="memory_mb"):
        provide(["test"], {"memory_mb": -1})


def test_a_worker_whose_memory_is_in_use_has_only_the_rest_of_it(orch):
    gate = Hold()

    def work(task, context):
        gate()

    room = {"memory_mb": 512}
    orch.agents.template("small", capabilities=["test"], handler=work, capacity=room)
    provide = orch.agents.provision_new_agent
    assert provide(["test"], {"memory_mb": 512}).id == "small-1"
    holder = Task("t", requires=["test"], resources={"memory_mb": 300})
    handle = orch.submit_task(holder)
    gate.wait()
    assert provide(["test"], {"memory_mb": 212}).id == "small-1"
    assert provide(["test"], {"memory_mb": 213}).id == "small-2"
    gate.release()
    handle.result(PATIENCE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "tset", "handler": do}, "did you mean 'test'"),
        ({}, "a handler is needed"),
        ({"executor": "lines"}, "needs a command"),
        ({"start": "sh x"}, "list of arguments"),
        ({"handler": do, "start": ["sh"]}, "no effect"),
        ({"executor": "lines", "start": ["sh"], "handler": do}, "no handler"),
        ({"executor": "lines", "start": ["a"], "max_concurrency": 2}, "one task at"),
        ({"handler": do, "capabilities": {"x": 0}}, "level"),
        ({"handler": do, "capabilities": {"x": 101}}, "at most 100"),
        ({"handler": do, "breaker": Breaker(probes=0)}, "probes"),
    ],
)
def test_bad_templates(orch, options, words):
    with pytest.raises(InvalidTaskError, match=words):
        orch.agents.template("x", **options)


def test_bad_words(orch):
    orch.agents.template("x", capabilities=["x"], handler=do)
    workers = orch.agents
    workers.spawn("x")
    for act, words in (
        (lambda: workers.spawn("xx"), "did you mean 'x'"),
        (lambda: workers.spawn("x", {"idd": 1}), "did you mean 'id'"),
        (lambda: workers.spawn("x", {"id": "x-1"}), "already"),
        (lambda: workers.pool("x", min_agents=3, max_agents=2), "is above max_agents"),
        (
            lambda: workers.pool("x", scale_up_threshold=0.2),
            "the pool would never rest",
        ),
        (lambda: workers.pool(workers.list()), "no template of workers \\["),
        (lambda: workers.pool("x", wait=-1), "wait: -1 is not between 0"),
        (lambda: workers.explain_scaling("x"), "no pool"),
    ):
        with pytest.raises(InvalidTaskError, match=words):
            act()
    workers.pool("x", max_agents=2)
    with pytest.raises(InvalidTaskError, match="already"):
        workers.pool("x", max_agents=2)
    for act in (workers.terminate, workers.drain, workers.health, workers.get):
        with pytest.raises(UnknownAgentError, match="did you mean 'x-1'"):
            act("x-9")


def test_one_that_has_gone_is_unknown(orch):
    orch.agents.template("tester", capabilities=["test"], handler=do)
    orch.agents.spawn("tester", {"id": "one"})
    orch.agents.spawn("tester", {"id": "another"})
    orch.agents.terminate("one")
    with pytest.raises(UnknownAgentError, match="no worker 'one'"):
        orch.agents.drain("one")
    with pytest.raises(UnknownAgentError):
        orch.agents.health("one")


def test_one_that_is_to_go_gets_no_work_again(orch):
    orch.agents.template("lines", executor="lines", start=LINES, capabilities=["l"])
    orch.agents.spawn("lines", {"id": "one"})
    handle = orch.submit_task(Task("t", "sleep", requires=["l"]))
    until(lambda: orch.agents.get("one").workload)
    orch.agents.terminate("one", grace=600)
    with pytest.raises(InvalidTransitionError, match="was terminated"):
        orch.agents.drain("one", on=False)
    handle.cancel()


def test_there_is_one_pool_of_a_template(orch):
    orch.agents.template("tester", capabilities=["test"], handler=do)
    orch.agents.pool("tester", max_agents=2)
    with pytest.raises(InvalidTaskError, match=r"max_agents=2.*drivers\.remove"):
        orch.agents.pool("tester", max_agents=3)
    assert orch.drivers.remove("pool/tester")
    assert orch.agents.pool("tester", max_agents=3).max_agents == 3


def test_a_program_of_lines_says_what_it_has_spent(orch):
    """As often as it likes, beside its answer or before; and knows what it may write."""
    script = """
for line in sys.stdin:
    task = json.loads(line)
    for answer in task["payload"] or [{"result": [sorted(task), task.get("units")]}]:
        print(json.dumps({"id": task["id"], **answer}), flush=True)
"""
    lines_of(orch, script)

    def spent(*answers):
        with orch.budget(f"b{len(orch.resources.budgets())}", tokens=100) as budget:
            needs = {"tokens": 50}
            task = Task("e", list(answers), requires=["e"], resources=needs)
            task = orch.submit_task(task)
            error = task.exception(PATIENCE)
        return error or task.result(), budget.usage.spent["tokens"]

    assert spent({"spent": {"tokens": 5}}, {"result": 1}) == (1, 5)
    assert spent({"spent": {"tokens": 5}}, {"spent": {"tokens": 3}, "result": 1}) == (
        1,
        8,
    )
    assert spent({"spent": {"tokens": 5}, "progress": 1}, {"result": None}) == (None, 5)
    error, much = spent({"spent": {"tokens": 5}, "error": "no"})
    assert (type(error), much) == (AgentProgramError, 5)
    assert spent({"result": 2}) == (2, 50)
    for amounts in ([5], {"tokens": -5}, {"tokens": "many"}):
        error, much = spent({"spent": amounts}, {"result": 1})
        assert isinstance(error, AgentProgramError | InvalidTaskError)
        assert much == 50
    names = ["attempt", "id", "payload", "type"]
    for scopes, more in ((None, []), (["src/**"], ["writes"])):
        task = Task("e", [], requires=["e"], writes=scopes)
        assert orch.submit_task(task).result(PATIENCE) == [[*names, *more], None]
    orch.resources.resize({"gpu": NamedUnits("7")})
    task = Task("e", [], requires=["e"], resources={"gpu": 1})
    assert orch.submit_task(task).result(PATIENCE)[1] == {"gpu": ["7"]}


# -- programs of lines that are odd ----------------------------------------------------


def lines_of(orch, script, *arguments, start=None, **template):
    """A worker that speaks lines, and does what requires "e"."""
    command = start or [sys.executable, "-c", "import json, sys\n" + script]
    orch.agents.template(
        *("odd",),
        executor="lines",
        capabilities=["e"],
        start=[*command, *map(str, arguments)],
        **template,
    )
    return orch.agents.spawn("odd")


@pytest.mark.parametrize("size", [100, 300_000])
def test_one_that_does_not_read_is_killed_when_its_time_is_over(orch, size):
    """However much there is to write: its slot is free, and the next one is started."""
    worker = lines_of(orch, "", start=["sleep", "6000"])
    deaf = orch.submit_task(Task("e", "x" * size, requires=["e"], timeout=0.3))
    assert isinstance(deaf.exception(PATIENCE), TaskTimeoutError)
    until(lambda: not is_alive(worker.pid))
    again = orch.submit_task(Task("e", "x", requires=["e"], timeout=0.3))
    assert isinstance(again.exception(PATIENCE), TaskTimeoutError)
    until(lambda: orch.agents.get("odd-1").status == "idle")


def test_one_that_writes_without_a_task_waits_until_it_has_one(orch, tmp_path):
    """What it wrote meanwhile is no answer to the next task, of the same id even."""
    script = """
count, path = 0, sys.argv[1]
while True:
    task = json.loads(sys.stdin.readline())
    print(json.dumps({"id": task["id"], "result": task["payload"]}), flush=True)
    while task["payload"] == "talk":
        line = json.dumps({"id": task["id"], "result": "of before"}) + "\\n"
        count += sys.stdout.write(line * 1_000)
        open(path, "w").write(str(count))
"""
    counted = tmp_path / "count"
    lines_of(orch, script, counted)
    orch.submit_task(Task("e", "talk", requires=["e"], id="t")).result(PATIENCE)

    def count():
        return int((counted.exists() and counted.read_text()) or 0)

    until(lambda: count() > 0)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        # A pipe has 64 KiB.
        assert count() < 1 << 20
        time.sleep(0.01)


def test_an_answer_that_comes_twice_is_none_to_the_next_attempt(orch):
    script = """
for line in sys.stdin:
    task = json.loads(line)
    if task["attempt"] == 1:
        twice = {"error": "try again"}, {"result": "of before"}
        lines = [json.dumps({"id": task["id"], **each}) + "\\n" for each in twice]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()
    else:
        print(json.dumps({"id": task["id"], "attempt": 1, "result": "of before"}))
        print(json.dumps({"id": task["id"], "result": "right"}), flush=True)
"""
    lines_of(orch, script)
    retry = RetryPolicy(max_attempts=2, wait="fixed", base=0)
    handle = orch.submit_task(Task("e", 1, requires=["e"], retry=retry))
    assert handle.result(PATIENCE) == "right"


def test_after_its_last_error_it_gets_no_task(orch):
    """One that says so is killed, though it might read on: no attempt is lost."""
    script = """
import os
for line in sys.stdin:
    task = json.loads(line)
    end = {"result": os.getpid()}
    if task["payload"] is not None:
        end = {"error": str(os.getpid()), "last": task["payload"]}
    print(json.dumps({"id": task["id"], **end}), flush=True)
"""
    lines_of(orch, script)
    pids = []
    for payload in (None, False, "no", True, None):
        handle = orch.submit_task(Task("e", payload, requires=["e"], idempotent=False))
        error = handle.exception(PATIENCE)
        pids.append(handle.result() if error is None else int(str(error)))
    first, last = pids[0], pids[-1]
    assert pids == [first] * 4 + [last]
    assert first != last
    assert not is_alive(first)


@pytest.mark.skipif(sys.platform == "win32", reason="it is for a shell")
@pytest.mark.parametrize("how", ["alone", "its child holds the pipe", "it is killed"])
def test_what_one_had_that_dies_is_made_again(orch, tmp_path, how):
    deed = {"alone": "exit 3", "it is killed": "kill -9 $$"}
    dies = deed.get(how, "(trap '' TERM; exec sleep 6000) & exit 3")
    script = """
while read -r line; do
    id=$(printf '%s' "$line" | sed 's/.*"id": "\\([^"]*\\)".*/\\1/')
    if mkdir "$1/$id"; then DIES; fi
    printf '{"id": "%s", "result": 5}\\n' "$id"
done
""".replace("DIES", dies)
    lines_of(orch, "", start=["sh", "-c", script, "sh", str(tmp_path)])
    handle = orch.submit_task(Task("e", 1, requires=["e"], id="a"))
    assert handle.result(PATIENCE) == 5
    assert orch.get_task_status("a").attempts == 2
    once = orch.submit_task(Task("e", 1, requires=["e"], id="b", idempotent=False))
    until(lambda: orch.get_task_status("b").state is TaskState.BLOCKED)
    orch.decide("b", "retry")
    assert once.result(PATIENCE) == 5


def test_one_that_dies_again_and_again_fails_its_task(orch):
    lines_of(orch, "sys.stdin.readline(); sys.exit(3)")
    with pytest.raises(AttemptLostError, match="its program ended with 3"):
        orch.submit_task(Task("e", 1, requires=["e"])).result(PATIENCE)


# -- what is said of those that do not come up -----------------------------------------


def test_one_that_dies_at_once_says_why(orch, caplog):
    why = "its process ended with 7: no such region"
    script = "import sys; print('no such region', file=sys.stderr); sys.exit(7)"
    start = [sys.executable, "-c", script]
    orch.agents.template("bad", executor="service", capabilities=["z"], start=start)
    orch.agents.spawn("bad")
    handle = orch.submit_task(Task("t", 1, requires=["z"]))
    until(lambda: orch.agents.get("bad-1").status == "failed")
    (worker,) = (one for one in orch.agents.list() if one.id == "bad-1")
    assert (worker.type, worker.health.reasons, worker.pid) == ("bad", (why,), None)
    assert f"worker bad-1 of bad is not there: {why}" in str(
        orch.explain(handle.task_id)
    )
    assert [m for m in caplog.messages if f"worker bad-1 of bad: {why}; its out" in m]
    assert orch.agents.match(["z"])[0].reason == why
    # Its id is free.
    orch.agents.spawn("bad", {"id": "bad-1"})
    until(lambda: orch.agents.get("bad-1").status == "failed")
    orch.agents.terminate("bad-1")
    with pytest.raises(UnknownAgentError):
        orch.agents.get("bad-1")


def test_a_program_of_lines_that_dies_at_once_says_why(orch, caplog):
    lines_of(orch, "sys.exit(4)")
    why = "its program ended with 4"
    until(lambda: f"worker odd-1 of odd: {why}" in caplog.messages)
    assert orch.agents.health("odd-1").reasons == (
        f"{why}: it is started again for a task",
    )


def test_local_cannot_be_terminated(orch):
    with pytest.raises(InvalidTransitionError, match="'local' is built in"):
        orch.agents.terminate("local")
    assert orch.submit(len, "abc").result(PATIENCE) == 3
    assert orch.agents.drain("local")
    assert orch.agents.drain("local", on=False)


# -- none outlives its time ------------------------------------------------------------

DEAF = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]


def test_one_that_ignores_sigterm_is_killed_when_it_is_terminated(orch):
    orch.agents.template("deaf", executor="service", capabilities=["d"], start=DEAF)
    worker = orch.agents.spawn("deaf")
    assert is_alive(worker.pid)
    orch.agents.terminate("deaf-1", grace=0.2)
    until(lambda: not is_alive(worker.pid))
    assert [one.id for one in orch.agents.list()] == ["local"]


def test_nothing_is_left_when_the_orchestrator_has_stopped():
    with TaskOrchestrator(unknown_capability="wait", grace=0.3) as orch:
        orch.agents.template("deaf", executor="service", capabilities=["d"], start=DEAF)
        script = "trap '' TERM; read -r line; setsid sleep 6000 & sleep 6000"
        start = ["sh", "-c", script]
        orch.agents.template("l", executor="lines", capabilities=["l"], start=start)
        pids = [orch.agents.spawn(name).pid for name in ("deaf", "l")]
        assert all(map(is_alive, pids))
        orch.submit_task(Task("l", 1, requires=["l"]))
        until(lambda: orch.agents.get("l-1").workload)
        orch.stop(drain=False)
    # It was waited for.
    assert not any(map(is_alive, pids))


# -- what a worker does ----------------------------------------------------------------


def test_the_workers_that_a_pool_had_in_an_earlier_incarnation_are_not_missed(tmp_path):
    """How many there are now, it decides anew; one that it has now and loses is missed."""
    for incarnation in range(2):
        with TaskOrchestrator(
            journal=tmp_path / "runs.db", unknown_capability="wait"
        ) as orch:
            orch.agents.template("tester", capabilities=["test"], handler=lambda *_: 1)
            orch.agents.pool("tester", max_agents=1, interval=0.02)
            if not incarnation:
                assert orch.submit_task(Task("t", requires=["test"])).result(60) == 1
            (check,) = [c for c in orch.health().checks if c.component == "agents"]
            assert (check.status, check.detail) == ("ok", "")
            lost = [each.id for each in orch.agents.list() if each.status == "lost"]
            assert lost == ["tester-1"] * incarnation
