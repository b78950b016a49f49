"""What the seven parts are asked, and what is made of their answers."""

import math
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from taskorch import Resources, Task, TaskOrchestrator, TaskState
from taskorch.errors import (
    AttemptLostError,
    InvalidTaskError,
    NotRunningError,
    ReentryError,
    TaskFailedError,
    TaskTimeoutError,
    UnkeptResultError,
)
from taskorch.kernel import LOCAL, PolicyFault
from taskorch.policies import (
    BackoffRetryHandler,
    CapabilityRegistry,
    PerformanceRouter,
    PriorityQueue,
    ProportionalAllocator,
    StandardStateMachine,
    StructuralValidator,
)
from taskorch.protocols import (
    Admission,
    Allocation,
    AllocationRequest,
    Finding,
    Match,
    Order,
    Permit,
    RetryDecision,
    Route,
    Verdict,
)
from taskorch.runtime._deciders import (
    METHODS,
    _check_part,
    _shape,
    check_chunks,
    check_parts,
    failure_of,
    parts_of,
)

OWN = {
    "registry": CapabilityRegistry,
    "router": PerformanceRouter,
    "validator": StructuralValidator,
    "state_machine": StandardStateMachine,
    "queue": PriorityQueue,
    "retry_handler": BackoffRetryHandler,
    "allocator": ProportionalAllocator,
}
TASK = Task("t", 5, id="x")


class Asked:
    """A part of the user's, which notes what it is asked and answers *answer*."""

    def __init__(self, component: str, answer: Any) -> None:
        self.component = component
        self.answer = answer
        self.asked: list[Any] = []
        methods = dict.fromkeys((*METHODS[component], "standing"), self._answer)
        if component != "queue":
            del methods["standing"]
        vars(self).update(methods)

    def _answer(self, *about: Any) -> Any:
        self.asked.append(about[:-1])
        return self.answer


def deciders_with(component: str, answer: Any) -> tuple[Any, Asked]:
    """What asks the seven, of which one is the user's and answers *answer*."""
    part = Asked(component, answer)
    deciders: Any = TaskOrchestrator(**{component: part})._rt.deciders
    deciders.task_of = lambda row: row.task
    return deciders, part


def row_of(task: Task = TASK, **fields: Any) -> Any:
    bucket = SimpleNamespace(spec=SimpleNamespace(type=task.type, elastic=None))
    fields = {"extra": None, "agent": None, **fields}
    return SimpleNamespace(id=task.id, task=task, bucket=bucket, **fields)


def agent_of(name: str, **fields: Any) -> Any:
    return SimpleNamespace(name=name, view=f"view of {name}", **fields)


# -- parts -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_a_part_that_is_given_is_that_part_and_the_others_are_ours(name: str) -> None:
    """Also if it counts as false."""
    given: Any = attrs.make_class("Empty", [])()
    type(given).__bool__ = lambda _: False
    parts = parts_of(**{name: given})
    for other, cls in OWN.items():
        found = getattr(parts, other)
        assert found is given if other == name else type(found) is cls


@pytest.mark.parametrize(
    ("name", "method"), [(name, m) for name, ms in METHODS.items() for m in ms]
)
def test_a_part_without_a_method_is_refused(name: str, method: str) -> None:
    part = Asked(name, None)
    check_parts(parts_of(**{name: part}))
    setattr(part, method, "no method")
    with pytest.raises(InvalidTaskError, match=rf"^{name}=.* has no method {method}\("):
        check_parts(parts_of(**{name: part}))
    with pytest.raises(InvalidTaskError, match=r"not the class Asked: call it"):
        check_parts(parts_of(**{name: Asked}))  # type: ignore[arg-type]


def test_a_queue_where_owners_share_has_no_backfill() -> None:
    queue = PriorityQueue(backfill=True)
    check_parts(parts_of(queue=queue))
    queue.standing = None  # type: ignore[attr-defined]
    check_parts(parts_of(queue=queue))
    queue.standing = lambda share, context: 0  # type: ignore[attr-defined]
    with pytest.raises(InvalidTaskError, match="there is no backfill"):
        check_parts(parts_of(queue=queue))
    queue.backfill = False
    check_parts(parts_of(queue=queue))


