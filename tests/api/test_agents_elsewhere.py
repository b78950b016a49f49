"""`orch.agents`: workers of other processes, as whoever speaks with them has them."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.api.tools import PATIENCE, Slow, begun, eventually, in_loop

from taskorch import (
    InvalidTaskError,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
)
from taskorch.core.engine import _committer
from taskorch.core.kernel import check_invariants
from taskorch.errors import UnknownAgentError
from taskorch.model import Agent, ProgramResult
from taskorch.protocols import AttemptExecutor


class Mailbox(AttemptExecutor):
    """What there is to do, until somebody does it."""

    def __init__(self):
        self.begun = []

    def begin(self, attempt):
        self.begun.append(attempt)
        return attempt


def far(name="far", **options):
    options.setdefault("lease", 600.0)
    options.setdefault("max_concurrency", 1)
    return Agent(name, ("x",), **options)


@pytest.fixture
def orch():
    with TaskOrchestrator(unknown_capability="wait") as found:
        yield found
        found.stop(drain=False, timeout=0)


def test_whose_name_is_taken(orch):
    orch.agents.join(far(), Mailbox())
    orch.agent("near")(lambda task, context: None)
    for name in ("far", "near", "local"):
        with pytest.raises(InvalidTaskError, match="already"):
            orch.agents.join(far(name), Mailbox())


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        (Agent("../x", lease=1.0), "no safe id"),
        (Agent("far"), "has no lease"),
        (Agent("far", lease=0.0), "lease"),
        (Agent("far", lease=1.0, max_concurrency=0), "max_concurrency"),
        (Agent("far", (" x",), lease=1.0), "a capability is a name"),
    ],
)
def test_what_can_never_work(orch, worker, why):
    with pytest.raises(InvalidTaskError, match=why):
        orch.agents.join(worker, Mailbox())


def test_who_speaks_with_it_is_an_executor(orch):
    with pytest.raises(InvalidTaskError, match="AttemptExecutor is needed, not 3"):
        orch.agents.join(far(max_concurrency=None), 3)
    orch.agents.join(far(max_concurrency=None), Mailbox())


@pytest.mark.parametrize("name", ["near", "local", "nobody"])
def test_nobody_else_is_heard_of(orch, name):
    orch.agent("near")(lambda task, context: None)
    for ask in (
        lambda: orch.agents.beat(name, ()),
        lambda: orch.agents.leave(name),
        lambda: orch.agents.is_lost(name),
    ):
        with pytest.raises(UnknownAgentError, match=repr(name)):
            ask()


def on_its_journal(folder, unknown="wait"):
    return TaskOrchestrator(journal=folder / "runs.db", unknown_capability=unknown)


def test_of_what_an_earlier_incarnation_had_it_do_only_what_is_done_counts(tmp_path):
    def incarnation():
        return begun(lambda: on_its_journal(tmp_path))

    with incarnation() as orch:
        orch.agents.join(far(max_concurrency=2), box := Mailbox())
        orch.submit_tasks([Task("x", id="t"), Task("x", id="u")])
        eventually(lambda: len(box.begun) == 2)
        orch.agents.keep()
        fence = box.begun[0].fence
        orch.stop(drain=False, timeout=0)
    with incarnation() as orch:
        late = orch.agents.bring_late
        assert not late("t", fence, error=ValueError("old"), agent="far")
        assert late("u", fence, "done", agent="far")
        assert not late("u", fence, "again", agent="far")
        with pytest.raises(UnknownTaskError):
            late("nobody", fence, agent="far")
        with pytest.raises(InvalidTaskError, match="made no attempt"):
            late("t", fence, agent="other")
        with pytest.raises(InvalidTaskError, match="made no attempt 7"):
            late("t", (fence[0], 7), agent="far")
        with pytest.raises(InvalidTaskError, match="is of this incarnation"):
            late("t", (fence[0] + 1, 1), agent="far")
        assert "ValueError" in repr(orch.get_task_status("t").late_results[1])
        assert orch.get_task_status("t").state.value == "queued"
        assert orch.handle("u").result(PATIENCE) == "done"
        orch.stop(drain=False, timeout=0)
    with incarnation() as orch:
        assert "ValueError" in repr(orch.get_task_status("t").late_results[1])
        assert orch.get_task_status("u").late_results == {1: "again"}
        assert orch.handle("u").result(PATIENCE) == "done"
        orch.agents.join(far(), box := Mailbox())
        eventually(lambda: box.begun)
        assert box.begun[0].task_id == "t"
        assert box.begun[0].fence > fence
        orch.stop(drain=False, timeout=0)


@pytest.mark.parametrize(
    ("waits", "most", "delay"),
    [
        ("for a worker", 1, 0),
        ("for a worker", 2, 0),
        ("for a slot", 2, 0),
        ("for a slot", 2, 600),
        ("on hold", 1, 0),
        ("on hold", 2, 600),
    ],
)
def test_a_judged_failure_of_an_earlier_incarnation_counts_once(
    tmp_path, most, delay, waits
):
    """By the retry policy, wherever its task waits: who can do it may not be there."""
    unknown = "refuse" if waits == "on hold" else "wait"

    def incarnation():
        return begun(lambda: on_its_journal(tmp_path, unknown))

    policy = RetryPolicy(most, wait="fixed", base=delay, max_delay=delay, jitter=0)
    with incarnation() as orch:
        orch.agents.join(far(max_concurrency=2), box := Mailbox())
        orch.submit_task(Task("x", id="first", priority=50))
        orch.submit_task(Task("x", id="t", retry=policy, requires=["x"]))
        eventually(lambda: len(box.begun) == 2)
        orch.agents.keep()
        fence = box.begun[1].fence
        orch.stop(drain=False, timeout=0)
    if waits == "on hold":
        with incarnation() as orch:
            # From the next incarnation on, nobody is known who can do it.
            orch.agents.join(Agent("far", ("y",), lease=600.0), Mailbox())
            orch.stop(drain=False, timeout=0)
    for number in (1, 2):
        with incarnation() as orch:
            if waits == "for a slot":
                orch.agents.join(far(f"busy{number}"), other := Mailbox())
                eventually(lambda box=other: box.begun)
            before = orch.get_task_status("t").state.value
            assert number == 2 or before == (
                "blocked" if waits == "on hold" else "queued"
            )
            is_awaited = orch.agents.awaits_end("t", fence, "far")
            assert is_awaited == (number == 1)
            assert not orch.agents.awaits_end("t", fence, "other")
            assert not orch.agents.awaits_end("t", (fence[0], 7), "far")
            error = ValueError("the test has failed")
            counts = orch.agents.bring_late(
                "t", fence, error=error, agent="far", judged=True
            )
            assert counts == is_awaited
            status = orch.get_task_status("t")
            states = ("retrying",) if delay else ("queued", "blocked")
            assert status.state.value in (states if most == 2 else ("failed",))
            assert status.attempts == 1
            told = status.error if most == 1 else status.earlier_errors[1]
            assert "the test has failed" in str(told)
            orch.stop(drain=False, timeout=0)
            stats = orch.get_stats()
            assert stats.retries.scheduled == most - 1
            assert stats.state_machine.failed == 2 - most
            check_invariants(orch._rt.kernel)


def test_what_is_judged_counts_whatever_its_worker_was_given(tmp_path):
    """A value of another kind counts only if it is said to be judged."""

    def incarnation():
        return begun(lambda: on_its_journal(tmp_path))

    with incarnation() as orch:
        orch.agents.join(far(), box := Mailbox())
        orch.submit_task(Task("x", id="t"))
        eventually(lambda: box.begun)
        orch.agents.keep()
        fence = box.begun[0].fence
        orch.stop(drain=False, timeout=0)
    end = ProgramResult(("true",), 0, "", "", None, 0.1)
    with incarnation() as orch:
        assert not orch.agents.bring_late("t", fence, end, agent="far")
        assert orch.agents.bring_late("t", fence, end, agent="far", judged=True)
        assert orch.handle("t").result(PATIENCE) == end
        assert not orch.agents.awaits_end("t", fence, "far")
        with pytest.raises(UnknownTaskError):
            orch.agents.awaits_end("nobody", fence, "far")


def test_what_is_given_up_before_it_may_begin_never_begins(tmp_path, monkeypatch):
    """Its worker goes while its submission is written: only the next attempt is made."""
    monkeypatch.setattr(_committer, "_COMMIT_TIMEOUT_S", PATIENCE)
    journal = Slow(tmp_path / "runs.db")
    gone, there = Mailbox(), Mailbox()
    with TaskOrchestrator(journal=journal, unknown_capability="wait") as orch:
        orch.agents.join(far(), gone)
        orch.agents.keep()
        journal.go.clear()
        submitting = threading.Thread(
            target=orch.submit_task, args=(Task("x", id="t"),)
        )
        submitting.start()
        assert journal.waits.wait(PATIENCE)
        orch.agents.leave("far", [("t", 1)])
        orch.agents.join(far(), there)
        journal.go.set()
        submitting.join(PATIENCE)
        eventually(lambda: there.begun)
        assert [attempt.number for attempt in gone.begun + there.begun] == [2]
        there.begun[0].end("right")
        assert orch.handle("t").result(PATIENCE) == "right"


@in_loop
async def test_coroutines_have_the_same_words(tmp_path):
    def incarnation():
        return TaskOrchestrator(journal=tmp_path / "runs.db", unknown_capability="wait")

    box = Mailbox()
    async with incarnation() as orch:
        aio = orch.aio
        await aio.agents.join(far(), box)
        await aio.submit_task(Task("x", id="t"))
        await asyncio.to_thread(eventually, lambda: box.begun)
        await aio.agents.keep()
        await aio.stop(drain=False, timeout=0)
    async with incarnation() as orch:
        aio = orch.aio
        await aio.agents.join(far(), box)
        await asyncio.to_thread(eventually, lambda: len(box.begun) == 2)
        old, new = box.begun
        assert await aio.agents.beat("far", [("t", new.number)]) == []
        assert await aio.agents.bring_late("t", old.fence, value=1, agent="far")
        new.end(2)
        assert await (await aio.handle("t")) == 1
        assert (await aio.get_task_status("t")).late_results == {new.number: 2}
        assert not await aio.agents.is_lost("far")
        assert await aio.agents.leave("far")
