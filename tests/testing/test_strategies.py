"""The hypothesis strategies: valid, varied, pinned and shrunk to the plainest."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.kit.limits import MAX_PRIORITY
from taskorch.model import Agent, Resources, RetryPolicy, Task
from taskorch.model.ids import id_problem
from taskorch.policies import StructuralValidator
from taskorch.testing.strategies import (
    agents,
    batches,
    payloads,
    priorities,
    resources,
    retry_policies,
    task_ids,
    tasks,
)

pytestmark = pytest.mark.slow("random draws, and what they shrink to")

ROOT = Path(__file__).parents[2]
EVERY = [
    agents(),
    batches(),
    payloads(),
    priorities(),
    resources(),
    retry_policies(),
    task_ids(),
    tasks(),
]
PLAIN = batches(st.just(Task("x")))
quick = settings(
    max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow]
)


def search(strategy, condition, *phases):
    # Not the phase that explains a failure, which takes longer than all the others.
    phases = (Phase.generate, *phases)
    config = settings(
        max_examples=2_000, database=None, derandomize=True, phases=phases
    )
    return find(strategy, condition, settings=config)


def simplest(strategy, condition=lambda value: True):
    return search(strategy, condition, Phase.shrink)


def findings(task):
    return StructuralValidator().validate(task, context=None).findings


# -- they are valid ----------------------------------------------------------------


@given(tasks())
def test_tasks_are_accepted(task):
    assert findings(task) == ()


@given(st.data())
def test_tasks_take_drawn_ids_and_keys(data):
    task = data.draw(tasks(id=task_ids(), idempotency_key=task_ids()))

    assert findings(task) == ()


@given(task_ids())
def test_ids_are_safe_and_left_to_users(task_id):
    assert id_problem(task_id) is None
    assert "~" not in task_id


@given(payloads())
def test_payloads_survive_json(payload):
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload


@given(agents())
def test_a_worker_has_room_for_what_a_task_takes_on_it(worker):
    assert worker.capabilities == tuple(sorted(set(worker.capabilities)))
    assert worker.capacity is None or worker.request.fits_in(worker.capacity)


@given(batches(ids=task_ids()))
def test_batches_refer_to_their_own_tasks_and_form_no_ring(batch):
    left = {task.id: set(task.after) for task in batch}

    assert len(left) == len(batch)
    while left:
        ready = [name for name, after in left.items() if not after & left.keys()]
        assert ready, left
        for name in ready:
            del left[name]
    assert {name for task in batch for name in task.after} <= {t.id for t in batch}


@quick
@given(
    st.lists(agents(capacity=None), unique_by=lambda a: a.name, min_size=1),
    batches(),
)
def test_an_orchestrator_takes_any_workers_and_any_batch(drawn, batch):
    """It refuses none, in any order."""
    orch = TaskOrchestrator(resources=Resources(cpu=8, memory_mb=8_192))
    for worker in drawn:
        orch.agent(
            worker.name,
            capabilities=worker.capabilities,
            max_concurrency=worker.max_concurrency,
            request=worker.request,
        )(print)
    orch.agent("all", capabilities={"build", "review", "test"})(print)

    handles = orch.submit_tasks(batch)

    assert [handle.task_id for handle in handles] == [task.id for task in batch]
    orch.stop(drain=False)


@given(resources(cpu=0.5, licence=3))
def test_resources_stay_within_their_limits(drawn):
    assert drawn.fits_in(Resources(cpu=0.5, licence=3))
    # Equal amounts are equal values, however they were made.
    assert drawn == Resources(**drawn)


# -- they vary ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "condition"),
    [
        (batches(), lambda b: any(b[0].id in t.after for t in b[1:])),
        (batches(), lambda b: any(b[-1].id in t.after for t in b[:-1])),
        (batches(), lambda b: any(len(t.after) > 1 for t in b)),
        (tasks(), lambda t: t.not_before and t.deadline and t.retry.max_attempts > 1),
        (tasks(), lambda t: not t.idempotent and t.priority and t.timeout),
        (tasks(), lambda t: t.requires == ("build", "review") and t.resources),
        (tasks(), lambda t: t.requires == ()),
        (agents(), lambda a: a.capacity and a.request and len(a.capabilities) > 1),
        (resources(), lambda r: r["cpu"] % 1 and r["memory_mb"] >= 1_024),
        (priorities(), lambda p: p < -1_000),
        (priorities(), lambda p: 0 < p < 4),
        (payloads(), lambda p: isinstance(p, dict) and any(map(bool, p.values()))),
        (retry_policies(), lambda p: p.jitter == "full" and p.wait == "linear"),
        (task_ids(), lambda i: "/" in i and "." in i),
    ],
)
def test_what_matters_is_drawn(strategy, condition):
    assert condition(search(strategy, condition))


# -- they shrink -------------------------------------------------------------------


def test_all_shrink_to_the_plainest():
    a_task = Task("build", idempotent=True, retry=RetryPolicy())
    assert simplest(tasks()) == a_task
    assert simplest(batches()) == [Task("build", id="t0")]
    assert simplest(payloads()) is None
    assert simplest(priorities()) == 0
    assert simplest(resources()) == Resources()
    assert simplest(agents()) == Agent("a")
    assert simplest(retry_policies()) == RetryPolicy(
        1, wait="exponential", base=0, max_delay=0, jitter=0
    )
    assert simplest(task_ids()) == "a"


def test_a_batch_shrinks_to_the_fewest_tasks_in_order():
    found = simplest(PLAIN, lambda batch: any(task.after for task in batch))

    assert [(task.id, task.after) for task in found] == [("t0", ()), ("t1", ("t0",))]


def test_a_reference_to_a_later_task_shrinks_to_two_tasks():
    found = simplest(PLAIN, lambda b: any(b[-1].id in task.after for task in b))

    assert [(task.id, task.after) for task in found] == [("t1", ("t0",)), ("t0", ())]


# -- they can be pinned ------------------------------------------------------------


@given(tasks(type="x", priority=priorities(5, 9), payload=st.integers(), timeout=None))
def test_parts_of_a_task_can_be_fixed(task):
    assert (task.type, task.timeout) == ("x", None)
    assert 5 <= task.priority <= 9
    assert isinstance(task.payload, int)


@given(agents(name="n", capabilities=("x",), max_concurrency=st.just(2)))
def test_parts_of_a_worker_can_be_fixed(worker):
    assert (worker.name, worker.capabilities, worker.max_concurrency) == (
        "n",
        ("x",),
        2,
    )


@given(retry_policies(max_attempts=3, jitter=0.0, retry_on=OSError))
def test_parts_of_a_policy_can_be_fixed(policy):
    assert (policy.max_attempts, policy.jitter, policy.retry_on) == (3, 0.0, OSError)


@given(
    batches(tasks(type="x"), ids=task_ids(), min_size=2, max_size=3, max_after=0),
)
def test_parts_of_a_batch_can_be_fixed(batch):
    assert 2 <= len(batch) <= 3
    assert {(task.type, task.after) for task in batch} == {("x", ())}


@given(batches(min_size=0, max_size=0))
def test_a_batch_may_be_empty(batch):
    assert batch == []


@given(priorities(max_value=-10), priorities(min_value=10), priorities())
def test_priorities_keep_to_their_limits(low, high, all_of_them):
    assert -MAX_PRIORITY <= low <= -10
    assert 10 <= high <= MAX_PRIORITY
    assert -MAX_PRIORITY <= all_of_them <= MAX_PRIORITY


@pytest.mark.parametrize("make", [agents, retry_policies, tasks])
def test_a_part_that_there_is_not_is_refused(make):
    with pytest.raises(TypeError, match="has no part 'colour'; there are "):
        make(colour="red")


def test_an_amount_out_of_range_is_refused():
    with pytest.raises(InvalidTaskError):
        resources(cpu=-1)


def test_every_part_of_the_values_can_be_fixed():
    """A new field of Task, Agent or RetryPolicy needs a place here."""
    for make, cls in ((tasks, Task), (agents, Agent), (retry_policies, RetryPolicy)):
        for field in cls.__attrs_attrs__:
            if field.init:
                make(**{field.name: None})


def test_all_can_be_shown():
    """A strategy that fails to describe itself spoils hypothesis's messages."""
    for strategy in EVERY:
        assert repr(strategy)


# -- without hypothesis ------------------------------------------------------------


def test_without_hypothesis_it_says_what_to_install():
    code = """if True:
        import sys
        sys.modules["hypothesis"] = None
        try:
            import taskorch.testing.strategies
        except ImportError as error:
            print(error.name, error)
    """

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == (
        "hypothesis taskorch.testing.strategies needs hypothesis: "
        "pip install 'taskorch[testing]'\n"
    )


def test_the_extra_that_it_names_brings_hypothesis():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    extra = project["optional-dependencies"]["testing"]
    assert any(needed.startswith("hypothesis") for needed in extra)