def test_of_ours_it_is_known_what_they_need_not_be_asked() -> None:
    ours = TaskOrchestrator()._rt.deciders
    assert ours.is_structural
    assert ours.is_standard
    assert ours.are_own
    for name in METHODS:
        deciders, _ = deciders_with(name, None)
        assert not deciders.are_own
        assert deciders._foreign == {name}
        assert deciders.is_structural is (name != "validator")
        standard = name not in ("queue", "state_machine", "registry")
        assert deciders.is_standard is standard
        assert deciders.ranks is (name == "queue")


# -- in a child of a fork, and in a policy ---------------------------------------------


def test_in_the_child_of_a_fork_nothing_is_asked() -> None:
    deciders: Any = TaskOrchestrator()._rt.deciders
    deciders.refuse_reentry()
    deciders.refuse_forked()
    deciders.asking = -1
    assert deciders.asked() == []
    deciders.forked = -1
    for refuse in (deciders.refuse_reentry, deciders.refuse_forked):
        with pytest.raises(NotRunningError, match="the process that forked"):
            refuse()


def test_who_is_in_the_validator_is_named_beside_who_is_asked_under_the_lock() -> None:
    deciders: Any = TaskOrchestrator()._rt.deciders
    deciders.asking, deciders._asked = 7, ("queue", 1.5)
    deciders._validating = {8: 2.5}
    assert deciders.asked() == [("queue", 1.5, 7), ("validator", 2.5, 8)]
    deciders.asking = 0
    assert deciders.asked() == [("validator", 2.5, 8)]


# -- the validator ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reusable", "holds"), [(False, False), (True, True), (Asked, False), (1, True)]
)
def test_a_consent_holds_for_others_if_the_validator_itself_says_so(
    reusable: Any, holds: Any
) -> None:
    deciders, part = deciders_with("validator", Verdict(reusable=reusable))
    verdict = deciders.validate(TASK, 5)
    assert verdict.accepted
    assert bool(verdict.reusable) is holds
    assert part.asked == [(TASK,)]


def test_what_has_no_form_is_refused_before_a_validator_is_asked() -> None:
    bad = attrs.evolve(TASK, priority=0)
    object.__setattr__(bad, "priority", "high")
    deciders, part = deciders_with("validator", Verdict())
    assert not deciders.validate(bad, 5).accepted
    assert part.asked == []
    assert deciders.validate(bad, 5, formed=True).accepted
    assert len(part.asked) == 1


@pytest.mark.parametrize("findings", [(Finding("a", "b"),), [Finding("a", "b")]])
def test_findings_are_a_list_or_a_tuple_of_findings(findings: Any) -> None:
    verdict = Verdict()
    object.__setattr__(verdict, "findings", findings)
    deciders, part = deciders_with("validator", verdict)
    assert deciders.validate(TASK, 5).findings == findings
    for wrong in (["no"], "no", None, [*findings, 1]):
        object.__setattr__(verdict, "findings", wrong)
        with pytest.raises(PolicyFault) as caught:
            deciders.validate(TASK, 5)
        assert "not a tuple of Finding" in str(caught.value.error)
    part.answer = "yes"
    with pytest.raises(PolicyFault) as caught:
        deciders.validate(TASK, 5)
    assert "'yes', not a Verdict" in str(caught.value.error)


def test_a_validator_is_not_asked_within_itself() -> None:
    deciders, part = deciders_with("validator", Verdict())
    part.validate = lambda task, context: deciders.validate(task, 5)  # type: ignore[attr-defined]
    with pytest.raises(PolicyFault) as caught:
        deciders.validate(TASK, 5)
    while isinstance(caught.value.error, PolicyFault):
        caught.value.error = caught.value.error.error
    assert isinstance(caught.value.error, ReentryError)
    assert deciders.asked() == []


# -- the registry and the router -------------------------------------------------------


