"""`orch.agents`: agents that are spawned from templates, and pools of them."""

import sys
import time
from pathlib import Path

import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.errors import (
    AgentProgramError,
    AttemptLostError,
    InvalidTaskError,
    InvalidTransitionError,
    UnknownAgentError,
)
from taskorch.model import Breaker, Capability

EXAMPLES = Path(__file__).parents[2] / "examples"
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


def until(holds, seconds=20.0):
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


@pytest.fixture
def orch():
    with TaskOrchestrator(unknown_capability="wait") as made:
        yield made


def test_spawn_and_terminate(orch):
    orch.agents.template("tester", kind="test", capabilities={"test": 3}, handler=do)
    agent = orch.agents.spawn("tester", {"id": "agent_007"})
    assert (agent.id, agent.type, agent.kind) == ("agent_007", "tester", "test")
    assert (agent.capabilities, agent.status, agent.workload) == (
        {"test": 3},
        "idle",
        0,
    )
    good = Task("t", 5, requires=[Capability("test", level=2)])
    assert orch.submit_task(good).result(20) == 5
    assert orch.agents.health("agent_007").success_rate == 1.0
    assert set(orch.agents.health()) == {"local", "agent_007"}
    orch.agents.terminate("agent_007")
    assert "agent_007" not in [one.id for one in orch.agents.list()]
    waits = orch.submit_task(Task("t", 6, requires=["test"]))
    assert orch.agents.spawn("tester", {"id": "agent_007"}).id == "agent_007"
    assert waits.result(20) == 6


def test_drain_is_explained(orch):
    orch.agents.template("tester", capabilities=["test"], handler=do)
    orch.agents.spawn("tester")
    assert orch.agents.drain("tester-1", "its disk is full")
    assert not orch.agents.drain("tester-1", "its disk is full")
    handle = orch.submit_task(Task("t", 1, requires=["test"]))
    assert "gets no new work: its disk is full" in str(orch.explain(handle.task_id))
    assert orch.agents.health("tester-1").status == "draining"
    assert orch.agents.drain("tester-1", on=False)
    assert handle.result(20) == 1


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
    assert first.result(20) == [1, {"a": 2}]
    pid = orch.agents.get("echo-1").pid
    assert pid
    for payload, words in (
        ("refuse", "not today"),
        ("babble", "not a line of JSON"),
        ("die", "ended with 3"),
    ):
        with pytest.raises((AgentProgramError, AttemptLostError), match=words):
            orch.submit_task(Task("e", payload, requires=["e"])).result(20)
    # It was started anew.
    assert orch.submit_task(Task("e", "x", requires=["e"])).result(20) == "x"
    assert orch.agents.get("echo-1").pid != pid


def test_a_program_of_lines_is_out_of_time(orch):
    orch.agents.template("echo", executor="lines", capabilities=["e"], start=LINES)
    orch.agents.spawn("echo")
    slow = orch.submit_task(Task("e", "sleep", requires=["e"], timeout=0.5))
    assert slow.exception(30) is not None
    assert orch.submit_task(Task("e", "x", requires=["e"])).result(20) == "x"


@pytest.mark.skipif(sys.platform == "win32", reason="it is for a shell")
def test_the_example_in_shell(orch):
    start = ["sh", str(EXAMPLES / "line_agent.sh")]
    orch.agents.template("counter", executor="lines", capabilities=["n"], start=start)
    orch.agents.spawn("counter")
    assert orch.submit_task(Task("n", "hello", requires=["n"])).result(20) == 5
    with pytest.raises(AgentProgramError, match="no plain text"):
        orch.submit_task(Task("n", 7, requires=["n"])).result(20)


def test_a_template_whose_agents_fail_is_asked_about(orch):
    start = [sys.executable, "-c", "raise SystemExit(7)"]
    orch.agents.template("bad", executor="service", capabilities=["z"], start=start)
    orch.agents.pool("bad", min_agents=1, max_agents=2, interval=0.05)
    (question,) = until(orch.questions)
    assert "5 have failed in 60 s; the last: its process ended with 7" in question.text
    with pytest.raises(InvalidTaskError, match="not spawned"):
        orch.agents.spawn("bad")
    until(lambda: "no more are spawned" in orch.agents.explain_scaling()[-1].reason)
    orch.answer(question.id, "leave it", by="ada")


