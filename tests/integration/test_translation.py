"""What the fields of a task come to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from taskorch import Program, Resources, RetryPolicy, Task
from taskorch._limits import MAX_SECONDS, NS
from taskorch.errors import (
    AttemptInterrupted,
    InvalidTaskError,
    ProgramFailedError,
    UnkeptResultError,
)
from taskorch.events import PoolRelieved, PoolSaturated, QuotaExceeded, QuotaRelieved
from taskorch.model import AtLeast, Call, Elastic, ProgramResult, Reference
from taskorch.runtime._attempts import outcome_of
from taskorch.runtime._documents import document_of, document_of_end
from taskorch.runtime._lent import is_foreign, lent, lent_task
from taskorch.runtime._saturation import HYSTERESIS, Saturation
from taskorch.runtime._submission import _length
from taskorch.runtime._translation import (
    executor_for,
    is_async_generator_function,
    is_bare,
    is_coroutine_function,
    is_default,
    is_simple,
    options_of,
    portable,
    refuse_arguments,
    said_ns,
    spec_of,
    terms_of,
    unchecked_terms,
    when,
)

PLAIN = Task("t", 5)
#: Options with which a task is of another kind.
KINDS = {
    "type": "u",
    "priority": 1,
    "requires": {"gpu"},
    "resources": Resources(cpu=1),
    "timeout": 1.0,
    "retry": RetryPolicy(2),
    "idempotent": False,
    "owner": "o",
}


# -- how it is called ------------------------------------------------------------------


async def coroutine() -> None:
    """A coroutine."""


async def generator() -> AsyncIterator[int]:
    yield 1


class Calls:
    """Something that can be called."""

    def __init__(self) -> None:
        self.fn: Callable[..., Any] = abs

    async def method(self) -> None:
        """A coroutine."""

    def plain(self) -> None:
        """No coroutine."""


class CallsAsync:
    """A class whose objects are called as coroutines; itself, it is not."""

    async def __call__(self) -> None:
        """A coroutine."""


class YieldsAsync:
    """Likewise, of an async generator."""

    async def __call__(self) -> AsyncIterator[int]:
        yield 1


def marked() -> None:
    """A function that says that it is a coroutine."""


marked._is_coroutine_mark = None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fn", "is_so"),
    [
        (coroutine, True),
        (partial(coroutine), True),
        (Calls().method, True),
        (CallsAsync(), True),
        (CallsAsync, False),
        (generator, False),
        (Calls().plain, False),
        (Calls, False),
        (abs, False),
        (marked, False),
        (lambda: None, False),
    ],
)
def test_coroutine_functions_are_known(fn: Any, is_so: bool) -> None:
    assert is_coroutine_function(fn) is is_so
    executors: Any = {"asyncio": "loop", "thread": "threads"}
    if fn is not generator:
        found: Any = executor_for(fn, None, executors)
        assert found == ("loop" if is_so else "threads")
        assert executor_for(fn, "auto", executors) == found


@pytest.mark.parametrize(
    ("fn", "is_so"),
    [
        (generator, True),
        (partial(generator), True),
        (YieldsAsync(), True),
        (YieldsAsync, False),
        (coroutine, False),
        (CallsAsync(), False),
        (abs, False),
    ],
)
def test_async_generators_are_known(fn: Any, is_so: bool) -> None:
    assert is_async_generator_function(fn) is is_so
    if is_so:
        with pytest.raises(InvalidTaskError, match="is an async generator"):
            executor_for(fn, None, {})


def test_an_executor_is_found_by_its_name() -> None:
    executors: Any = {
        name: name for name in ("thread", "asyncio", "program", "process", "own")
    }
    for name in ("thread", "process", "own"):
        assert executor_for(abs, name, executors) == name
        with pytest.raises(InvalidTaskError, match="runs on the loop, not with"):
            executor_for(coroutine, name, executors)
    assert executor_for(coroutine, "asyncio", executors) == "asyncio"
    with pytest.raises(InvalidTaskError, match="needs an async def"):
        executor_for(abs, "asyncio", executors)
    for name in ("program", "other"):
        for fn in (abs, coroutine):
            with pytest.raises(InvalidTaskError) as caught:
                executor_for(fn, name, executors)
            assert str(caught.value).startswith(
                f"there is no executor {name!r}: there are 'auto', 'thread', "
                "'asyncio', 'process', 'own'"
            )
    with pytest.raises(InvalidTaskError, match="a name is needed, not 5"):
        executor_for(abs, 5, executors)  # type: ignore[arg-type]
    with pytest.raises(InvalidTaskError):
        executor_for(lambda: None, "process", executors)


def test_a_handler_takes_a_task_and_a_context() -> None:
    refuse_arguments("a", lambda task, context: None)
    refuse_arguments("a", lambda *args: None)
    # What says nothing of what it takes is believed.
    refuse_arguments("a", type)
    for wrong in (lambda: None, lambda task: None, lambda a, b, c: None):
        with pytest.raises(InvalidTaskError, match=r"is called with \(task, context\)"):
            refuse_arguments("a", wrong)


# -- of what kind it is ----------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_tasks_with_other_options_are_of_another_kind(name: str) -> None:
    """Whatever their payloads are, and whatever else is their own."""
    task = attrs.evolve(PLAIN, **{name: KINDS[name]})
    assert options_of(task) != options_of(PLAIN)
    assert options_of(task) == options_of(
        attrs.evolve(task, payload=7, id="x", metadata={"a": 1}, expected=5)
    )
    assert spec_of(task) != spec_of(PLAIN) or name in ("priority", "retry")
    assert not is_default(options_of(task)) or name == "type"


def test_calls_programs_and_waits_need_no_agent_of_their_type() -> None:
    assert spec_of(PLAIN).requires == ("t",)
    assert is_default(options_of(PLAIN))
    calls = [attrs.evolve(PLAIN, payload=one) for one in (Call(abs), Program(["a"]))]
    for task in (*calls, Task.wait_for("e")):
        assert spec_of(task).requires is None
        assert is_default(options_of(task))
    assert options_of(calls[0]) != options_of(PLAIN)
    assert options_of(calls[0]) == options_of(calls[1])
    for task in (PLAIN, calls[0]):
        some = attrs.evolve(task, requires=["b", "a", "b"])
        assert spec_of(some).requires == ("a", "b")


def test_options_that_cannot_be_a_key_are_none() -> None:
    unhashable: Any = type("Unhashable", (RetryPolicy,), {"__hash__": None})(2)
    task = attrs.evolve(PLAIN, retry=unhashable)
    assert options_of(task) is None
    assert is_default(None) is False


def test_a_timeout_is_a_nanosecond_at_least() -> None:
    assert spec_of(PLAIN).timeout_ns is None
    for seconds, ns in [(2.5, 2_500_000_000), (1e-10, 1), (2e-9, 2)]:
        assert spec_of(attrs.evolve(PLAIN, timeout=seconds)).timeout_ns == ns


def test_the_spec_says_what_is_elastic() -> None:
    wants = Elastic({"cpu": 4}, min={"cpu": 1}, weight=2)
    spec = spec_of(attrs.evolve(PLAIN, resources=wants, owner="o"))
    assert spec.resources == Resources(cpu=4).units
    assert spec.elastic is not None
    assert spec.elastic[:2] == (Resources(cpu=1).units, 2_000_000)
    assert spec.owner == "o"
    assert spec_of(PLAIN).elastic is None


OWN = {
    "deadline": 5.0,
    "not_before": 5.0,
    "idempotency_key": "k",
    "metadata": {"a": 1},
    "join": "any",
    "on_parent_failure": "skip",
}


@pytest.mark.parametrize("name", OWN)
def test_what_has_something_of_its_own_is_not_simple(name: str) -> None:
    assert is_simple(PLAIN)
    assert is_bare(PLAIN)
    task = attrs.evolve(PLAIN, **{name: OWN[name]})
    assert not is_simple(task)
    assert not is_bare(task)


@pytest.mark.parametrize(
    "fields", [{"id": "x"}, {"after": ["a"]}, {"expected": 1.0}], ids=str
)
def test_what_is_simple_may_have_an_id_parents_and_a_length(fields: Any) -> None:
    task = attrs.evolve(PLAIN, **fields)
    assert is_simple(task)
    assert not is_bare(task)


@pytest.mark.parametrize(
    ("expected", "is_so"),
    [
        (None, True),
        (0, True),
        (1.5, True),
        (MAX_SECONDS, True),
        (-1, False),
        (2 * MAX_SECONDS, False),
        (True, False),
        ("1", False),
        (timedelta(1), False),
    ],
)
def test_a_length_that_is_none_is_looked_at_closely(expected: Any, is_so: bool) -> None:
    task = Task("t")
    object.__setattr__(task, "expected", expected)
    assert is_simple(task) is is_so


def test_times_are_in_nanoseconds() -> None:
    assert said_ns(PLAIN) is None
    assert said_ns(attrs.evolve(PLAIN, expected=1.5)) == 1.5 * NS
    assert said_ns(attrs.evolve(PLAIN, expected=0)) == 0
    assert when(None, 5) is None
    assert when(2.5, 7 * NS) == 9.5 * NS
    assert when(0, 7) == 7
    assert when(datetime(1970, 1, 1, 0, 0, 9, tzinfo=UTC), 5) == 9 * NS


@pytest.mark.parametrize(
    ("wait", "length"),
    [
        (("e", None, False), 0),
        (("e", 5, False), 0),
        ((None, 5, True), 5),
    ],
)
def test_a_timer_is_as_long_as_it_says_and_nobody_knows_when_an_event_comes(
    wait: Any, length: int
) -> None:
    entry: Any = SimpleNamespace(terms=SimpleNamespace(wait=wait), task=PLAIN)
    assert _length(entry) == length


def test_work_is_as_long_as_was_said_or_as_its_like() -> None:
    samples = [(0, 0, 0, 7 * NS)] * 3
    bucket = SimpleNamespace(type_row=SimpleNamespace(samples=samples))
    for terms in (None, SimpleNamespace(wait=None)):
        entry: Any = SimpleNamespace(terms=terms, task=PLAIN, bucket=bucket)
        assert _length(entry) == 7 * NS
        entry.task = attrs.evolve(PLAIN, expected=2.0)
        assert _length(entry) == 2 * NS
        entry.task = attrs.evolve(PLAIN, expected=0)
        assert _length(entry) == 0


# -- under what conditions -------------------------------------------------------------


@pytest.mark.parametrize(
    ("join", "least", "kept"),
    [("any", 1, "any"), (AtLeast(3), 3, 3), (lambda states: True, 1, "asked")],
)
def test_a_join_of_more_than_there_are_is_refused(
    join: Any, least: int, kept: Any
) -> None:
    task = Task("t", join=join, after=["a"])
    terms = terms_of(task, least)
    assert terms is not None
    assert (terms.join, terms.on_failure) == (kept, "block")
    with pytest.raises(InvalidTaskError, match=f"waits for {least} tasks") as caught:
        terms_of(task, least - 1)
    assert f"`after` names {least - 1}" in str(caught.value)


def test_who_waits_for_all_may_wait_for_none() -> None:
    assert terms_of(PLAIN, 0) is None
    for fields in ({"join": "finished"}, {"on_parent_failure": "skip"}):
        task = attrs.evolve(PLAIN, **fields)
        terms: Any = terms_of(task, 0)
        assert terms == unchecked_terms(task)
        assert (terms.join, terms.on_failure) == (task.join, task.on_parent_failure)
        assert terms.wait is None


def test_a_wait_has_terms_of_its_own() -> None:
    for task, wait in [
        (Task.wait_for("e"), ("e", None, False)),
        (Task.wait_for("e", timeout=1.5), ("e", 1_500_000_000, False)),
        (Task.wait_for("e", timeout=1, default=None), ("e", NS, True)),
    ]:
        terms = terms_of(task, 0)
        assert terms is not None
        assert (terms.join, terms.wait) == ("all", wait)


def test_what_is_kept_of_a_task_names_what_it_needs() -> None:
    plain = attrs.evolve(PLAIN, payload=Call(abs, (1,)))
    assert portable(plain, lambda _: Reference("none")) is plain
    after = attrs.evolve(plain, after=["a"])
    assert portable(after, lambda _: Reference("none")) == plain
    needed = Task("u", id="y")
    task = attrs.evolve(PLAIN, payload=Call(max, (needed, Reference("z")), {"k": [1]}))
    kept: Any = portable(task, lambda ref: Reference(ref.id))
    assert kept.payload.args == (Reference("y"), Reference("z"))
    assert kept.payload.kwargs == {"k": [1]}
    assert kept.after == ()


# -- how it has ended ------------------------------------------------------------------


def test_what_an_attempt_raised_says_how_it_ended() -> None:
    stop, other = AttemptInterrupted("cancel"), ValueError("no")
    assert outcome_of(stop, "x", asked=True)[0] == "stopped"
    assert outcome_of(asyncio.CancelledError(), "x", asked=True)[0] == "stopped"
    # Nobody has asked it to stop.
    assert outcome_of(stop, "x", asked=False)[0] == "failed"
    for asked in (True, False):
        assert outcome_of(other, "x", asked=asked) == (
            "failed",
            other,
            ("ValueError", "no"),
        )
    outcome, seen, described = outcome_of(SystemExit(3), "x", asked=True)
    assert (outcome, described) == ("failed", ("SystemExit", "3"))
    assert str(seen) == "task x raised SystemExit: 3"
    assert isinstance(seen.__cause__, SystemExit)


def test_what_cannot_be_kept_of_an_end_is_its_error() -> None:
    def refuse(_value: Any) -> Any:
        msg = "result: a lock cannot be kept"
        raise InvalidTaskError(msg, hint="return something else")

    def fail(_value: Any) -> Any:
        raise KeyError("text")

    error = ValueError("no")
    assert document_of_end(lambda value: [value], "x", 5, None) == ([5], None)
    stop = AttemptInterrupted("cancel")
    assert document_of_end(fail, "x", None, stop) == (None, stop)
    assert document_of_end(fail, "x", None, error) == (None, error)
    for document, said, hint in [
        (refuse, "task x: result: a lock cannot be kept", "return something else"),
        (fail, "task x: result: it cannot be kept: 'text'", ""),
    ]:
        kept, seen = document_of_end(document, "x", 5, None)
        assert kept is None
        assert isinstance(seen, UnkeptResultError)
        assert (seen.message, seen.hint, seen.task_id) == (said, hint, "x")
    kept, seen = document_of_end(lambda value: value, "x", None, error)
    assert seen is error
    assert set(kept) == {"traceback"}
    result = ProgramResult(("ls",), 1, "", "", None, 1.5)
    ended = ProgramFailedError("no", result=result)
    assert document_of_end(lambda v: v, "x", None, ended)[0]["result"] is result


def test_what_is_no_result_is_called_by_its_name() -> None:
    def refuse(message: str) -> Any:
        raise InvalidTaskError(message, hint="do this")

    for message, said in [
        ("result[1]: no", "the event[1]: no"),
        ("it is no", "it is no"),
    ]:
        with pytest.raises(InvalidTaskError) as caught:
            document_of(refuse, "the event", message)
        assert (caught.value.message, caught.value.hint) == (said, "do this")
    assert document_of(str, "the event", 5) == "5"


# -- what is lent ----------------------------------------------------------------------


def test_who_changes_nothing_is_given_the_task_itself() -> None:
    for task in (
        attrs.evolve(PLAIN, payload=Call(abs, (1, "a"), {"k": 2})),
        attrs.evolve(PLAIN, payload=Call(abs)),
    ):
        assert lent_task(task) is task
    for payload in (
        Call(abs, ([1],)),
        Call(abs, (1, {2})),
        Call(abs, (), {"k": [1]}),
        Call(abs, (1,), {"j": 1, "k": {}}),
    ):
        task = attrs.evolve(PLAIN, payload=payload, id="x")
        object.__setattr__(task, "_submitted_as", "x~2")
        copied = lent_task(task)
        assert copied is not task
        assert copied == task
        assert copied._submitted_as == "x~2"
        for one, other in [
            *zip(copied.payload.args, payload.args, strict=True),
            *zip(copied.payload.kwargs.values(), payload.kwargs.values(), strict=True),
        ]:
            assert (one is other) is (type(one) is int)
    task = attrs.evolve(PLAIN, payload=Call(abs, (1,)), metadata={"a": [1]})
    copied = lent_task(task)
    assert copied.metadata == task.metadata
    assert copied.metadata is not None
    assert task.metadata is not None
    assert copied.metadata["a"] is not task.metadata["a"]


def test_copies_are_made_down_to_some_depth_and_of_each_once() -> None:
    shared = [1]
    given = {"a": shared, "b": (shared, {2}, bytearray(b"x"))}
    made = lent(given)
    assert made == given
    assert made["a"] is not shared
    assert made["b"][0] is made["a"]
    assert made["b"][1] is not given["b"][1]
    assert made["b"][2] is not given["b"][2]
    for kind in ("list", "dict"):
        ring: Any = [] if kind == "list" else {}
        ring.append(ring) if kind == "list" else ring.update({0: ring})
        copied = lent(ring)
        assert copied is not ring
        assert copied[0] is copied
    deep: Any = []
    for _ in range(25):
        deep = [deep]
    one, other, levels = lent(deep), deep, 0
    while one is not other:
        one, other, levels = one[0], other[0], levels + 1
    assert levels == 20


def test_ours_are_not_foreign() -> None:
    assert is_foreign(Calls())
    assert not is_foreign(PLAIN)


# -- what is nearly used up ------------------------------------------------------------


def pool_of(name: str, total: int, *, beyond: int = 0, is_quota: bool = False) -> Any:
    return SimpleNamespace(
        name=name, total=total, used=0, beyond=beyond, is_quota=is_quota
    )


def test_a_pool_is_said_to_be_saturated_once_and_to_be_relieved_once() -> None:
    told: list[Any] = []
    pool, none = pool_of("cpu", 100), pool_of("gpu", 0)
    limits = {
        "a/b": pool_of("a/b", 1),
        "q": pool_of("q", 1, is_quota=True),
    }
    for limit in limits.values():
        limit.used = 1
    kernel: Any = SimpleNamespace(
        pools={**limits, "gpu": none, "cpu": pool},
        note=lambda *said: told.append(said),
    )
    saturation = Saturation()
    wanted: Any = frozenset({PoolSaturated})
    for used, said in [
        (0, None),
        (84, None),
        (85, PoolSaturated),
        (100, None),
        (75, None),
        (74, PoolRelieved),
        (80, None),
        (90, PoolSaturated),
        (0, PoolRelieved),
    ]:
        pool.used = used
        saturation.look(kernel, 7, frozenset())
        assert told == []
        saturation.look(kernel, 7, wanted)
        assert told == ([] if said is None else [(said, 7, "cpu", used, 100)])
        told.clear()
    # Relief is at nothing, where no share of it is little enough.
    saturation.relief = 0.0
    for used in (90, 0):
        pool.used = used
        saturation.look(kernel, 7, wanted)
    assert [said[0] for said in told] == [PoolSaturated, PoolRelieved]


def test_a_soft_quota_is_said_to_be_exceeded_beyond_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "taskorch.runtime._saturation.meaning_of", lambda pool: (pool.name,)
    )
    told: list[Any] = []
    soft, pool = pool_of("q", 1100, beyond=1000, is_quota=True), pool_of("cpu", 100)
    pool.used = 100
    kernel: Any = SimpleNamespace(
        pools={"q": soft, "cpu": pool}, note=lambda *said: told.append(said)
    )
    saturation = Saturation()
    wanted: Any = frozenset({QuotaExceeded})
    saturation.look(kernel, 7, wanted)
    assert told.pop() == (PoolSaturated, 7, "cpu", 100, 100)
    least = int((1 - HYSTERESIS) * 100)
    for used, cls in [
        (100, None),
        (101, QuotaExceeded),
        (200, None),
        (least, None),
        (least - 1, QuotaRelieved),
        (50, None),
        (101, QuotaExceeded),
        (0, QuotaRelieved),
    ]:
        soft.used = used
        saturation.look(kernel, 7, wanted)
        assert told == ([] if cls is None else [(cls, 7, "q", used, 100)])
        told.clear()