@pytest.mark.parametrize(("reusable", "holds"), [(False, False), (True, True)])
def test_a_registry_names_agents_each_once(reusable: bool, holds: bool) -> None:
    answer = Match(("b", "a", "b"), "so", reusable)
    deciders, part = deciders_with("registry", answer)
    agents = [agent_of(LOCAL), agent_of("a"), agent_of("b")]
    assert deciders.match(row_of(), agents, 5) == (("b", "a"), "so", holds)
    assert part.asked == [(TASK, ["view of a", "view of b"])]
    object.__setattr__(answer, "agents", ["a"])
    assert deciders.match(row_of(), agents, 5)[0] == ("a",)


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (("a", "c"), "it named 'c', which is no agent"),
        ((LOCAL,), f"it named '{LOCAL}', which is no agent"),
        ("a", "its agents are 'a', not a tuple of names"),
    ],
)
def test_a_registry_names_agents_that_there_are(agents: Any, said: str) -> None:
    answer = Match(())
    object.__setattr__(answer, "agents", agents)
    deciders, _ = deciders_with("registry", answer)
    with pytest.raises(PolicyFault) as caught:
        deciders.match(row_of(), [agent_of(LOCAL), agent_of("a")], 5)
    assert (caught.value.component, str(caught.value.error)) == ("registry", said)


@pytest.mark.parametrize(
    ("reusable", "holds"), [(False, False), (True, True), (Asked, False)]
)
def test_a_router_chooses_one_of_the_candidates(reusable: Any, holds: bool) -> None:
    deciders, part = deciders_with("router", Route("b", "so", reusable))
    agents = [agent_of("a"), agent_of("b")]
    assert deciders.route(row_of(), agents, 5) == (agents[1], "so", holds)
    assert part.asked == [(TASK, ["view of a", "view of b"])]
    part.answer = Route("c")
    with pytest.raises(PolicyFault) as caught:
        deciders.route(row_of(), agents, 5)
    assert str(caught.value.error) == "it chose 'c', not one of a, b"
    assert caught.value.component == "router"


# -- the queue -------------------------------------------------------------------------


def test_a_key_is_of_one_kind_with_those_before() -> None:
    deciders, part = deciders_with("queue", Order(key=7))
    assert deciders.order(row_of(), 0, 5) == 7
    for key in (3, 2.5, -1):
        part.answer = Order(key=key)
        assert deciders.order(row_of(), 0, 5) == key
    for key in ((1,), "a", True, None, math.nan):
        part.answer = Order(key=key)
        with pytest.raises(PolicyFault) as caught:
            deciders.order(row_of(), 0, 5)
        assert caught.value.component == "queue"
    assert part.asked[0] == (TASK,)


@pytest.mark.parametrize(
    "keys", [(7, (1,)), ((1,), 7), ((1,), 7.5), ("a", 7), ((1,), ("a",))]
)
def test_the_second_key_is_of_the_kind_of_the_first(keys: Any) -> None:
    deciders, part = deciders_with("queue", Order(key=keys[0]))
    deciders.order(row_of(), 0, 5)
    part.answer = Order(key=keys[1])
    with pytest.raises(PolicyFault) as caught:
        deciders.order(row_of(), 0, 5)
    assert "cannot be compared with earlier ones" in str(caught.value.error)


def test_the_first_key_is_one_that_can_be_compared() -> None:
    deciders, part = deciders_with("queue", Order(key=[1]))
    with pytest.raises(PolicyFault) as caught:
        deciders.order(row_of(), 0, 5)
    assert str(caught.value.error).startswith("[1] is no key")
    part.answer = Order(key="a")
    assert deciders.order(row_of(), 0, 5) == "a"


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        (1, "number"),
        (1.5, "number"),
        (math.nan, None),
        (type("Mine", (float,), {})(1.5), "number"),
        (type("Mine", (float,), {})(math.nan), None),
        (type("Mine", (int,), {})(1), "number"),
        (True, None),
        ("a", "text"),
        ((1, "a"), ("number", "text")),
        ((1, (2.5,)), ("number", ("number",))),
        ((), None),
        ((1, None), None),
        ([1], None),
        (None, None),
    ],
)
def test_of_keys_it_is_known_with_what_they_can_be_compared(
    key: Any, shape: Any
) -> None:
    assert _shape(key) == shape


