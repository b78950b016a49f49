"""What a policy may have is used as its protocol says, or refused by name."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.api.tools import PATIENCE

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
)
from taskorch.errors import ComponentError
from taskorch.events import TaskStarted
from taskorch.ext.learning import Learned
from taskorch.ext.recovery import RecoveryHandler, Rule
from taskorch.kit.members import arguments_of, members_of, methods_of
from taskorch.policies import (
    BackoffRetryHandler,
    FairShareQueue,
    FifoQueue,
    LeastLoadedRouter,
    PoolAllocator,
    ProportionalAllocator,
    StructuralValidator,
    ValidatorChain,
)
from taskorch.policies._kinds import POLICIES, Policies
from taskorch.protocols import MAY_HAVE, Learns, Named, RanksOwners, Route, TaskRouter
from taskorch.testing import Outcome, Simulation

NAMES = {protocol: name for name, protocol in POLICIES.items()}
#: Each policy with each protocol that it may have.
OPTIONAL = [
    pytest.param(NAMES[kind], optional, id=f"{NAMES[kind]}-{optional.__name__}")
    for optional, kinds in MAY_HAVE.items()
    for kind in kinds
]
METHODS = [
    pytest.param(name, protocol, method, id=f"{name}-{method}")
    for name, protocol in POLICIES.items()
    for method in methods_of(protocol)
]
#: Of each attribute, what it may be, and what not.
RIGHT = {
    "waits_for_better": [True, False],
    "watches": [(), [(None, "pending")], {("queued", "running")}],
    "backfill": [True, False],
    "timeout_grace_period": [0, 2.5, timedelta(minutes=1)],
    "classes": [(), [Rule("network_error", error="OSError")]],
    "matrix": [{}, RecoveryHandler().matrix],
    "rigid": [True, False],
    "chunks": [{}, {"cpu": 2}],
    "asks": [(), [FifoQueue()]],
    "name": ["", "mine"],
}
WRONG = {
    "waits_for_better": [1, "no", len, [True]],
    "watches": [5, ["pending"], [("pending",)], [("queued", "asleep")], len],
    "backfill": [1, "yes", len],
    "timeout_grace_period": [-1, "5", float("nan"), True, len, timedelta(-1)],
    "classes": [5, "OSError", (OSError,), iter(()), {"network_error": OSError}, len],
    "matrix": [5, [("network_error", 1)], "retry", len],
    "rigid": [1, "no", len],
    "chunks": [5, {"cpu": -1}, {"cpu": "two"}, {"cpu": 0}, len],
    "asks": [5, "fifo", len],
}
MAKERS = [TaskOrchestrator, Simulation]


def policy(name: str, /, **members: Any) -> Any:
    """A policy of the user's that does as the default does, and has *members*."""
    default = getattr(Policies(), name)
    methods = {
        method: getattr(default, method)
        for method in methods_of(POLICIES[name])
        if method not in members
    }
    mine = type("Mine", (), {"__repr__": lambda self: "Mine()"})()
    for member, value in {**methods, **members}.items():
        setattr(mine, member, value)
    return mine


def method_with(count: int) -> Any:
    """A function of so many arguments."""
    return eval(f"lambda {', '.join(f'_{number}' for number in range(count))}: None")


async def asynchronous(*_: Any) -> None:
    pass


def refused(maker: Any, name: str, part: Any, *words: str) -> None:
    with pytest.raises(InvalidTaskError) as caught:
        maker(**{name: part})
    for word in (name, *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("name", "protocol", "method"), METHODS)
