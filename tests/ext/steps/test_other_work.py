"""
What is kept belongs to the work, not to the name: all ways to other work, and all forms.

A way makes a later run of a task, for other work or, as a control, for the same. A form is
what its function asks for: a step with each kind of function, a wait, a child.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import RetryPolicy, Task, TaskOrchestrator, Workflow, current_context
from taskorch.core.runs import _foreseen
from taskorch.errors import DuplicateTaskError, InvalidTaskError, StepError
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.steps import step

#: The orders that were charged, in this process, with how often.
CHARGED: Counter[str] = Counter()
#: What the source of a workflow gives today; and the orders whose tasks fail at their ends.
ROWS: list[str] = []
FAILING: set[str] = set()


@pytest.fixture(autouse=True)
def _nothing_yet():
    CHARGED.clear()
    FAILING.clear()


@pytest.fixture(params=["memory", "journal"])
def orch(request, tmp_path):
    """An orchestrator in memory, and one with a journal."""
    settings = {} if request.param == "memory" else {"journal": tmp_path / "o.db"}
    with TaskOrchestrator(concurrency=8, **settings) as made:
        for order in ("first", "second", "A", "B", "Z"):
            made.emit(f"paid {order}", order, keep=600)
        yield made


def charge(order):
    CHARGED[order] += 1
    return f"charged {order}"


class Client:
    def __init__(self, order):
        self.order = order

    def charge(self):
        return charge(self.order)

    def __call__(self):
        return charge(self.order)


@step
def marked(client):
    return client.charge()


# -- the forms: each says for which order it was done -----------------------------------


def by_argument(order):
    return current_context().step("charge", charge, order)


def by_name(order):
    return current_context().step("charge", charge, order=order)


def by_lambda(order):
    return current_context().step("charge", lambda: charge(order))


def by_default(order):
    return current_context().step("charge", lambda given=order: charge(given))


def by_nested(order):
    def nested():
        return charge(order)

    return current_context().step("charge", nested)


def by_other_function(order):
    def nested(of):
        return of()

    inner = functools.partial(charge, order)
    return current_context().step("charge", nested, inner)


def by_method(order):
    return current_context().step("charge", Client(order).charge)


def by_partial(order):
    return current_context().step("charge", functools.partial(charge, order))


def by_object(order):
    return current_context().step("charge", Client.charge, Client(order))


def by_callable(order):
    return current_context().step("charge", Client(order))


def by_local_class(order):
    class Local:
        def charge(self):
            return charge(order)

    return current_context().step("charge", Local().charge)


def by_mark(order):
    return marked(Client(order))


def by_nothing_of_it(order):
    """The step does not have the order: only its task tells which it is for."""
    current_context().step("charge", list)
    return charge(order)


async def by_coroutine(order):
    return await current_context().aio.step("charge", lambda: charge(order))


def by_child(order):
    return current_context().child("charge", charge, order)


def by_child_task(order):
    return current_context().child("charge", Task.call(charge, order, timeout=60))


def by_child_workflow(order):
    flow = Workflow("charge")
    flow.task(charge, order, id="it")
    return current_context().child("charge", flow)["it"]


def by_wait(order):
    return "charged " + current_context().wait(f"paid {order}", timeout=60, name="paid")


def by_ask(order):
    current_context().ask("Ship it?", name="charge")
    return charge(order)


def by_sleep(order):
    current_context().sleep(seconds=0.01, name="charge")
    return charge(order)


FORMS = [
    *(by_argument, by_name, by_lambda, by_default, by_nested, by_other_function),
    *(by_method, by_partial, by_object, by_callable, by_local_class, by_mark),
    *(by_nothing_of_it, by_coroutine, by_child, by_child_task, by_child_workflow),
    *(by_wait, by_ask, by_sleep),
]
#: Those of which only what they ask for says whether it was done again.
OUTSIDE = (by_nothing_of_it, by_wait, by_ask, by_sleep)


# -- the ways ---------------------------------------------------------------------------


def source():
    return ROWS[-1]


def rows():
    return [*ROWS]


def settle(orch, is_over):
    """Let all questions be answered with yes, until *is_over*; return their number."""
    asked = set()

    def look():
        for question in orch.questions():
            asked.add(question.id)
            orch.answer(question.id, "approve", by="ada")
        return is_over()

    eventually(look)
    return len(asked)


def done(orch, handle):
    settle(orch, handle.done)
    return handle.result(PATIENCE)


def run_done(orch, run_id):
    run = orch.workflows.get(run_id)
    settle(orch, lambda: run.status().state in ("completed", "failed"))
    return run.result(PATIENCE)


def replaced(orch, form, name):
    """Another task succeeds it under its id."""
    done(orch, orch.submit_task(Task.call(form, "first", id=name)))
    again = orch.submit_task(Task.call(form, "second", id=name), replace=True)
    return {name: done(orch, again)}, ["second"]


def handed_anew(orch, form, name):
    """A task that it depends on runs again, and gives something else."""
    ROWS[:] = ["first"]
    flow = Workflow("w")
    flow.task(form, flow.task(source, id="source"), id="use")
    orch.workflows.start(flow, id=name)
    run_done(orch, name)
    ROWS[:] = ["second"]
    orch.rerun_task(f"{name}/source")
    return {f"{name}/use": run_done(orch, name)["use"]}, ["second"]


def forked_above(orch, form, name):
    """A task that it depends on is forked, and gives something else."""
    ROWS[:] = ["first"]
    flow = Workflow("w")
    flow.task(form, flow.task(stepping_source, id="source"), id="use")
    orch.workflows.start(flow, id=name)
    run_done(orch, name)
    ROWS[:] = ["second"]
    orch.steps.fork(f"{name}/source", at="source")
    return {f"{name}/use": run_done(orch, name)["use"]}, ["second"]


def stepping_source():
    return current_context().step("source", source)


def restarted(orch, form, name):
    """A failed run is restarted, in which its input is made anew."""
    ROWS[:] = ["first"]
    flow = Workflow("w")
    given = flow.task(source, id="source")
    flow.task(form, given, id="use")
    flow.task(failing, given, id="fails", after=["use"])
    FAILING.add("first")
    run = orch.workflows.start(flow, id=name)
    settle(orch, lambda: run.status().state == "failed")
    ROWS[:] = ["second"]
    orch.rerun_task(f"{name}/source")
    orch.workflows.restart(name)
    return {f"{name}/use": run_done(orch, name)["use"]}, ["second"]


def failing(order):
    assert order not in FAILING


def deployed(orch, form, name):
    """Another argument is deployed."""

    def flow(order):
        made = Workflow("w")
        made.task(form, order, id="use")
        return made

    orch.workflows.start(flow("first"), id=name)
    run_done(orch, name)
    orch.workflows.start(flow("second"), id=name, definition="as_deployed")
    return {f"{name}/use": run_done(orch, name)["use"]}, ["second"]


def put_in_front(orch, form, name):
    """A row is put in front of those of a map."""
    ROWS[:] = ["A", "B"]
    flow = Workflow("w")
    flow.map(form, flow.task(rows, id="rows"), id="m")
    orch.workflows.start(flow, id=name)
    run_done(orch, name)
    ROWS[:] = ["Z", "A", "B"]
    orch.rerun_task(f"{name}/rows")
    results = run_done(orch, name)
    return {f"{name}/m/{n}": results[f"m/{n}"] for n in range(3)}, ["Z", "A", "B"]


WAYS = [
    replaced,
    handed_anew,
    forked_above,
    restarted,
    deployed,
    put_in_front,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_other_work_begins_without_what_was_kept(orch, way):
    wrong = {}
    for form in FORMS:
        results, orders = way(orch, form, form.__name__)
        told = []
        for name in results:
            latest = orch.get_task_status(name).task_id
            # What it has asked for was asked for in this run, and in no earlier one.
            told += [
                (each.task_id == latest, each.state) for each in orch.steps.of(name)
            ]
        right = (
            [f"charged {order}" for order in orders],
            [(True, "called")] * len(orders),
        )
        if ([*results.values()], told) != right:
            wrong[form.__name__] = results, told
    assert not wrong


# -- the controls: the same work --------------------------------------------------------


def failing_at_its_end(form, order):
    charged = globals()[form](order)
    if order in FAILING:
        raise ConnectionError(order)
    return charged


def retried(orch, form, name):
    task = Task.call(
        failing_twice, name, "first", id=name, retry=RetryPolicy(3, base=0)
    )
    return name, done(orch, orch.submit_task(task))


def failing_twice(form, order):
    charged = globals()[form](order)
    if current_context().attempt < 3:
        raise ConnectionError(order)
    return charged


def run_again(orch, form, name):
    done(orch, orch.submit_task(Task.call(form, "first", id=name)))
    return name, done(orch, orch.rerun_task(name))


def restarted_as_it_was(orch, form, name):
    FAILING.add("first")
    flow = Workflow("w")
    flow.task(failing_at_its_end, name, "first", id="use")
    run = orch.workflows.start(flow, id=name)
    settle(orch, lambda: run.status().state == "failed")
    FAILING.clear()
    orch.workflows.restart(name)
    return f"{name}/use", run_done(orch, name)["use"]


def handed_the_same(orch, form, name):
    ROWS[:] = ["first"]
    flow = Workflow("w")
    flow.task(form, flow.task(source, id="source"), id="use")
    orch.workflows.start(flow, id=name)
    run_done(orch, name)
    orch.rerun_task(f"{name}/source")
    return f"{name}/use", run_done(orch, name)["use"]


def forked_later(orch, form, name):
    done(orch, orch.submit_task(Task.call(with_more, name, "first", id=name)))
    return name, done(orch, orch.steps.fork(name, at="more"))


def with_more(form, order):
    charged = globals()[form](order)
    current_context().step("more", list)
    return charged


CONTROLS = [retried, run_again, restarted_as_it_was, handed_the_same, forked_later]


@pytest.mark.parametrize("way", CONTROLS, ids=lambda way: way.__name__)
def test_the_same_work_uses_what_was_kept(orch, way):
    wrong = {}
    for form in FORMS:
        if form is by_coroutine and way in (retried, restarted_as_it_was, forked_later):
            # These call the form in a function of their own.
            continue
        CHARGED.clear()
        name, result = way(orch, form, form.__name__)
        first = orch.steps.of(name)[0]
        told = result, "~" in first.task_id, first.attempt, first.state
        once = form in OUTSIDE or CHARGED == {"first": 1}
        if told != ("charged first", False, 1, "kept") or not once:
            wrong[form.__name__] = told, dict(CHARGED)
    assert not wrong


def what_is_up_to_date(form):
    return globals()[form](ROWS[-1])


def test_a_step_has_all_values_of_its_function_and_not_its_name_alone(orch):
    """The task stays the same: what its steps are bound to and close over differs."""
    wrong = {}
    for form in FORMS:
        if form in (by_nothing_of_it, by_coroutine, by_ask, by_sleep):
            # Their step does not have the order, or cannot be called here.
            continue
        name = form.__name__
        ROWS[:] = ["first"]
        done(orch, orch.submit_task(Task.call(what_is_up_to_date, name, id=name)))
        ROWS[:] = ["second"]
        result = done(orch, orch.rerun_task(name))
        if result != "charged second":
            wrong[name] = result
    assert not wrong


# -- between ----------------------------------------------------------------------------


def three_steps():
    context = current_context()
    context.step("one", charge, "A")
    context.step("two", functools.partial(charge, ROWS[0]))
    context.step("three", charge, "C")
    return context.attempt


def test_a_step_that_differs_is_called_anew_with_all_after_it(orch):
    ROWS[:] = ["B"]
    orch.submit_task(Task.call(three_steps, id="t")).result(PATIENCE)
    ROWS[:] = ["X"]
    orch.rerun_task("t").result(PATIENCE)
    assert CHARGED == {"A": 1, "B": 1, "X": 1, "C": 2}
    told = [(each.key, each.task_id) for each in orch.steps.of("t")]
    assert told == [("one#1", "t"), ("two#1", "t~2"), ("three#1", "t~2")]
    # What the first run has kept stays its own.
    assert [each.task_id for each in orch.steps.of("t~1")] == ["t", "t", "t"]


def in_another_order():
    context = current_context()
    is_again = "~" in context.task_id
    for name in "cab" if is_again else "abc":
        bound = ROWS[0] if name == "a" else context.attempt
        context.step(name, functools.partial(charge, f"{name}{bound}"))
    if is_again and context.attempt == 1:
        raise ConnectionError


def test_what_a_run_was_given_stays_with_it_whatever_differs_later(orch):
    ROWS[:] = ["B"]
    task = Task.call(in_another_order, id="t", retry=RetryPolicy(2, base=0))
    orch.submit_task(task).result(PATIENCE)
    ROWS[:] = ["X"]
    orch.rerun_task("t").result(PATIENCE)
    # The run has asked for c first, and had it: its next attempt has it, too. The others
    # came after what differed.
    assert CHARGED == {"aB": 1, "b1": 2, "c1": 1, "aX": 1}


def with_a_lock():
    context = current_context()
    context.step("locked", charge_under, threading.Lock())
    if context.attempt == 1:
        raise ConnectionError
    return CHARGED["locked"]


def charge_under(lock):
    with lock:
        return charge("locked")


def test_what_nobody_can_tell_apart_is_called_anew_by_a_later_run_alone(orch):
    task = Task.call(with_a_lock, id="t", retry=RetryPolicy(2, base=0))
    # The same run uses it: a crash between must charge nobody twice.
    assert orch.submit_task(task).result(PATIENCE) == 1
    assert orch.rerun_task("t").result(PATIENCE) == 2


def with_its_attempt():
    context = current_context()
    context.step("charge", charge, str(context.attempt))
    raise ConnectionError


def test_a_difference_in_one_run_stays_an_error(orch):
    task = Task.call(with_its_attempt, id="t", retry=RetryPolicy(2, base=0))
    with pytest.raises(StepError, match="was called with"):
        orch.submit_task(task).result(PATIENCE)


def with_a_checkpoint(order):
    context = current_context()
    CHARGED[f"{order} after {context.restored}"] += 1
    context.checkpoint(order)
    if context.attempt == 1:
        raise ConnectionError


def test_a_checkpoint_is_restored_by_a_retry_alone(orch):
    for order in ("A", "B"):
        retry = RetryPolicy(2, base=0)
        task = Task.call(with_a_checkpoint, order, id="t", retry=retry)
        orch.submit_task(task, replace=True).result(PATIENCE)
    assert {*CHARGED} == {"A after None", "A after A", "B after None", "B after B"}


#: A program whose second incarnation runs again what the first has done, and says what
#: it calls.
PROGRAM = """
import dataclasses, functools, sys
from taskorch import Task, TaskOrchestrator, current_context
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.steps import step