@pytest.mark.parametrize(("reusable", "aging"), [(True, 2_000_000_000), (False, None)])
def test_what_ages_is_ordered_by_when_it_came(reusable: bool, aging: Any) -> None:
    """And the rule holds for all, if the queue says so."""
    deciders, part = deciders_with("queue", Order(aging=2.0, reusable=reusable))
    assert deciders.order(row_of(), 3, 10_000_000_000) == 4_000_000_000
    assert deciders.aging_ns == aging
    # The task that it is shown has the priority that it has now.
    assert part.asked[0][0].priority == 3
    assert part.asked[0][0].id == "x"
    part.answer = Order(aging=-1.0)
    with pytest.raises(PolicyFault):
        deciders.order(row_of(), 3, 5)


@pytest.mark.parametrize("reusable", [True, False])
def test_who_is_admitted_is_so_for_all_if_the_queue_says_so(reusable: bool) -> None:
    deciders, part = deciders_with(
        "queue", Admission(admitted=True, max_age=1.5, reusable=reusable)
    )
    assert deciders.admit(row_of(), 5) == (None, 1_500_000_000)
    assert deciders.admits_all is reusable
    assert deciders.max_age_ns == (1_500_000_000 if reusable else None)
    part.answer = Admission(admitted=False, max_age=2, reason="full")
    assert deciders.admit(row_of(), 5) == ("full", 2_000_000_000)
    part.answer = Admission(admitted=False)
    assert deciders.admit(row_of(), 5) == ("no reason given", None)
    for wrong in (1, "yes", None):
        part.answer = Admission(admitted=True)
        object.__setattr__(part.answer, "admitted", wrong)
        with pytest.raises(PolicyFault) as caught:
            deciders.admit(row_of(), 5)
        assert caught.value.component == "queue"


def test_a_consent_that_is_not_the_queues_own_holds_for_one() -> None:
    deciders, _ = deciders_with("queue", Admission(admitted=True, reusable=Asked))
    assert deciders.admit(row_of(), 5) == (None, None)
    assert deciders.admits_all is False


def test_a_standing_is_a_number() -> None:
    deciders, part = deciders_with("queue", 2.5)
    assert deciders.standing(None, 5) == 2.5
    for standing in (3, -1, math.inf):
        part.answer = standing
        assert deciders.standing(None, 5) == standing
    for wrong, said in [("a", "not 'a'"), (True, "not True"), (math.nan, "not NaN")]:
        part.answer = wrong
        with pytest.raises(PolicyFault) as caught:
            deciders.standing(None, 5)
        assert str(caught.value.error) == f"a standing is a number, {said}"


def test_what_is_expected_of_a_task_is_in_nanoseconds() -> None:
    deciders, _ = deciders_with("queue", None)
    assert deciders.expected(row_of()) is None
    assert deciders.expected(row_of(Task("t", id="y", expected=1.5))) == 1_500_000_000


# -- the state machine -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("permit", "why"),
    [
        (Permit(True, "so"), None),
        (Permit(False, "so"), "so"),
        (Permit(False), "no reason given"),
    ],
)
def test_a_machine_forbids_with_a_reason(permit: Permit, why: str | None) -> None:
    deciders, part = deciders_with("state_machine", permit)
    states = TaskState.QUEUED, TaskState.RUNNING
    assert deciders.check(row_of(), *states, "it begins", 5) == why
    [(asked,)] = part.asked
    assert (asked.task_id, asked.type, asked.reason) == ("x", "t", "it begins")
    assert (asked.before, asked.after) == states
    object.__setattr__(permit, "allowed", 1)
    with pytest.raises(PolicyFault) as caught:
        deciders.check(row_of(), *states, "", 5)
    assert str(caught.value.error) == "allowed is 1, not True or False"