def test_a_method_that_cannot_be_called_as_its_protocol_says_is_refused(
    maker, name, protocol, method
):
    count = len(arguments_of(protocol, method))
    for wrong in (method_with(count - 1), method_with(count + 1)):
        refused(maker, name, policy(name, **{method: wrong}), "Mine()", f"{method}()")
    part = policy(name, **{method: asynchronous})
    refused(maker, name, part, f"{method}() is async")
    part = policy(name, **{method: 5})
    refused(maker, name, part, f"has no method {method}()")
    maker(**{name: policy(name, **{method: lambda *_, **__: None})})


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("name", "optional"), OPTIONAL)
def test_what_is_there_in_another_form_is_refused_by_name(maker, name, optional):
    for member in members_of(optional):
        for wrong in WRONG.get(member, ()):
            part = policy(name, **{member: wrong})
            refused(maker, name, part, f"{name}.{member}")
        if member not in methods_of(optional):
            continue
        count = len(arguments_of(optional, member))
        for wrong in (method_with(count - 1), method_with(count + 1)):
            refused(maker, name, policy(name, **{member: wrong}), f"{member}()")
        refused(maker, name, policy(name, **{member: asynchronous}), f"{member}()")
        refused(maker, name, policy(name, **{member: 5}), member, "no method", "5")


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("name", "optional"), OPTIONAL)
def test_what_is_there_in_its_form_is_taken_and_none_is_as_if_it_were_not(
    maker, name, optional
):
    for member in set(members_of(optional)) & RIGHT.keys():
        for right in RIGHT[member]:
            maker(**{name: policy(name, **{member: right})})
    methods = {
        method: method_with(len(arguments_of(optional, method)))
        for method in methods_of(optional)
    }
    maker(**{name: policy(name, **methods)})
    maker(**{name: policy(name, **dict.fromkeys(members_of(optional)))})


def test_every_attribute_that_a_policy_may_have_is_tried_here():
    """Its right forms and its wrong ones."""
    attributes = {
        member
        for optional in MAY_HAVE
        for member in set(members_of(optional)) - set(methods_of(optional))
    }
    assert attributes == RIGHT.keys() == WRONG.keys() | {"name"}


@given(
    st.fixed_dictionaries(
        {member: st.sampled_from(["absent", "none", "right", "few", "text"])
         for member in ("choice_of", "attach", "restore", "recall", "hear")}
    )
)  # fmt: skip
def test_a_router_is_taken_if_all_it_may_have_is_whole_and_in_form(forms):
    """Who has `choice_of`, needs `attach` and `restore`; all else may be there or not."""
    arguments = {
        member: len(arguments_of(optional, member))
        for optional in MAY_HAVE
        for member in methods_of(optional)
    }
    made = {
        "none": lambda _: None,
        "right": method_with,
        "few": lambda count: method_with(count - 1),
        "text": lambda _: "text",
    }
    members = {
        member: made[form](arguments[member])
        for member, form in forms.items()
        if form != "absent"
    }
    learns = [forms[member] for member in members_of(Learns)]
    is_whole = forms["choice_of"] in ("absent", "none") or {*learns} == {"right"}
    is_in_form = {"few", "text"}.isdisjoint(forms.values())
    if is_whole and is_in_form:
        Simulation(router=policy("router", **members))
        return
    with pytest.raises(InvalidTaskError, match="router"):
        Simulation(router=policy("router", **members))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("name", ["queue", "router", "allocator"])
def test_who_says_what_it_chose_and_cannot_be_attached_is_refused(maker, name):
    methods = {
        "choice_of": lambda task_id, attempt: None,
        "attach": lambda orchestrator: None,
        "restore": lambda kept: None,
    }
    maker(**{name: policy(name, **methods)})
    for missing in ("attach", "restore"):
        others = {key: method for key, method in methods.items() if key != missing}
        refused(maker, name, policy(name, **others), f"no method {missing}()")


def test_what_cannot_even_be_read_is_refused_by_name():
    class Shy(FifoQueue):
        @property
        def standing(self):
            raise RuntimeError("not now")

    with pytest.raises(InvalidTaskError, match=r"queue=.*standing cannot be read.*now"):
        TaskOrchestrator(queue=Shy())


def test_what_a_policy_hands_on_counts_as_its_own():
    """One that has no member of its own, but gives that of another, is asked for it."""

    class Wrapped:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

    tasks = [
        Task("work", id=f"{tenant}-{number}", owner=tenant)
        for tenant in ("ann", "ben")
        for number in range(2)
    ]
    orders = []
    for queue in (FairShareQueue(), Wrapped(FairShareQueue()), FifoQueue()):
        simulation = Simulation(queue=queue, concurrency=1)
        simulation.agent("one", capabilities={"work"})
        simulation.work("work", 1.0)
        simulation.submit_tasks(tasks)
        simulation.run()
        orders.append([attempt.task_id for attempt in simulation.attempts])
    assert orders[0] == orders[1] == ["ann-0", "ben-0", "ann-1", "ben-1"]
    assert orders[2] == ["ann-0", "ann-1", "ben-0", "ben-1"]