CALLS = []

@dataclasses.dataclass
class Order:
    name: str
    tags: frozenset = frozenset({"a", "b", "c", "dd"})
    def charge(self):
        CALLS.append(self.name)

def charge(order, more=None):
    CALLS.append(order.name)

@step
def marked(order):
    CALLS.append(order.name)

def flow(order, numbers):
    context = current_context()
    context.step("argument", charge, order, more={"x": {1, 2}, "a": numbers})
    context.step("lambda", lambda: charge(order))
    def nested(tags=order.tags):
        charge(order)
    context.step("nested", nested)
    context.step("method", order.charge)
    context.step("partial", functools.partial(charge, order))
    marked(order)
    context.sleep(seconds=0.01)
    context.child("child", list, order.tags)

with TaskOrchestrator(journal=sys.argv[1]) as orch:
    if sys.argv[2] == "first":
        made = Task.call(flow, Order("A"), NUMBERS, id="t")
        orch.submit_task(made).result(60)
    else:
        orch.rerun_task("t").result(60)
        orch.rerun_task("t").result(60)
    print(len(CALLS))
"""


def test_the_same_work_is_known_in_another_process(tmp_path):
    program = tmp_path / "program.py"
    numbers = "[1, 2.5]"
    if find_spec("numpy"):
        numbers = "[1, 2.5, numpy.float64(1), (numpy.int32(3),)]"
    text = PROGRAM.replace("NUMBERS", numbers)
    program.write_text("import numpy\n" * ("numpy" in numbers) + text)
    called = []
    for seed, incarnation in enumerate(("first", "second"), 1):
        settings = {
            "PYTHONHASHSEED": str(seed),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        ran = subprocess.run(
            [sys.executable, program, tmp_path / "o.db", incarnation],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        called.append(json.loads(ran.stdout))
    assert called == [6, 0]


# -- the same kind elsewhere ------------------------------------------------------------


class Hostile:
    """A value that no one may look at."""

    @property
    def __class__(self):
        raise LookupError("nobody looks at it")


def with_hostile_values(value):
    return current_context().step("charge", lambda: charge("A") if value else None)


def test_a_value_that_raises_where_it_is_looked_at_is_like_no_other():
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(with_hostile_values, Hostile(), id="t")).result()
        assert orch.rerun_task("t").result(PATIENCE) == "charged A"
    assert CHARGED == {"A": 2}


@pytest.mark.parametrize("name", ["id", "idempotency_key"])
def test_a_name_is_never_answered_with_what_other_content_gave(orch, name):
    for of in ("A", "B"):
        given = {name: f"k/{of}"}
        orch.submit_task(Task.call(charge, of, **given)).result(PATIENCE)
    with pytest.raises(DuplicateTaskError, match="other content"):
        orch.submit_task(Task.call(charge, "B", **{name: "k/A"}))
    assert (
        orch.submit_task(Task.call(charge, "A", **{name: "k/A"})).result()
        == "charged A"
    )
    replaced = Task.call(charge, "C", **{name: "k/A"})
    assert orch.submit_task(replaced, replace=True).result(PATIENCE) == "charged C"
    with pytest.raises(DuplicateTaskError, match="other content"):
        orch.submit_task(Task.call(charge, "A", **{name: "k/A"}))
    assert CHARGED == {"A": 1, "B": 1, "C": 1}


@pytest.mark.parametrize("name", ["id", "idempotency_key"])
def test_what_nobody_can_compare_is_refused_once_it_has_left_memory(name):
    with TaskOrchestrator(keep_finished=1) as orch:
        first = Task.call(lambda: charge("A"), **{name: "k"})
        orch.submit_task(first).result(PATIENCE)
        for _ in range(4):
            orch.submit(list).result(PATIENCE)
        with pytest.raises(DuplicateTaskError, match="has left memory"):
            orch.submit_task(Task.call(lambda: charge("B"), **{name: "k"}))
    assert CHARGED == {"A": 1}


@pytest.mark.parametrize("form", ["task", "member of a run"])
def test_an_answer_is_for_the_question_as_it_was_asked(orch, form):
    ROWS[:] = ["5 EUR"]
    if form == "task":
        done(orch, orch.submit_task(Task.question("Pay 5 EUR?", id="q")))
        other = Task.question("Pay 50,000 EUR?", id="q")
        handle = orch.submit_task(other, replace=True)
        assert settle(orch, handle.done) == 1
        return
    flow = Workflow("w")
    given = flow.task(source, id="source")
    asked = flow.add(Task.question("Pay?", id="q", after=["source"]))
    flow.task(charge, given, id="pay", after=[asked])
    run = orch.workflows.start(flow, id="r")
    assert settle(orch, lambda: run.status().state == "completed") == 1
    ROWS[:] = ["50,000 EUR"]
    orch.rerun_task("r/source")
    assert settle(orch, lambda: run.status().state == "completed") == 1
    assert run.result()["pay"] == "charged 50,000 EUR"


def limits_payments():
    rule = {"id": "most", "condition": "payload.args[0]", "operator": "less_than"}
    rule |= {"value": 3, "message": "a person decides"}
    policy = {"id": "pay", "principle": "care", "severity": "high", "rules": [rule]}
    return ConstitutionalRuntime.from_dict({"policies": [policy]})


@pytest.mark.parametrize("pattern", ["pay", "pay*"])
def test_a_waiver_of_one_task_ends_with_its_content(tmp_path, pattern):
    path, policies = tmp_path / "w.db", limits_payments()
    with TaskOrchestrator(journal=path, governance=policies) as orch:
        options = {"requested_by": "bob", "expires": 3_600, "reason": "it is due"}
        waiver = policies.request_waiver("pay", pattern, **options)
        assert policies.approve_waiver(waiver.id, by="ada").state == "active"
        orch.submit_task(Task.call(charge, 5, id="pay")).result(PATIENCE)
        # The same content is covered on.
        orch.rerun_task("pay").result(PATIENCE)
        other = Task.call(charge, 50_000, id="pay")
        handle = orch.submit_task(other, replace=True)
        if pattern != "pay":
            # It was given for whatever such tasks do.
            handle.result(PATIENCE)
            return
        eventually(orch.questions)
        (ended,) = policies.waivers()
        assert (ended.state, ended.ended_for) == ("revoked", "pay~3 has other content")
        assert CHARGED == {5: 2}
    policies = limits_payments()
    with TaskOrchestrator(journal=path, governance=policies) as orch:
        assert [each.state for each in policies.waivers()] == ["revoked"]
        assert [each.id for each in orch.questions()] == ["escalation/pay~3"]


def test_what_policies_ask_about_a_start_is_asked_again_for_other_content():
    with TaskOrchestrator(governance=limits_payments()) as orch:
        for amount, is_replaced in ((5, False), (50_000, True)):
            task = Task.call(charge, amount, id="pay")
            handle = orch.submit_task(task, replace=is_replaced)
            eventually(orch.questions)
            (asked,) = orch.questions()
            assert str(amount) in asked.text
            orch.answer(asked.id, "retry", by="ada")
            handle.result(PATIENCE)
    assert CHARGED == {5: 1, 50_000: 1}


# -- keys, for services that can tell a second call -------------------------------------


def told_key(order, fails=False):
    context = current_context()
    key = context.step("key", str, f"{context.key}/charge")
    CHARGED[key] += 1
    if fails and context.attempt == 1:
        raise ConnectionError
    return context.key


def test_a_key_is_that_of_the_work_in_all_its_runs(orch):
    task = Task.call(told_key, "A", True, id="t", retry=RetryPolicy(2, base=0))
    key = orch.submit_task(task).result(PATIENCE)
    assert orch.rerun_task("t").result(PATIENCE) == key
    assert orch.steps.fork("t", at="key").result(PATIENCE) == key
    assert key.startswith("t-")
    assert [*CHARGED] == [f"{key}/charge"]
    other = Task.call(told_key, "B", True, id="t", retry=RetryPolicy(2, base=0))
    assert orch.submit_task(other, replace=True).result(PATIENCE) not in (key, "")
    # The first work comes back under its name: so does its key.
    assert orch.submit_task(task, replace=True).result(PATIENCE) == key


def test_a_worker_process_has_the_same_key():
    with TaskOrchestrator(executors={"process": 1}) as orch:
        key = orch.submit_task(Task.call(told_key, "A", id="t")).result(PATIENCE)
        task = Task.call(told_key, "A", executor="process", id="t")
        assert orch.submit_task(task, replace=True).result(PATIENCE) == key


def test_a_task_that_nobody_can_tell_from_others_has_no_key():
    with TaskOrchestrator() as orch:
        handle = orch.submit(told_key, threading.Lock())
        with pytest.raises(InvalidTaskError, match="has no key"):
            handle.result(PATIENCE)


# -- code: it counts as deployed alone ---------------------------------------------------

APP = """
from taskorch import Workflow, current_context

