"""SourceRegistry."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext, FakeWorker

from taskorch.errors import InvalidTaskError
from taskorch.model import Task
from taskorch.policies import CapabilityRegistry, SourceRegistry
from taskorch.protocols import AgentRegistry

ANN, BOB = FakeWorker("ann"), FakeWorker("bob")
CAPABILITIES = st.frozensets(st.sampled_from("abcd"))
PATIENCE = 60.0


class Source:
    """A source whose answer a test sets, and whose reading it may hold up."""

    def __init__(self, answer):
        self.answer = answer
        self.reads = 0
        self.go = threading.Event()
        self.go.set()
        self.read = threading.Semaphore(0)

    def __call__(self):
        self.reads += 1
        assert self.go.wait(PATIENCE)
        self.read.release()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def match(registry, task="draw", now=0.0, workers=(ANN, BOB)):
    task = Task(task) if isinstance(task, str) else task
    return registry.matches(task, workers, FakeContext(now=now))


def settle(registry):
    """Wait for the thread that reads, if there is one."""
    for thread in threading.enumerate():
        if thread.name == "taskorch-registry":
            thread.join(PATIENCE)
    assert registry._reading.acquire(timeout=PATIENCE)
    registry._reading.release()


def test_it_is_a_worker_registry():
    """It has the methods of its protocol, and shows its options."""
    registry = SourceRegistry({"ann": ["draw"]}, max_age=5)

    assert isinstance(registry, AgentRegistry)
    assert repr(registry) == "SourceRegistry({'ann': ['draw']}, max_age=5)"


def test_the_reason_says_whether_anybody_is_known():
    """Nobody in the source, and nobody of it here, are two things."""
    registry = SourceRegistry({"carl": ["draw"], "ann": ["write"]})

    assert match(registry).agents == ()
    assert match(registry).reason == (
        "the source names 1 worker for 'draw', and none has joined"
    )
    assert match(registry, "sing").reason == "the source names nobody for 'sing'"


def test_a_callable_is_read_when_the_registry_is_made_and_by_refresh():
    """Between two readings the answers stay as they are."""
    source = Source({"ann": ["draw"]})
    registry = SourceRegistry(source, max_age=None)
    source.answer = {"bob": ["draw"]}

    assert match(registry, now=1e9).agents == ("ann",)
    assert not match(registry).reusable
    registry.refresh()
    assert match(registry).agents == ("bob",)
    assert source.reads == 2


def test_old_records_are_read_again_while_the_old_answer_is_served():
    """The question does not wait for the source, and one reading is enough."""
    source = Source({"ann": ["draw"]})
    registry = SourceRegistry(source, max_age=30)
    assert match(registry, now=100).agents == ("ann",)
    assert match(registry, now=130).reason.endswith("says the source")
    source.answer = {"bob": ["draw"]}
    source.go.clear()

    stale = [match(registry, now=131), match(registry, now=170)]
    source.go.set()
    settle(registry)

    assert [found.agents for found in stale] == [("ann",), ("ann",)]
    assert stale[0].reason == (
        "1 of 2 workers can do 'draw', says the source, as it said 31 s ago"
    )
    assert source.reads == 2
    assert match(registry, now=171).agents == ("bob",)
    assert match(registry, now=171).reason.endswith("says the source")


def test_a_source_that_fails_keeps_its_last_answer_and_is_tried_again_later():
    """The reason says what is wrong; nothing is tried before the time."""
    source = Source({"ann": ["draw"]})
    registry = SourceRegistry(source, max_age=30)
    match(registry, now=0)
    source.answer = OSError("no route")
    match(registry, now=31)
    settle(registry)
    late = match(registry, now=40)

    assert late.agents == ("ann",)
    assert late.reason == (
        "1 of 2 workers can do 'draw', says the source, as it said 40 s ago; "
        "now it fails: OSError('no route')"
    )
    assert isinstance(registry.error, OSError)
    match(registry, now=61)
    settle(registry)
    assert source.reads == 2
    source.answer = {"bob": ["draw"]}
    match(registry, now=62)
    settle(registry)
    assert match(registry, now=63).agents == ("bob",)
    assert registry.error is None


def test_after_a_quiet_hour_the_first_answer_says_how_old_it_is():
    """The age counts from the question before the reading, never from less."""
    registry = SourceRegistry(Source({"ann": ["draw"]}), max_age=30)
    match(registry, now=0)
    registry.refresh()

    assert match(registry, now=3600).reason.endswith("as it said 3,600 s ago")


def test_refresh_raises_what_the_source_raises():
    """Who reads on purpose is told; the good records stand."""
    source = Source({"ann": ["draw"]})
    registry = SourceRegistry(source)
    source.answer = OSError("no route")

    with pytest.raises(OSError, match="no route"):
        registry.refresh()
    assert match(registry).agents == ("ann",)


def test_a_thread_that_cannot_be_started_is_no_failure(monkeypatch):
    """The old answer is served, and the next question tries again."""
    source = Source({"ann": ["draw"]})
    registry = SourceRegistry(source, max_age=1)
    match(registry, now=0)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert match(registry, now=5).agents == ("ann",)
    assert source.reads == 1
    match(registry, now=6)
    settle(registry)
    assert source.reads == 2


@pytest.mark.parametrize("bad", [5, None, "ann", ["ann"], object()])
def test_what_is_no_source_is_refused(bad):
    """It is a mapping, or can be called."""
    with pytest.raises(InvalidTaskError, match="source"):
        SourceRegistry(bad)


@pytest.mark.parametrize(
    "records",
    [{"ann": "draw"}, {"ann": b"draw"}, {"ann": 5}, {"ann": [5]}, {5: ["draw"]}],
)
def test_records_of_another_form_are_refused(records):
    """A text is not taken for its letters, and the entry is named."""
    with pytest.raises(InvalidTaskError, match="collection of capabilities"):
        SourceRegistry(records)
    with pytest.raises(InvalidTaskError, match="collection of capabilities"):
        SourceRegistry(lambda: records)


def test_a_callable_that_returns_no_mapping_is_refused():
    """At once, since it is read at once."""
    with pytest.raises(InvalidTaskError, match="not None"):
        SourceRegistry(lambda: None)


@given(CAPABILITIES, st.dictionaries(st.sampled_from("uvwxyz"), CAPABILITIES))
def test_it_finds_whom_a_registry_of_capabilities_finds(needs, records):
    """With the records told to the agents themselves, both say the same."""
    workers = [FakeWorker(n, tuple(sorted(records.get(n, ())))) for n in "zyxw"]
    here = [worker for worker in workers if worker.name in records]
    task = Task("t", requires=needs)
    registry = SourceRegistry(lambda: records)
    found = match(registry, task, workers=workers)

    assert found.agents == CapabilityRegistry().matches(task, here, None).agents
    assert found == match(registry, task, workers=workers)
    assert found.reason


def test_a_mapping_is_copied_and_its_answers_hold():
    """What never changes need not be asked for again."""
    records = {"ann": ["draw"]}
    registry = SourceRegistry(records)
    records["ann"].append("write")
    records["bob"] = ["draw"]
    registry.refresh()

    assert match(registry).agents == ("ann",)
    assert match(registry).reusable
    assert match(registry, now=1e9) == match(registry, now=0)
