"""Limits that a program adds: what they keep from starting, and what is said of it."""

import asyncio
import math
import threading
from decimal import Decimal
from functools import partial
from itertools import pairwise

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Task, TaskOrchestrator, Workflow
from taskorch.errors import ComponentError, ReentryError
from taskorch.kit.extension import Extension, Short
from taskorch.model import Quota
from taskorch.testing import Simulation


class Seats:
    """Some seats of a server, for tasks of one type."""

    name = "seats"

    def __init__(self, seats=1, seconds=60.0):
        self.seats, self.seconds = seats, seconds
        self.most = 0.0

    def need(self, kind):
        return 1 if kind.type in ("seated", "len") else 0

    def short(self, need, held):
        free = self.seats - held
        if need > free:
            return Short(f"{free:g} seats are free.", self.seconds, free)
        self.most = max(self.most, need + held)
        return None


class Licences(Extension):
    name = "licences"

    def __init__(self, *limits):
        self.limits = limits


def orchestrator(*limits, **options):
    orch = TaskOrchestrator(extensions=[Licences(*limits)], **options)

    @orch.agent("some", capabilities={"seated", "other"})
    def work(task, context):
        return task.payload

    return orch


def test_what_is_held_comes_back_and_wakes_the_next():
    """Nobody waits for the time that the limit has named."""
    seats = Seats(2)
    with orchestrator(seats) as orch:
        handles = [orch.submit_task(Task("seated", n)) for n in range(20)]
        assert [each.result(timeout=PATIENCE) for each in handles] == [*range(20)]
    assert 1 <= seats.most <= 2


def test_plain_functions_are_limited_as_well():
    seats = Seats(1)
    with orchestrator(seats) as orch:
        handles = [orch.submit(len, "abc") for _ in range(10)]
        assert [each.result(timeout=PATIENCE) for each in handles] == [3] * 10


class Counting(Seats):
    """A limit that lets so many start, ever."""

    def __init__(self, seats):
        super().__init__(seats, seconds=0.01)
        self.starts = []
        self.asked = 0

    def short(self, need, held):
        self.asked += 1
        return super().short(need, sum(self.starts))

    def started(self, need):
        self.starts.append(need)


def test_one_that_counts_starts_counts_what_starts_and_nothing_else():
    counting = Counting(3)
    with orchestrator(counting) as orch:
        handles = [orch.submit_task(Task("seated", n)) for n in range(4)]
        assert [each.result(timeout=PATIENCE) for each in handles[:3]] == [0, 1, 2]
        (blocker,) = orch.explain(handles[3].task_id).blockers
        assert (blocker.kind, blocker.name, blocker.need) == ("limit", "seats", 1)
        assert counting.starts == [1, 1, 1]
        counting.seats = 4
        assert handles[3].result(timeout=PATIENCE) == 3


def test_one_that_counts_is_asked_only_once_there_is_room():
    go, counting = threading.Event(), Counting(9)
    with orchestrator(counting, resources={"gpu": 1}) as orch:
        kind = {"resources": {"gpu": 1}}
        first = orch.submit_task(Task.call(go.wait, PATIENCE, **kind))
        eventually(lambda: orch.get_stats().state_machine.running == 1)
        second = orch.submit_task(Task("seated", 2, **kind))
        third = orch.submit_task(Task("other", 3))
        assert third.result(timeout=PATIENCE) == 3
        assert counting.asked == 0
        go.set()
        assert first.result(timeout=PATIENCE)
        assert second.result(timeout=PATIENCE) == 2
        assert (counting.asked, counting.starts) == (1, [1])


def test_starts_of_an_earlier_incarnation_are_not_counted(tmp_path):
    path = tmp_path / "journal.db"
    go = threading.Event()
    for counting in (Counting(9), Counting(9)):
        orch = TaskOrchestrator(extensions=[Licences(counting)], journal=path)

        @orch.agent("some", capabilities={"seated"})
        def work(task, context):
            eventually(lambda: go.is_set() or context.cancelled)
            context.checkpoint()
            return go.is_set()

        with orch:
            if not go.is_set():
                orch.submit_task(Task("seated", id="twice"))
                eventually(lambda: orch.get_stats().state_machine.running == 1)  # noqa: B023
                orch.stop(drain=False)
                go.set()
            else:
                assert orch.handle("twice").result(PATIENCE) is True
                assert orch.get_task_status("twice").attempts == 2
        assert counting.starts == [1]