CALLS = []

def load(day):
    CALLS.append("load")
    return LOADED

def total(rows):
    CALLS.append("total")
    return rows

def pack(rows):
    CALLS.append("pack")
    return rows * FACTOR

def report():
    from app import load as found
    context = current_context()
    rows = context.step("load", found, "day")
    return context.child("pack", pack, context.step("total", lambda: total(rows)))

def last(rows):
    if FACTOR == 1:
        raise ValueError(rows)

def night(fails):
    flow = Workflow("n")
    flow.task(last if fails else print, flow.task(report, id="report"), id="last")
    return flow
"""
DAYS = "2026-11-24", "2026-11-25"
SLOT = "2026-11-24T0300Z"
STEPS = ["load", "total", "pack"]
#: What schedules make that acts are about: a run that completed, one that failed, a task.
MADE = {
    "run": lambda app: app.night(False),
    "failed": lambda app: app.night(True),
    "task": lambda app: app.report,
}


def filled(orch, of, **how):
    orch.schedules.backfill(of, *DAYS, **{"again": True, **how})


def restarted_run(orch, of, **how):
    orch.workflows.restart(f"{of}-{SLOT}", **how)


def rerun_in_run(orch, of, **how):
    orch.rerun_task(f"{of}-{SLOT}/report", **how)


def rerun_alone(orch, of, **how):
    orch.rerun_task(f"{of}/{SLOT}", **how)


def started_anew(orch, of):
    flow = sys.modules["app"].night(True)
    orch.workflows.start(flow, id=f"{of}-{SLOT}", definition="as_deployed")


def forked(orch, of):
    orch.steps.fork(f"{of}/{SLOT}", at="pack")


#: Acts on what ran with another code, with what says beforehand which steps they use.
ACTS = [
    ("run", filled, _foreseen.backfill_of_schedule, "{}"),
    ("task", filled, _foreseen.backfill_of_schedule, "{}"),
    ("failed", restarted_run, _foreseen.restart_of_run, "{}-" + SLOT),
    ("run", rerun_in_run, _foreseen.rerun_of_task, "{}-" + SLOT + "/report"),
    ("task", rerun_alone, _foreseen.rerun_of_task, "{}/" + SLOT),
    ("failed", started_anew, None, ""),
    ("task", forked, None, ""),
]


@pytest.fixture
def incarnation(tmp_path, monkeypatch):
    """Incarnations of a program with one journal, each with the code of another factor."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    @contextmanager
    def live(factor, loaded=None):
        program = APP.replace("FACTOR", factor).replace("LOADED", loaded or factor)
        (tmp_path / "app.py").write_text(program)
        sys.modules.pop("app", None)
        app = importlib.import_module("app")
        with TaskOrchestrator(journal=tmp_path / "j.db") as orch:
            for kind, make in MADE.items():
                for number in range(6):
                    orch.schedules.add(f"{kind}-{number}", "0 3 * * *", make(app))

            def called(act, of, **how):
                """The steps that an act calls."""
                app.CALLS.clear()
                act(orch, of, **how)
                assert orch.wait(PATIENCE)
                return app.CALLS[:]

            yield orch, called

    with live("1") as (_, called):
        for kind in MADE:
            for number in range(6):
                assert called(filled, f"{kind}-{number}", again=False) == STEPS
    yield live
    sys.modules.pop("app", None)