def test_a_queue_that_has_a_standing_of_none_ranks_nobody():
    class InOrder(FairShareQueue):
        standing = None

    simulation = Simulation(queue=InOrder(), concurrency=1)
    simulation.agent("one", capabilities={"work"})
    simulation.work("work", 1.0)
    simulation.submit_tasks(
        [
            Task("work", id=f"{tenant}{n}", owner=tenant)
            for tenant in "ab"
            for n in (0, 1)
        ]
    )
    simulation.run()
    assert [one.task_id for one in simulation.attempts] == ["a0", "a1", "b0", "b1"]
    assert not isinstance(FifoQueue(), RanksOwners)


def test_choices_are_told_in_the_order_in_which_they_are_made():
    """Queue, router, allocator: whatever the order of the arguments."""

    def learning(base, said):
        class Chooser(base):
            def attach(self, orchestrator):
                orchestrator.signals.task_started.connect(self.hear)

            def hear(self, event):
                heard.append((said, type(event)))

            def restore(self, kept):
                raise AssertionError("there is no journal")

            def choice_of(self, task_id, attempt):
                return said, 0.5

        return Chooser()

    heard: list[Any] = []
    parts = {
        "allocator": learning(PoolAllocator, "c"),
        "router": learning(LeastLoadedRouter, "b"),
        "queue": learning(FifoQueue, "a"),
    }
    choices = []
    with TaskOrchestrator(**parts) as orch:
        orch.signals.task_started.connect(lambda event: choices.append(event.choice))
        orch.submit(len, "ab").result(PATIENCE)
        assert orch.wait(PATIENCE)
    assert choices == [("a + b + c", 0.125)]
    assert sorted(heard) == [(said, TaskStarted) for said in "abc"]

    heard.clear()
    simulation = Simulation(**parts)
    simulation.submit_task(Task.call(len, "ab"))
    simulation.run()
    starts = [event for event in simulation.events if isinstance(event, TaskStarted)]
    assert [event.choice for event in starts] == choices
    assert [said for said, cls in heard if cls is TaskStarted] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("said", "waits"), [(True, True), (False, False), (None, False)]
)
def test_a_task_waits_for_a_better_worker_if_the_router_says_so(said, waits):
    """Else all goes to the one that fails at once, since that one is always free."""

    class Router(LeastLoadedRouter):
        waits_for_better = said

    simulation = Simulation(router=Router())
    simulation.agent("good", capabilities={"work"}, work=60.0)
    fails = Outcome(seconds=0.1, error=OSError("broken"))
    simulation.agent("bad", capabilities={"work"}, work=fails)
    simulation.submit_tasks([Task("work") for _ in range(60)])
    simulation.run()
    wasted = sum(attempt.worker == "bad" for attempt in simulation.attempts)
    assert wasted <= 15 if waits else wasted >= 50


@pytest.mark.parametrize("period", [3, timedelta(seconds=3)])
def test_a_retry_handler_sets_the_grace_where_nothing_else_does(period):
    """In a simulation, too: there a task that does not stop is killed after that."""

    def seconds_until_it_is_over(**options):
        simulation = Simulation(**options)
        simulation.agent("one", capabilities={"work"})
        simulation.work("work", 100.0)
        simulation.submit_task(Task("work", id="a", timeout=1))
        return simulation.world.setup.config.grace_ns / 1e9

    handler = RecoveryHandler(timeout_grace_period=period)
    assert seconds_until_it_is_over(retry_handler=handler) == 3
    assert seconds_until_it_is_over(retry_handler=handler, grace=2) == 2
    usual = seconds_until_it_is_over()
    assert seconds_until_it_is_over(retry_handler=RecoveryHandler()) == usual
    assert seconds_until_it_is_over(retry_handler=BackoffRetryHandler()) == usual


def test_rules_of_a_handler_come_first_and_one_that_raises_fails_its_task():
    def broken(error):
        raise RuntimeError("the rule is broken")

    kinds = []

    class Handler(BackoffRetryHandler):
        classes = (
            Rule("network_error", error="LookupError"),
            Rule("timeout", when=broken),
        )

        def decide(self, failure, context):
            kinds.append(failure.kind)
            return super().decide(failure, context)

    def fail(error):
        raise error

    with TaskOrchestrator(retry_handler=Handler()) as orch:
        with pytest.raises(KeyError):
            orch.submit(fail, KeyError("x")).result(PATIENCE)
        with pytest.raises(ComponentError, match=r"the retry_handler failed.*broken"):
            orch.submit(fail, ValueError("x")).result(PATIENCE)
    assert kinds == ["network_error"]