def test_while_a_label_is_asked_for_the_machine_may_ask_nothing() -> None:
    deciders, part = deciders_with("state_machine", "mine")
    seen: list[int] = []

    def label(state: Any) -> str:
        seen.append(deciders.asking)
        with pytest.raises(ReentryError):
            deciders.refuse_reentry()
        return f"my {state}"

    part.label = label  # type: ignore[attr-defined]
    assert deciders.label(TaskState.QUEUED) == "my queued"
    assert seen[0] > 0
    deciders.refuse_reentry()
    part.label = None  # type: ignore[attr-defined]
    assert deciders.label(TaskState.QUEUED) == "queued"
    deciders.refuse_reentry()


# -- retries ---------------------------------------------------------------------------


def test_a_retry_handler_is_told_of_the_failure() -> None:
    deciders, part = deciders_with("retry_handler", RetryDecision(True, 1.5, "so"))
    error = ValueError("no")
    extra = SimpleNamespace(charged=3, last_delay_ns=250_000_000)
    row = row_of(extra=extra, agent=agent_of("a"))
    assert deciders.retry(row, error, "error", 2_000_000_000, 5) == (
        True,
        1_500_000_000,
        "so",
    )
    [(told,)] = part.asked
    assert (told.task, told.error, told.attempts) == (TASK, error, 4)
    assert (told.elapsed, told.last_delay, told.agent) == (2.0, 0.25, "a")
    part.answer = RetryDecision(False)
    assert deciders.retry(row_of(), error, "error", 0, 5) == (False, 0, "")
    told = part.asked[1][0]
    assert (told.attempts, told.last_delay, told.agent) == (1, 0.0, "")


def test_what_cannot_be_kept_is_not_tried_again() -> None:
    """But where that of another task is the error."""
    deciders, part = deciders_with("retry_handler", RetryDecision(True))
    own = UnkeptResultError("no", task_id="x")
    why = "what it returned cannot be kept"
    assert deciders.retry(row_of(), own, "error", 0, 5) == (False, 0, why)
    assert part.asked == []
    other = UnkeptResultError("no", task_id="y")
    assert deciders.retry(row_of(), other, "error", 0, 5)[0] is True


def test_a_retry_handler_says_yes_or_no_and_for_how_long() -> None:
    deciders, part = deciders_with("retry_handler", None)
    for name, wrong in [("retry", 1), ("retry", None), ("delay", -1), ("delay", "a")]:
        part.answer = RetryDecision(True, 1.0)
        object.__setattr__(part.answer, name, wrong)
        with pytest.raises(PolicyFault) as caught:
            deciders.retry(row_of(), ValueError("no"), "error", 0, 5)
        assert caught.value.component == "retry_handler"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (("TaskTimeoutError", "too slow", "timeout"), TaskTimeoutError),
        (("TaskTimeoutError", "too slow", "deadline"), TaskTimeoutError),
        (("AttemptLostError", "gone", "lost"), AttemptLostError),
        (("Own", "no", "error"), TaskFailedError),
    ],
)
def test_of_what_nobody_raised_the_error_says_what_it_was(said: Any, kind: Any) -> None:
    error: Any = failure_of(row_of(extra=SimpleNamespace(error=said)))
    assert type(error) is kind
    assert str(error) == f"task x: {said[1]}"
    assert error.task_id == "x"
    if kind is TaskFailedError:
        assert error.type == "Own"


def test_of_what_failed_without_a_word_that_is_said() -> None:
    for extra in (None, SimpleNamespace(error=None)):
        error = failure_of(row_of(extra=extra))
        assert type(error) is TaskFailedError
        assert str(error) == "task x: it failed"


def test_a_failure_that_nobody_raised_is_made_for_the_handler() -> None:
    deciders, part = deciders_with("retry_handler", RetryDecision(False))
    said = ("AttemptLostError", "gone", "lost")
    extra = SimpleNamespace(error=said, charged=0, last_delay_ns=0)
    deciders.retry(row_of(extra=extra), None, "lost", 0, 5)
    assert type(part.asked[0][0].error) is AttemptLostError