def test_it_is_asked_again_in_time():
    seats = Seats(0, seconds=0.01)
    with orchestrator(seats) as orch:
        handle = orch.submit_task(Task("seated", "here"))
        other = orch.submit_task(Task("other", "there"))
        assert other.result(timeout=PATIENCE) == "there"
        assert orch.get_task_status(handle.task_id).state == "queued"
        seats.seats = 1
        assert handle.result(timeout=PATIENCE) == "here"


def test_a_wait_is_no_end_of_all_work():
    """Who waits for everything waits for what may start in time, too."""
    seats = Seats(0, seconds=0.01)
    with orchestrator(seats) as orch:
        handle = orch.submit_task(Task("seated", 1))
        assert not orch.wait(timeout=0.05)
        seats.seats = 1
        assert orch.wait(timeout=PATIENCE)
        assert handle.done()


def test_explain_has_its_words():
    with orchestrator(Seats(0)) as orch:
        handle = orch.submit_task(Task("seated"))
        eventually(lambda: not orch.explain(handle.task_id).runnable)
        [blocker] = orch.explain(handle.task_id).blockers
        assert (blocker.kind, blocker.name) == ("limit", "seats")
        assert blocker.detail == "0 seats are free."
        assert (blocker.need, blocker.have) == (1, 0)
        assert blocker.until is not None
        assert 0 < blocker.until <= 60
        assert "Limit seats must allow it" in str(blocker.remedies[0])
        handle.cancel()


def test_a_journal_has_what_it_held(tmp_path):
    """Of an incarnation that was cut off, nothing is held."""
    path = tmp_path / "journal.db"
    for _ in range(2):
        seats = Seats(1)
        with orchestrator(seats, journal=path, concurrency=3) as orch:
            handles = [orch.submit(len, "abc") for _ in range(3)]
            assert [each.result(timeout=PATIENCE) for each in handles] == [3, 3, 3]
        assert seats.most == 1


def test_a_limit_holds_in_each_incarnation(tmp_path):
    """What waits for it in one incarnation waits for it in the next."""
    path = tmp_path / "journal.db"
    for _ in range(3):
        with orchestrator(Seats(0), journal=path) as orch:
            if orch.get_stats().state_machine.queued == 0:
                orch.submit_task(Task("seated", 1, id="waits"))
            eventually(lambda: not orch.explain("waits").runnable)
            assert [each.name for each in orch.explain("waits").blockers] == ["seats"]
            orch.stop(drain=False)
    with orchestrator(Seats(1), journal=path) as orch:
        assert orch.handle("waits").result(PATIENCE) == 1


def test_a_task_that_waits_for_one_that_is_limited_is_in_no_deadlock():
    """What the limit will say later, nobody knows: the task may start then."""
    seats = Seats(0, seconds=0.01)
    with orchestrator(seats, resources={"cpu": 2}) as orch:

        def outer():
            inner = orch.submit_task(Task("seated", "inner", id="inner"))
            return inner.result(PATIENCE)

        handle = orch.submit_task(Task.call(outer, resources={"cpu": 1}))
        eventually(lambda: "inner" in [each.task_id for each in orch.tasks()])
        with pytest.raises(TimeoutError):
            handle.result(0.05)
        seats.seats = 1
        assert handle.result(PATIENCE) == "inner"


def test_where_it_cannot_say_what_it_will_answer_nobody_is_told_of_a_deadlock():
    class Unsure(Seats):
        waiter = None

        def short(self, need, held):
            if self.waiter == threading.get_ident():
                self.waiter, self.seats = None, 2
                raise OSError("no licence server")
            return super().short(need, held)

    unsure = Unsure(1, seconds=0.01)
    orch = TaskOrchestrator(extensions=[Licences(unsure)])

    @orch.agent("some", capabilities={"seated"}, max_concurrency=2)
    def work(task, context):
        if task.payload == "inner":
            return task.payload
        inner = orch.submit_task(Task("seated", "inner"))
        unsure.waiter = threading.get_ident()
        return inner.result(PATIENCE)

    with orch:
        assert orch.submit_task(Task("seated", "outer")).result(PATIENCE) == "inner"


def test_a_task_that_waits_for_one_with_a_rate_is_in_no_deadlock():
    """A token comes by itself."""
    with orchestrator(resources={"cpu": 2}) as orch:
        orch.resources.set_quotas(Quota(type="seated", starts_per_second=4))
        assert orch.submit_task(Task("seated", 1)).result(PATIENCE) == 1

        def outer():
            return orch.submit_task(Task("seated", 2)).result(PATIENCE)

        handle = orch.submit_task(Task.call(outer, resources={"cpu": 1}))
        assert handle.result(PATIENCE) == 2