def test_a_command_that_is_missing(orch):
    for kind in ("service", "lines"):
        orch.agents.template(kind, executor=kind, capabilities=[kind], start=["/no/x"])
    with pytest.raises(InvalidTaskError, match="cannot be started"):
        orch.agents.spawn("service")
    orch.agents.spawn("lines")
    with pytest.raises(AgentProgramError, match="cannot be started"):
        orch.submit_task(Task("t", 1, requires=["lines"])).result(20)


def test_a_pool_provides_what_is_needed(orch):
    orch.agents.template("tester", capabilities=["test"], handler=do)
    orch.agents.pool("tester", max_agents=3, interval=0.02, settle=0.1)
    handles = [orch.submit_task(Task("t", n, requires=["test"])) for n in range(20)]
    assert [handle.result(20) for handle in handles] == list(range(20))
    until(lambda: len(orch.agents.list()) == 1)
    first, *_, last = orch.agents.explain_scaling("tester")
    assert (first.before, first.after > 0, last.after) == (0, True, 0)
    assert "20 waiting" in first.reason or first.after == 3


def test_provision(orch):
    orch.agents.template("gpu", capabilities={"gpu": 2}, handler=do)
    found = orch.agents.provision_new_agent(["gpu"])
    assert found.id == "gpu-1"
    assert orch.agents.provision_new_agent(["gpu"]).id == "gpu-1"
    assert orch.agents.provision_new_agent(["tpu"]) is None
    assert orch.agents.explain_scaling()[-1].reason == "no template has tpu"


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
    agents = orch.agents
    agents.spawn("x")
    for act, words in (
        (lambda: agents.spawn("xx"), "did you mean 'x'"),
        (lambda: agents.spawn("x", {"idd": 1}), "did you mean 'id'"),
        (lambda: agents.spawn("x", {"id": "x-1"}), "already"),
        (lambda: agents.pool("x", min_agents=3, max_agents=2), "is above max_agents"),
        (
            lambda: agents.pool("x", scale_up_threshold=0.2),
            "the pool would never rest",
        ),
        (lambda: agents.explain_scaling("x"), "no pool"),
    ):
        with pytest.raises(InvalidTaskError, match=words):
            act()
    agents.pool("x", max_agents=2)
    with pytest.raises(InvalidTaskError, match="already"):
        agents.pool("x", max_agents=2)
    for act in (agents.terminate, agents.drain, agents.health, agents.get):
        with pytest.raises(UnknownAgentError, match="did you mean 'x-1'"):
            act("x-9")


def test_a_pool_has_its_own_agents_alone(orch):
    """Nothing is taken for one by its name: neither by another template nor by hand."""
    orch.agents.template("a", capabilities=["a"], handler=do, names="x-{number}")
    orch.agents.template("b", capabilities=["b"], handler=do)
    for type_, name in (("b", "x-2"), ("b", "x-3"), ("a", "mine")):
        orch.agents.spawn(type_, {"id": name})
    orch.agents.pool("a", min_agents=1, max_agents=2, interval=0.02, settle=0.1)
    handles = [orch.submit_task(Task("t", n, requires=["a"])) for n in range(20)]
    assert [handle.result(20) for handle in handles] == list(range(20))
    until(lambda: orch.agents.explain_scaling()[-1].after == 1)
    assert {one.id for one in orch.agents.list()} >= {"x-1", "x-2", "x-3", "mine"}


def test_one_that_has_gone_is_unknown(orch):
    orch.agents.template("tester", capabilities=["test"], handler=do)
    orch.agents.spawn("tester", {"id": "one"})
    orch.agents.spawn("tester", {"id": "another"})
    orch.agents.terminate("one")
    with pytest.raises(UnknownAgentError, match="no agent 'one'"):
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