def test_what_a_policy_raises_as_it_is_attached_or_hears_is_raised_to_who_made_it():
    class Part(LeastLoadedRouter):
        def attach(self, orchestrator):
            raise RuntimeError("not to this one")

        def restore(self, kept): ...
        def choice_of(self, task_id, attempt): ...
        def hear(self, event):
            if too_loud:
                raise RuntimeError("too loud")

    too_loud: list[bool] = []
    with pytest.raises(RuntimeError, match="not to this one"):
        TaskOrchestrator(router=Part())
    simulation = Simulation(router=Part())
    simulation.submit_task(Task.call(len, "ab"))
    too_loud.append(True)
    with pytest.raises(RuntimeError, match="too loud"):
        simulation.run()


@pytest.mark.parametrize("method", ["restore", "recall"])
def test_what_a_policy_raises_as_it_remembers_start_raises(method, tmp_path):
    def fail(*_):
        raise RuntimeError("it is all gone")

    members = {
        "attach": lambda orchestrator: None,
        "choice_of": lambda task_id, attempt: None,
        "restore": lambda kept: None,
        "recall": lambda journal, last: None,
    }
    router = policy("router", **{**members, method: fail})
    orch = TaskOrchestrator(router=router, journal=tmp_path / "runs.db")
    with pytest.raises(RuntimeError, match="all gone"):
        orch.start()
    orch.stop()
    router = policy("router", **members)
    with TaskOrchestrator(router=router, journal=tmp_path / "runs.db") as orch:
        assert orch.submit(len, "ab").result(PATIENCE) == 2


def test_arms_are_asked_as_their_protocol_says_or_refused():
    class Narrow(LeastLoadedRouter):
        def route(self, task):
            return Route("nobody")

    class Wide(FifoQueue):
        backfill = "yes"

        def __init__(self):
            pass

    class Numbered(LeastLoadedRouter):
        name = 7

    assert isinstance(policy("router", name="mine"), Named)
    assert Learned([policy("router", name="mine"), LeastLoadedRouter()]).names == (
        "mine",
        "LeastLoadedRouter",
    )
    with pytest.raises(InvalidTaskError, match=r"arms=.*route\(\) cannot be called"):
        Learned([Narrow(), LeastLoadedRouter()])
    with pytest.raises(InvalidTaskError, match=r"arms.backfill is True or False"):
        Learned([Wide(), FifoQueue()])
    with pytest.raises(InvalidTaskError, match=r"arms: the name of .* not 7"):
        Learned([Numbered(), LeastLoadedRouter()])
    with pytest.raises(InvalidTaskError, match="no arm"):
        Learned([FifoQueue(backfill=True), FifoQueue()])
    with pytest.raises(InvalidTaskError, match=r"arms.chunks: a mapping"):
        Learned([policy("allocator", chunks=5), PoolAllocator()])
    with pytest.raises(InvalidTaskError, match="the same chunks"):
        Learned([ProportionalAllocator({"cpu": 2}), PoolAllocator()])


def test_each_of_a_chain_of_validators_is_asked_as_its_protocol_says_or_refused():
    ValidatorChain(StructuralValidator(), policy("validator"))
    for wrong in (method_with(1), asynchronous, 5):
        with pytest.raises(InvalidTaskError, match=r"validators?=?.*validate"):
            ValidatorChain(policy("validator", validate=wrong))


def test_arms_of_the_user_may_do_with_the_candidates_what_they_like():
    """They have a list of their own, as a router of the user's has that is no arm."""

    class Greedy:
        def route(self, task, candidates, context):
            chosen = candidates.pop()
            candidates.clear()
            return Route(chosen.name)

    simulation = Simulation(router=Learned([Greedy(), Greedy()], floor=1))
    for name in ("one", "two", "three"):
        simulation.agent(name, capabilities={"work"}, work=1.0)
    simulation.submit_tasks([Task("work") for _ in range(12)])
    simulation.run()
    assert simulation.get_stats().state_machine.completed == 12
    assert simulation.now == 4


def fail() -> None:
    raise OSError("no")


def test_a_type_checker_and_isinstance_know_what_a_policy_may_have():
    for optional in MAY_HAVE:
        assert inspect.getdoc(optional)
        assert not isinstance(object(), optional)
    assert isinstance(Learned([LeastLoadedRouter(), LeastLoadedRouter()]), Learns)
    assert isinstance(LeastLoadedRouter(), TaskRouter)