def test_what_waits_for_a_slot_is_explained_with_and_without_seats():
    go = threading.Event()
    seats = Seats(0)
    with orchestrator(seats, concurrency=1) as orch:
        orch.submit(go.wait, PATIENCE)
        eventually(lambda: orch.get_stats().state_machine.running == 1)
        handle = orch.submit_task(Task("seated", 1))
        kinds = {blocker.kind for blocker in orch.explain(handle.task_id).blockers}
        assert "limit" in kinds
        seats.seats = 1
        kinds = {blocker.kind for blocker in orch.explain(handle.task_id).blockers}
        assert "limit" not in kinds
        go.set()
        assert handle.result(PATIENCE) == 1


def test_kinds_that_nobody_has_any_more_are_forgotten():
    """Of thousands of kinds, each is limited as the first."""
    with orchestrator(Seats(1)) as orch:
        kinds = [
            Task("seated", n, metadata={}, priority=0, timeout=60 + n)
            for n in range(4_200)
        ]
        handles = [orch.submit_task(each) for each in kinds]
        assert [each.result(timeout=PATIENCE) for each in handles] == [*range(4_200)]


# -- what a limit of a program may do wrong, for each of its methods -----------------


class Odd:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name):
        raise LookupError(name)

    def __repr__(self):
        raise LookupError


class OddText(str):
    __slots__ = ()

    def strip(self):
        raise LookupError

    def __len__(self):
        raise LookupError


class OddNumber(float):
    def __float__(self):
        raise LookupError("no number")


class OddShort(Short):
    @property
    def detail(self):
        raise LookupError("no words")


async def later():
    return 1


def short(**wrong):
    """Return a Short of which one part is wrong."""
    return Short(**{"detail": "no seats", "seconds": 1.0, "have": 0.0, **wrong})


#: What is no number from 0 on.
NO_NUMBERS = [
    "1",
    None,
    True,
    b"1",
    1j,
    [1],
    {"cpu": 1},
    {None: 1},
    Odd(),
    OddNumber(1),
]
NO_NUMBERS += [math.nan, math.inf, -math.inf, 1e13, 10**400, -(10**400), Decimal(1)]
NO_TEXTS = ["", "  ", None, 7, b"no", ["no"], Odd(), OddText("no")]
#: By a method: what it must not answer; a function is called for the answer.
WRONG = {
    "need": [*NO_NUMBERS, -1, -1e-9, later, Short("no")],
    "short": [
        *["no", 0, False, {}, ("no", 1.0, 0.0), Odd(), Short, later],
        *[partial(short, detail=each) for each in NO_TEXTS],
        *[partial(short, seconds=each) for each in [*NO_NUMBERS, 0, -1, later]],
        *[partial(short, have=each) for each in NO_NUMBERS],
        partial(OddShort, "no"),
    ],
    "started": ["no", 0, False, {}, Odd(), Short, later, short],
}
RAISED = [LookupError, RecursionError, MemoryError, SystemExit, GeneratorExit]
RAISED += [StopIteration, asyncio.CancelledError, ReentryError]
WRONG = {method: [*each, *RAISED] for method, each in WRONG.items()}
CASES = [(method, case) for method, wrong in WRONG.items() for case in wrong]


class Wrong(Seats):
    """A limit of which one method answers as it must not, until it is mended."""

    name = "wrong"

    def __init__(self, method, wrong):
        super().__init__()
        self.method, self.wrong = method, wrong
        self.is_wrong = True
        if method == "started":
            self.started = lambda _: self.answer(method, None)

    def answer(self, method, right):
        wrong = self.wrong
        if method != self.method or not self.is_wrong:
            return right
        if isinstance(wrong, type) and issubclass(wrong, BaseException):
            raise wrong("no server")
        if wrong is later or isinstance(wrong, partial):
            return wrong()
        return wrong

    def need(self, kind):
        return self.answer("need", 1) if kind.type == "seated" else 0

    def short(self, need, held):
        return self.answer("short", None)