# -- the allocator ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reusable", "holds"), [(False, False), (True, True), (Asked, False)]
)
def test_a_grant_holds_for_others_if_the_allocator_itself_says_so(
    reusable: Any, holds: bool
) -> None:
    deciders, part = deciders_with("allocator", Allocation(None))
    agent = agent_of("a")
    assert deciders.allocate(row_of(), agent, (), 5) == (None, "", False)
    part.answer = Allocation(Resources(), "so", reusable)
    assert deciders.allocate(row_of(), agent, (), 5) == ((), "so", holds)
    asked = part.asked[1][0]
    assert (asked.task, asked.agent, asked.resources) == (TASK, agent.view, Resources())
    assert (asked.least, asked.held) == (None, None)
    assert type(asked) is AllocationRequest
    assert (asked.weight, asked.fallback) == (1.0, "best_effort")
    part.answer = Allocation({"cpu": 1})  # type: ignore[arg-type]
    with pytest.raises(PolicyFault) as caught:
        deciders.allocate(row_of(), agent, (), 5)
    assert "not Resources" in str(caught.value.error)


def test_an_allocator_is_told_what_is_asked_for_and_what_there_is() -> None:
    """Of what is elastic, also the least, what it holds, and what it is worth."""
    part = Asked("allocator", Allocation(None))
    orch = TaskOrchestrator(allocator=part, resources={"cpu": 4})  # type: ignore[arg-type]
    deciders: Any = orch._rt.deciders
    deciders.task_of = lambda row: row.task
    row, agent, request = row_of(), agent_of("a"), Resources(cpu=2).units
    deciders.allocate(row, agent, request, 5, request, request)
    row.bucket.spec.elastic = ((), 2_500_000, "queue")
    deciders.allocate(row, agent, request, 5)
    least, held = Resources(cpu=1).units, Resources(cpu=1.5).units
    deciders.allocate(row, agent, request, 5, least)
    deciders.allocate(row, agent, request, 5, least, held)
    told = [asked for asked, _ in part.asked]
    assert [(one.weight, one.fallback) for one in told] == [
        (1.0, "best_effort"),
        (1.0, "best_effort"),
        (2.5, "queue"),
        (2.5, "queue"),
    ]
    assert [one.least for one in told] == [None, None, *[Resources(cpu=1)] * 2]
    assert [one.held for one in told] == [None, None, None, Resources(cpu=1.5)]
    assert {one.resources for one in told} == {Resources(cpu=2)}
    pools = [pools for _, pools in part.asked]
    assert list(pools[0]) == ["cpu"]
    assert all(other is pools[0] for other in pools)


def test_a_subclass_of_resources_is_granted_too() -> None:
    mine = type("Mine", (Resources,), {})()
    deciders, _ = deciders_with("allocator", Allocation(mine))
    assert deciders.allocate(row_of(), agent_of("a"), (), 5)[0] == ()


def test_what_is_granted_beyond_what_one_holds_has_to_be_free() -> None:
    deciders, _ = deciders_with("allocator", None)
    pools = {"cpu": SimpleNamespace(total=10, used=6)}
    deciders.kernel = SimpleNamespace(pools=pools)
    asked = {"cpu": 9}
    for units, held in [(4, {}), (6, {"cpu": 2}), (0, {})]:
        deciders._check_grant((("cpu", units),), asked, held)
    for units, held in [(5, {}), (7, {"cpu": 2})]:
        with pytest.raises(PolicyFault) as caught:
            deciders._check_grant((("cpu", units),), asked, held)
        assert str(caught.value.error) == "it granted more cpu than is free"
    with pytest.raises(PolicyFault) as caught:
        deciders._check_grant((("cpu", 3),), {"cpu": 2}, {})
    assert str(caught.value.error) == "it granted more cpu than was asked"
    with pytest.raises(PolicyFault) as caught:
        deciders._check_grant((("gpu", 1),), {"gpu": 1}, {})
    assert str(caught.value.error) == "it granted more gpu than is free"
    # More is used than there is: it was made smaller meanwhile.
    pools["cpu"].used = 12
    deciders._check_grant((("cpu", 2),), asked, {"cpu": 2})
    with pytest.raises(PolicyFault):
        deciders._check_grant((("cpu", 3),), asked, {"cpu": 2})


