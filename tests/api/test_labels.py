"""What the machines of workers are: labels that tasks require, and their capacity."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.api.tools import PATIENCE, eventually
from tests.house.tools.examples import examples

from taskorch import (
    Program,
    Resources,
    Task,
    TaskOrchestrator,
    TaskState,
    Workflow,
)
from taskorch.errors import (
    InvalidTaskError,
    PlanningError,
    UnknownCapabilityError,
    UnsatisfiableError,
)
from taskorch.events import AgentJoined, TaskStarted
from taskorch.ext.planner import TaskRequest
from taskorch.ext.recovery import Grow, RecoveryHandler, Row
from taskorch.ext.views import JournalReader
from taskorch.kit.machine import machine_labels
from taskorch.model import Agent
from taskorch.protocols import AttemptExecutor, Match
from taskorch.testing import Faults, Simulation

#: This machine, and some that it is not.
HERE = machine_labels()
WINDOWS = ("machine:arm64", "platform:windows", "python:2.7")


class Mailbox(AttemptExecutor):
    """What there is to do, until somebody does it."""

    def __init__(self):
        self.begun = []

    def begin(self, attempt):
        self.begun.append(attempt)
        return attempt


def far(name="far", capabilities=("x",), **options):
    return Agent(name, capabilities, lease=600.0, **options)


def echo(task, _context):
    return task.payload


@pytest.fixture
def orch():
    with TaskOrchestrator(unknown_capability="wait") as made:
        yield made
        made.stop(drain=False, timeout=0)


def why(orch, handle):
    return str(orch.explain(handle.task_id))


# -- who has which ---------------------------------------------------------------------


def test_workers_of_this_process_say_what_this_machine_is(orch):
    orch.agent("near", capabilities={"x"})(echo)
    orch.agents.template("spawned", capabilities={"y": 2}, handler=echo)
    orch.agents.spawn("spawned")
    said = dict(label.split(":") for label in HERE)
    assert said.keys() == {"machine", "platform", "python"}
    for worker in orch.agents.list():
        assert worker.labels == said
        assert not {*worker.capabilities} & {*HERE}
        assert worker.to_dict()["labels"] == said


def test_worker_processes_are_on_this_machine(orch):
    orch.agent("apart", capabilities={"x"}, executor="process")(echo)
    assert orch.agents.get("apart").labels["platform"]
    assert orch.submit_task(Task("x", 3, requires=HERE)).result(PATIENCE) == 3


def test_of_an_executor_of_your_own_it_is_unknown_where_it_is():
    with (
        ThreadPoolExecutor(1) as pool,
        TaskOrchestrator(executors={"mine": pool}) as orch,
    ):
        orch.agent("there", capabilities={"x"}, executor="mine")(echo)
        assert orch.agents.get("there").labels == {}
        with pytest.raises(UnknownCapabilityError):
            orch.submit_task(Task("x", 1, requires=HERE))
        call = Task.call(pow, 2, 3, requires=HERE[:1], executor="mine")
        with pytest.raises(UnknownCapabilityError):
            orch.submit_task(call)
        assert orch.submit_task(Task("x", 1)).result(PATIENCE) == 1


# -- what may be required --------------------------------------------------------------


def test_a_task_goes_only_where_the_machine_is_as_it_requires(orch):
    box = Mailbox()
    orch.agents.join(far(labels=WINDOWS), box)
    orch.agent("near", capabilities={"x"})(echo)
    there = orch.submit_task(Task("x", 1, requires=["x", "platform:windows"]))
    alone = orch.submit_task(Task("x", 2, requires=["python:2.7"]))
    assert [one.task_id for one in box.begun] == [there.task_id, alone.task_id]
    assert orch.submit_task(Task("x", 3, requires=HERE)).result(PATIENCE) == 3
    both = orch.submit_task(Task("x", 4, requires=[HERE[1], "python:2.7"]))
    assert "no worker can do all of" in why(orch, both)
    assert both.status.state is TaskState.QUEUED


def test_labels_say_where_and_not_who(orch):
    """One on such a machine that cannot do it is not asked to."""
    orch.agent("other", capabilities={"y"})(echo)
    handle = orch.submit_task(Task("x", 1, requires=[HERE[0]]))
    assert "no worker can do 'x'" in why(orch, handle)
    assert f"on a machine with {HERE[0]}" in why(orch, handle)
    orch.agent("able", capabilities={"x"})(echo)
    assert handle.result(PATIENCE) == 1


def test_plain_functions_and_programs_run_here_if_this_machine_is_so(orch):
    orch.agent("other", capabilities={"y"})(echo)
    call = orch.submit_task(Task.call(pow, 2, 5, requires=HERE))
    program = orch.submit_task(Task.program(["true"], requires=[HERE[1]]))
    assert call.result(PATIENCE) == 32
    assert program.result(PATIENCE).exit_code == 0
    for handle in (call, program):
        assert "Its worker, local, was chosen" in why(orch, handle)


def test_a_program_for_another_machine_is_for_any_worker_there(orch):
    box = Mailbox()
    program = orch.submit_task(Task.program(["dir"], requires=["platform:windows"]))
    call = orch.submit_task(Task.call(len, "ab", requires=["platform:windows"]))
    same = Task("program", {"no": "program"}, requires=["platform:windows"])
    typed = orch.submit_task(same)
    assert not box.begun
    orch.agents.join(far(labels=WINDOWS), box)
    eventually(lambda: box.begun)
    assert [one.task_id for one in box.begun] == [program.task_id]
    assert box.begun[0].task.payload == Program(["dir"])
    # Nobody there knows the function, or what else is called a program.
    for handle in (call, typed):
        assert handle.status.state is TaskState.QUEUED


def test_who_has_it_as_a_capability_is_asked_as_ever(orch):
    """A worker was given such names before labels were known."""
    box = Mailbox()
    orch.agents.join(far(capabilities=(HERE[1], "platform:windows")), box)
    tasks = [
        Task("x", 1, requires=["platform:windows"]),
        Task.program(["true"], requires=[HERE[1]]),
    ]
    named = [handle.task_id for handle in orch.submit_tasks(tasks)]
    assert [attempt.task_id for attempt in box.begun] == named


def test_a_registry_of_your_own_says_who_matches():
    class Always:
        def matches(self, task, agents, context):
            return Match(tuple(a.name for a in agents), "all", reusable=False)

    with TaskOrchestrator(registry=Always()) as orch:
        assert (
            orch.submit_task(Task.call(len, "ab", requires=HERE)).result(PATIENCE) == 2
        )
        orch.agent("near", capabilities={"y"})(echo)
        handle = orch.submit_task(Task("x", 3, requires=HERE))
        assert handle.result(PATIENCE) == 3


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("platform:macos", "platform:darwin"),
        ("platform:win32", "platform:windows"),
        ("platform:Linux", "platform:linux"),
        ("machine:amd64", "machine:x86_64"),
        ("machine:AArch64", "machine:arm64"),
        ("python:3.12.1", "python:3.12"),
        ("python:3.x", "python:3.12"),
        ("platform:a b", "platform:linux"),
    ],
)
def test_what_no_machine_ever_says_is_refused(orch, label, hint):
    """Else it would wait for ever."""
    with pytest.raises(InvalidTaskError) as caught:
        orch.submit_task(Task("x", 1, requires=["x", label]))
    assert hint in caught.value.hint
    with pytest.raises(InvalidTaskError):
        orch.agents.match([label])
    with pytest.raises(InvalidTaskError):
        orch.agents.join(far(labels=(label,)), Mailbox())


def test_a_worker_says_one_thing_of_each(orch):
    with pytest.raises(InvalidTaskError, match="of one platform"):
        orch.agents.join(far(labels=("platform:linux", "platform:aix7")), Mailbox())
    with pytest.raises(InvalidTaskError, match="zone:eu"):
        orch.agents.join(far(labels=("zone:eu",)), Mailbox())


def test_what_is_missing_is_named():
    with TaskOrchestrator() as orch:
        orch.agent("near", capabilities={"x"})(echo)
        with pytest.raises(UnknownCapabilityError) as caught:
            orch.submit_task(Task("x", 1, requires=["platform:windows"]))
        # Which are known is said, and none is taken for what was meant.
        assert caught.value.capability == "platform:windows"
        assert HERE[1] in caught.value.known
        assert "did you mean" not in caught.value.message
        with pytest.raises(UnknownCapabilityError, match="no worker has 'z'"):
            orch.submit_task(Task("z", 1, requires=[HERE[1]]))


def test_explain_says_on_what_machines_workers_are(orch):
    orch.agents.join(far(labels=WINDOWS), Mailbox())
    handle = orch.submit_task(Task("x", 1, requires=["platform:darwin", "y"]))
    text = why(orch, handle)
    assert "no worker can do 'y'" in text
    assert "with 'platform:darwin': there is platform:windows" in text
    assert "by `taskorch agent`" in text


def test_match_counts_labels(orch):
    orch.agents.join(far(labels=WINDOWS), Mailbox())
    (yes,) = orch.agents.match(["x", "platform:windows"])
    (no,) = orch.agents.match(["x", "platform:linux"])
    assert (yes.matches, no.matches) == (True, False)
    assert no.reason == "it has no platform:linux"


def test_a_restart_knows_them(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path, unknown_capability="wait") as orch:
        orch.agents.join(far(labels=WINDOWS), Mailbox())
        orch.submit_task(Task("x", 1, id="w", requires=["platform:windows"]))
        orch.stop(drain=False, timeout=0)
    joined = [e for e in JournalReader(path).happened() if isinstance(e, AgentJoined)]
    assert [e.agent.labels for e in joined] == [HERE, WINDOWS]
    with TaskOrchestrator(journal=path, unknown_capability="wait") as orch:
        assert orch.agents.get("far").labels["platform"] == "windows"
        box = Mailbox()
        orch.agents.join(far(labels=HERE), box)
        # The same name, on another machine by now.
        assert orch.agents.get("far").labels["platform"] == HERE[1].partition(":")[2]
        assert not box.begun
        orch.stop(drain=False, timeout=0)


def test_a_plan_and_a_simulation_keep_to_them(orch):
    """Two workers can do it, and one of them is where it may be done."""
    orch.agent("near", capabilities=["x"], max_concurrency=1)(echo)
    orch.agents.join(far(labels=("platform:aix",), max_concurrency=1), Mailbox())

    @orch.planner.template("ship")
    def ship(request):
        wf = Workflow("w")
        for n in range(3):
            only = ["platform:aix"]
            wf.add(Task("x", n, id=f"t{n}", expected=10, requires=only))
        return wf

    plan = orch.planner.plan(TaskRequest("r", "ship"))
    assert float(plan.estimated_duration) == 30
    assert orch.planner.optimize(plan).lower_bound == 30
    report = orch.simulate(plan.workflow)
    assert "3 tasks would take 30 s" in str(report)
    assert "worker for platform:aix and x" in str(report)
    asks = TaskRequest("r2", "ship", requirements=["x", *HERE])
    assert orch.planner.plan(asks).request.requirements
    with pytest.raises(PlanningError, match="platform:darwin-no"):
        orch.planner.plan(attrs.evolve(asks, requirements=["platform:darwin-no"]))


def test_what_grows_after_a_failure_grows_on_workers_that_may_have_it():
    """As large as the largest of these, and no larger."""
    memory = {"memory_error": Row(orchestrator=Grow(memory_mb=9))}
    handler = RecoveryHandler(max_retries=2, retry_delay_seconds=0, matrix=memory)
    sizes = []

    def work(task, context):
        sizes.append(context.allocation["memory_mb"])
        orch.agents.drain("here", on=False)
        raise MemoryError

    def add(name, most):
        orch.agent(name, capabilities=["job"], capacity={"memory_mb": most})(work)

    with TaskOrchestrator(resources={"memory_mb": 900}, retry_handler=handler) as orch:
        add("small", 100)
        add("here", 400)
        orch.agents.drain("here", "the first attempt is for the other one")
        elsewhere = far("aix", ["job"], capacity=Resources(memory_mb=800))
        orch.agents.join(elsewhere, Mailbox())
        task = Task("job", requires=HERE, resources={"memory_mb": 60})
        orch.submit_task(task)
        eventually(lambda: len(sizes) >= 2)
        orch.stop(drain=False, timeout=0)
    assert sizes[:2] == [60, 400]


# -- spawned for it --------------------------------------------------------------------


def test_a_pool_brings_workers_for_what_its_machines_are(orch):
    """The first of them says what these are: other tasks bring no more."""
    is_over = threading.Event()

    def work(task, _context):
        is_over.wait(PATIENCE)
        return task.payload

    orch.agents.template("tester", capabilities=["test"], handler=work)
    orch.agents.pool("tester", max_agents=9, interval=0.02, settle=3_600)
    orch.submit_task(Task("t", 0, requires=["test", "platform:aix"]))
    eventually(lambda: "tester-1" in orch.agents.health())
    others = [
        Task("t", 0, requires=["test", "platform:aix"]),
        Task("other", 0, requires=HERE[:1]),
    ]
    orch.submit_tasks(others)
    tasks = [Task("test", n, requires=HERE[:1]) for n in (1, 2)]
    handles = orch.submit_tasks(tasks)
    eventually(lambda: sum(one.workload for one in orch.agents.list()) == 2)
    is_over.set()
    assert [handle.result(PATIENCE) for handle in handles] == [1, 2]
    assert max(one.after for one in orch.agents.explain_scaling()) == 2


def test_one_is_provided_if_it_would_do(orch):
    orch.agents.template("tester", capabilities=["test"], handler=echo)
    assert orch.agents.provision_new_agent(["test", "platform:windows"]) is None
    assert "platform:windows" in orch.agents.explain_scaling()[-1].reason
    assert orch.agents.provision_new_agent(["test", *HERE]).id == "tester-1"


# -- random worlds ---------------------------------------------------------------------

PLATFORMS = ("platform:linux", "platform:windows")
PYTHONS = ("python:3.11", "python:3.12")


def named(*names):
    return st.lists(st.sampled_from(names), max_size=3, unique=True)


@pytest.mark.slow("many random worlds")
@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.tuples(
            named("a", "b"),
            st.sampled_from((None, *PLATFORMS)),
            st.sampled_from((None, *PYTHONS)),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.none() | named("a", "b", *PLATFORMS, *PYTHONS)
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 99),
    st.booleans(),
)
def test_nothing_runs_on_a_machine_that_it_does_not_name(workers, tasks, seed, fair):
    """Whoever fails, comes late or is lost; and without faults what can run runs."""
    faults = Faults.none() if fair else Faults.all()
    simulation = Simulation(seed=seed, faults=faults, unknown_capability="wait")
    joined = {}
    for number, (can, platform, python, is_far) in enumerate(workers):
        labels = {each for each in (platform, python) if each}
        joined[f"w{number}"] = ({*can}, labels)
        lease = 9.0 if is_far else None
        simulation.agent(f"w{number}", capabilities=can, labels=labels, lease=lease)

    def may(name, kind, requires):
        can, labels = joined[name]
        if requires is None:
            return kind in can
        who = {n for n in requires if ":" not in n}
        if requires and not who:
            who = {kind}
        return who <= can and {n for n in requires if ":" in n} <= labels

    wanted = {}
    for number, (kind, requires) in enumerate(tasks):
        with suppress(InvalidTaskError):
            simulation.submit_task(Task(kind, 1, id=f"t{number}", requires=requires))
            wanted[f"t{number}"] = (kind, requires)
    simulation.run(until=10_000.0)
    started = [e for e in simulation.events if isinstance(e, TaskStarted)]
    for event in started:
        assert may(event.agent_id, *wanted[event.task_id])
    done = {event.task_id for event in started}
    for task_id, (kind, requires) in wanted.items():
        if fair and task_id not in done:
            assert not any(may(name, kind, requires) for name in joined)


# -- capacity --------------------------------------------------------------------------


def test_a_worker_here_has_what_the_pools_have():
    with TaskOrchestrator(resources={"cpu": 4, "licence": 1}) as orch:
        orch.agent("near", capabilities={"x"})(echo)
        own = Resources(cpu=2, gpu=1, licence=0)
        orch.agent("own", capabilities={"y"}, capacity=own)(echo)
        assert orch.agents.get("near").capacity == Resources(cpu=4, licence=1)
        assert orch.agents.get("own").capacity == Resources(cpu=2, gpu=1)
        orch.resources.resize({"cpu": 1})
        assert orch.agents.get("near").capacity == Resources(cpu=1, licence=1)
        assert orch.agents.get("own").to_dict()["capacity"] == {"cpu": 1, "gpu": 1}
        # It is no second reservation: both have the one core, by turns.
        tasks = [Task(kind, 1, resources={"cpu": 1}) for kind in "xyxy"]
        for handle in orch.submit_tasks(tasks):
            assert handle.result(PATIENCE) == 1


AMOUNTS = st.dictionaries(
    st.sampled_from(("cpu", "gpu", "memory_mb")), st.integers(0, 4), max_size=3
)


@settings(max_examples=examples(40), deadline=None)
@given(AMOUNTS, st.none() | AMOUNTS, st.booleans(), AMOUNTS)
def test_a_task_is_taken_if_the_capacity_that_is_shown_has_room(
    pools, capacity, is_far, wants
):
    """What is shown is what holds."""
    has = None if capacity is None else Resources(**capacity)
    with TaskOrchestrator(resources=pools) as orch:
        if is_far:
            orch.agents.join(far("w", capacity=has), Mailbox())
        else:
            orch.agent("w", capabilities={"x"}, capacity=has)(echo)
        shown = orch.agents.get("w").capacity
        fits = Resources(**wants).fits_in(shown)
        try:
            orch.submit_task(Task("x", 1, resources=wants))
        except UnsatisfiableError:
            assert not fits
        else:
            assert fits
        orch.stop(drain=False, timeout=0)


def test_a_worker_that_is_too_small_is_named(orch):
    """Also if the task was there first."""
    orch.resources.resize({"cpu": 64})
    handle = orch.submit_task(Task("x", 1, resources={"cpu": 16}))
    box = Mailbox()
    orch.agents.join(far("w", capacity=Resources(cpu=8)), box)
    assert "asks for 16 cpu, and the most there is, on worker w, is 8" in why(
        orch, handle
    )
    with pytest.raises(UnsatisfiableError, match="on worker w, is 8"):
        orch.submit_task(Task("x", 2, resources={"cpu": 9}))
    assert not box.begun
    orch.agents.join(far("larger", capacity=Resources(cpu=16)), box)
    eventually(lambda: box.begun)