@pytest.mark.filterwarnings("ignore:coroutine 'later' was never awaited")
@pytest.mark.parametrize(("method", "wrong"), CASES, ids=range(len(CASES)))
def test_what_is_wrong_is_the_limits_own_and_costs_one_task(method, wrong):
    """The error names the limit and its method; neighbours and later tasks go on."""
    limit = Wrong(method, wrong)
    with orchestrator(limit, Seats()) as orch:
        handle = orch.submit_task(Task("seated", 1))
        error = handle.exception(timeout=PATIENCE)
        assert isinstance(error, ComponentError)
        assert f"{method}() of limit wrong failed" in str(error)
        assert orch.submit_task(Task("other", 2)).result(PATIENCE) == 2
        assert orch.submit(len, "abc").result(PATIENCE) == 3
        limit.is_wrong = False
        assert orch.submit_task(Task("seated", 4)).result(PATIENCE) == 4
        assert orch.health().ready


def test_where_a_start_cannot_be_counted_nothing_has_begun():
    limit = Wrong("started", LookupError)
    with orchestrator(limit, concurrency=1) as orch:
        handle = orch.submit_task(Task("seated", 1))
        assert isinstance(handle.exception(timeout=PATIENCE), ComponentError)
        assert orch.get_task_status(handle.task_id).attempts == 0
        assert orch.get_stats().state_machine.running == 0
        assert orch.submit_task(Task("other", 2)).result(PATIENCE) == 2


def test_a_guess_when_a_task_starts_says_nothing_of_a_limit_of_the_program():
    """It says when it is asked again, and not what it says then."""
    with orchestrator(Counting(0)) as orch:
        handle = orch.submit_task(Task("seated", 1))
        eventually(lambda: not orch.explain(handle.task_id).runnable)
        told = orch.explain(handle.task_id, estimates=True)
        assert [blocker.kind for blocker in told.blockers] == ["limit"]
        assert told.estimate is None or "limit" not in told.estimate.basis
        handle.cancel()


def test_a_kind_whose_need_was_not_known_may_turn_out_to_need_nothing():
    class Nothing(Wrong):
        def need(self, kind):
            return self.answer("need", 0)

        def short(self, need, held):
            raise LookupError("nobody needs any of it")

    limit = Nothing("need", LookupError)
    with orchestrator(limit) as orch:
        failed = orch.submit_task(Task("seated", 1)).exception(PATIENCE)
        assert "need() of limit wrong failed" in str(failed)
        limit.is_wrong = False
        assert orch.submit_task(Task("seated", 2)).result(PATIENCE) == 2


def test_who_asks_why_is_told_that_it_is_wrong_and_the_task_waits_on():
    limit = Wrong("short", LookupError)
    limit.is_wrong = False
    with orchestrator(limit, Seats(0)) as orch:
        handle = orch.submit_task(Task("seated", 1))
        eventually(lambda: not orch.explain(handle.task_id).runnable)
        limit.is_wrong = True
        with pytest.raises(ComponentError, match=r"short\(\) of limit wrong failed"):
            orch.explain(handle.task_id)
        assert orch.get_task_status(handle.task_id).state == "queued"
        handle.cancel()


CALLS = {
    "submit": lambda orch: orch.submit(len, "abc"),
    "explain": lambda orch: orch.explain("first"),
    "stats": lambda orch: orch.get_stats(),
    "result": lambda orch: orch.submit(len, "abc").result(PATIENCE),
    "a run": lambda orch: orch.workflows.start(Workflow("flow")),
    "stop": lambda orch: orch.stop(),
    "wait": lambda orch: orch.wait(PATIENCE),
}