def test_the_code_of_a_step_counts_as_deployed_alone(incarnation):
    of = {kind: iter(range(6)) for kind in MADE}
    with incarnation("2") as (orch, called):
        for kind, act, preview, name in ACTS:
            for how in ({}, {"definition": "as_it_was"}) if preview else ({},):
                made = f"{kind}-{next(of[kind])}"
                # As it was, a restart leaves out what completed.
                if preview and not (how and kind == "failed"):
                    more = ([*DAYS], {"again": True}) if act is filled else ([], {})
                    told = preview(orch, name.format(made), *more[0], **more[1], **how)
                    which = "work, whatever their code" if how else "work and code"
                    assert f"are used if they are of the same {which}" in told.text
                steps = [] if how else ["pack"] if act is forked else STEPS
                assert called(act, made, **how) == steps


def test_a_child_counts_as_deployed_by_its_own_code(incarnation):
    with incarnation("2", loaded="1") as (_, called):
        assert called(rerun_alone, "task-0") == ["pack"]


def test_the_code_of_another_python_counts_as_unchanged(incarnation, monkeypatch):
    with incarnation("2") as (_, called):
        monkeypatch.setattr(sys.implementation, "cache_tag", "later")
        assert called(rerun_in_run, "run-0") == []


def test_a_fork_after_other_code_was_deployed_compares_no_code(incarnation):
    """Only the act that went over to it did."""
    for factor, act, steps in (("2", rerun_alone, STEPS), ("3", forked, ["pack"])):
        with incarnation(factor) as (_, called):
            assert called(act, "task-0") == steps


def test_an_act_as_it_was_compares_no_code_though_an_earlier_one_did(incarnation):
    """The earlier one has found the same code, and called nothing anew."""
    for factor, definition in (("1", "as_deployed"), ("2", "as_it_was")):
        with incarnation(factor) as (_, called):
            assert called(rerun_alone, "task-0", definition=definition) == []