def test_no_more_is_granted_than_was_asked_for() -> None:
    deciders, _ = deciders_with("allocator", None)
    pool = SimpleNamespace(total=10, used=0)
    deciders.kernel = SimpleNamespace(pools={"cpu": pool, "gpu": pool})
    deciders._check_grant((("cpu", 4),), {"cpu": 4}, {})
    for asked in ({"cpu": 3}, {"cpu": 4, "gpu": 0}, {"cpu": 4}):
        with pytest.raises(PolicyFault) as caught:
            deciders._check_grant((("cpu", 4), ("gpu", 1)), asked, {})
        assert "than was asked" in str(caught.value.error)


def test_a_part_is_of_use_and_fits_on_the_agent() -> None:
    free = {"cpu": 3}
    agent: Any = SimpleNamespace(
        name="a", capacity={"cpu": 8}, free=lambda name: free[name]
    )
    least = (("cpu", 2),)
    for units, held in [(2, {}), (3, {}), (5, {"cpu": 2})]:
        _check_part({"cpu": units}, agent, least, held)
    # Of what the agent has no limit, there is enough.
    _check_part({"cpu": 2, "gpu": 50}, agent, least, {})
    for units, held in [(4, {}), (6, {"cpu": 2})]:
        with pytest.raises(PolicyFault) as caught:
            _check_part({"cpu": units}, agent, least, held)
        assert str(caught.value.error) == "it granted more cpu than a has free"
    for granted, most in [({"cpu": 1}, 2), ({}, 2), ({}, 1)]:
        with pytest.raises(PolicyFault) as caught:
            _check_part(granted, agent, (("cpu", most),), {})
        assert str(caught.value.error) == "it granted less cpu than its least"
    # What could not even begin there with its least is told in another way.
    _check_part({"cpu": 4}, agent, (("cpu", 4),), {})


def test_a_chunk_may_be_as_large_as_its_pool() -> None:
    """Those that the user has chosen; of others it does not matter."""
    allocator = ProportionalAllocator({"cpu": 2})
    check_chunks(allocator, (("cpu", 2_000_000), ("gpu", 1)))
    with pytest.raises(InvalidTaskError, match="a chunk of cpu is 2, and the pool has"):
        check_chunks(allocator, (("cpu", 1_999_999),))
    check_chunks(allocator, (("gpu", 0),))
    check_chunks(ProportionalAllocator(), (("cpu", 1), ("memory_mb", 1)))


def test_what_is_least_is_made_of_whole_chunks() -> None:
    deciders: Any = TaskOrchestrator(allocator=ProportionalAllocator({"cpu": 2}))
    deciders = deciders._rt.deciders
    two = 2_000_000
    for said, least in [(0, two), (1, two), (two, two), (two + 1, 2 * two)]:
        elastic = ((("cpu", said),), 1, "")
        assert deciders.least((("cpu", 5 * two),), elastic) == (("cpu", least),)
    # No more than was asked for, and all of what has no chunks.
    elastic = ((("cpu", 1),), 1, "")
    assert deciders.least((("cpu", 5), ("gpu", 7)), elastic) == (
        ("cpu", 5),
        ("gpu", 7),
    )


# -- joins -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, False])
def test_a_join_is_asked_with_the_states(answer: bool) -> None:
    deciders, _ = deciders_with("queue", None)
    asked: list[Any] = []

    def predicate(states: Any) -> Any:
        asked.append(states)
        return answer

    states = {"a": TaskState.COMPLETED}
    task = attrs.evolve(TASK, join=predicate)
    assert deciders.join(row_of(task), states, 5) is answer
    assert asked == [states]
    row = row_of(attrs.evolve(TASK, join=lambda _: 1))
    with pytest.raises(PolicyFault) as caught:
        deciders.join(row, states, 5)
    assert str(caught.value.error) == "its answer is 1, not True or False"