@pytest.mark.parametrize("method", WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_one_that_calls_its_orchestrator_is_refused(method, call):
    limit = Wrong(method, None)
    with orchestrator(limit) as orch:
        limit.wrong = partial(CALLS[call], orch)
        handle = orch.submit_task(Task("seated", 1))
        error = handle.exception(timeout=PATIENCE)
        assert isinstance(error, ComponentError)
        assert f"{method}() of limit wrong failed" in str(error)
        assert "ReentryError" in str(error)
        limit.is_wrong = False
        assert orch.submit_task(Task("seated", 2)).result(PATIENCE) == 2


@pytest.mark.parametrize("method", WRONG)
def test_one_that_raises_in_a_later_incarnation_harms_none_but_its_tasks(
    method, tmp_path
):
    path = tmp_path / "journal.db"
    with orchestrator(Seats(0), journal=path) as orch:
        orch.submit_task(Task("seated", 1, id="waits"))
        orch.stop(drain=False)
    with orchestrator(Wrong(method, LookupError), journal=path) as orch:
        error = orch.handle("waits").exception(PATIENCE)
        assert f"{method}() of limit wrong failed" in str(error)
        assert orch.submit_task(Task("other", 2)).result(PATIENCE) == 2
    with orchestrator(journal=path) as orch:
        assert orch.submit_task(Task("seated", 3)).result(PATIENCE) == 3


class LaterNeed(Seats):
    async def need(self, kind):
        return 1


class LaterShort(Seats):
    async def short(self, need, held):
        return None


class LaterStarted(Seats):
    async def started(self, need):
        return None


class NoStarted(Seats):
    started = 3


class NoNeed:
    name, short = "seats", Seats.short


class NoShort:
    name, need, short = "seats", Seats.need, 7


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([LaterNeed()], r"need\(\) of limit seats is a coroutine function"),
        ([LaterShort()], r"short\(\) of limit seats is a coroutine function"),
        ([LaterStarted()], r"started\(\) of limit seats is a coroutine function"),
        ([NoStarted()], r"limit seats has no method started\(\)"),
        ([NoNeed()], r"limit seats has no method need\(\)"),
        ([NoShort()], r"limit seats has no method short\(\)"),
        ([Seats], "limit seats is the class Seats"),
        ("seats", "limits of .* are a list"),
        (Seats(), "limits of .* are a list"),
        (None, "limits of .* are a list"),
        ([None], "a limit has a name"),
        ([Odd()], "raised as it was attached"),
    ],
)
def test_what_can_be_no_limit_is_refused_at_once(limits, words):
    licences = Licences()
    licences.limits = limits
    with pytest.raises(InvalidTaskError, match=words) as refused:
        TaskOrchestrator(extensions=[licences])
    assert str(refused.value).count(str(refused.value.hint)) == 1


@pytest.mark.parametrize("names", [["seats", "seats"], ["No name"], [7]])
def test_names_are_looked_at(names):
    limits = [Seats() for _ in names]
    for limit, name in zip(limits, names, strict=True):
        limit.name = name
    with pytest.raises(InvalidTaskError, match="limit"):
        orchestrator(*limits)


def test_a_simulation_asks_them_and_explains_them():
    seats = Seats(2, seconds=1000.0)
    simulation = Simulation(limits=[seats])
    simulation.agent("a", capabilities={"seated", "free"}, max_concurrency=8)
    for number in range(5):
        simulation.submit_task(Task("seated", id=f"s{number}"), 10.0)
    simulation.submit_task(Task("free", id="free"), 10.0)
    simulation.run(until=5.0)
    (blocker,) = simulation.explain("s4").blockers
    assert (blocker.kind, blocker.detail) == ("limit", "0 seats are free.")
    simulation.run()
    begins = [(attempt.task_id, attempt.start) for attempt in simulation.attempts]
    assert dict(begins) == {
        "s0": 0,
        "s1": 0,
        "free": 0,
        "s2": 10,
        "s3": 10,
        "s4": 20,
    }
    assert seats.most == 2


def test_a_simulation_counts_what_is_held_of_them_through_a_crash():
    seats = Seats(1, seconds=5.0)
    simulation = Simulation(limits=[seats])
    simulation.agent("far", capabilities={"seated"}, max_concurrency=8, lease=60.0)
    for number in range(3):
        simulation.submit_task(Task("seated", id=f"s{number}"), 20.0)
    simulation.run(until=5.0)
    simulation.crash(downtime=1.0)
    simulation.run()
    spans = sorted((attempt.start, attempt.end) for attempt in simulation.attempts)
    assert len(spans) >= 3
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert seats.most == 1


def test_a_limit_of_a_simulation_that_raises_costs_one_task():
    class Broken(Seats):
        def short(self, need, held):
            raise OSError("no licence server")

    simulation = Simulation(limits=[Broken()])
    simulation.agent("a", capabilities={"seated", "free"})
    simulation.submit_task(Task("seated", id="s"))
    simulation.submit_task(Task("free", id="free"))
    simulation.run()
    assert simulation.get_task_status("s").state == "failed"
    assert simulation.get_task_status("free").state == "completed"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (5, "the limits of a simulation are a list, not 5"),
        ([Seats], "limit seats is the class Seats"),
        ([Seats(), Seats()], "two limits have the name 'seats'"),
        ([object()], "a limit has a name"),
    ],
)
def test_a_simulation_refuses_what_is_no_limit(limits, said):
    with pytest.raises(InvalidTaskError, match=said):
        Simulation(limits=limits)


def test_a_plan_says_that_they_hold_nothing_up():
    with orchestrator(Seats()) as orch:
        report = orch.simulate([Task("seated", id="a")], 1.0)
    assert any("limits of the program, seats," in text for text in report.assumed)
