"""What `explain` says; that it is what happens is a law, in test_laws.py."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.core.kernel.commands import CancelTask, SubmitTask
from tests.core.kernel.harness import SEC, Machine, Policies

from taskorch.core.kernel import Again, Spec, Terms, _explain, explain
from taskorch.core.kernel._rows import Awaited
from taskorch.kit.words import in_words
from taskorch.model import Blocker, Remedy, Resources, Stuck


def test_every_kind_is_documented():
    """The kinds that `explain` produces are those in the documentation, all of them."""
    folder = Path(_explain.__file__).parent
    pages = [*folder.glob("*.py"), *folder.parent.glob("*.py")]
    source = "".join(page.read_text(encoding="utf-8") for page in pages)
    for cls in (Blocker, Remedy):
        made = set(re.findall(rf'{cls.__name__}\(\s*"(\w+)"', source))
        # The driver knows of it, and nobody else.
        made.add("journal")
        text = inspect.getsource(cls)
        kinds = re.search(r"\n {8}kind: (.*?)\n {8}\w+: ", text, re.DOTALL)[1]
        # Those of blockers stand in a list below, each before what it is.
        listed = "".join(re.findall(r"^ {4}- ((?:`\w+`,?\s*)+):", text, re.MULTILINE))
        documented = re.findall(r"`(\w+)`", kinds + listed)
        assert made == set(documented)


def test_a_runnable_task():
    """Nothing keeps it from starting but its turn."""
    machine = Machine()
    machine.kernel.paused = True
    machine.submit_all("a", "b")
    machine.kernel.paused = False
    told = machine.why("b")
    assert told.runnable
    assert (told.position, told.blockers, told.ways) == (2, (), ())
    assert "number 2" in str(told)


def test_ends():
    """What has ended says how."""
    machine = Machine()
    machine.submit_all("a", "b", "c")
    machine.end("a")
    machine.fail("b")
    machine.cancel("c")
    machine.end("c", "failed")
    assert [machine.kinds(name) for name in "abc"] == [["terminal"]] * 3
    assert str(machine.why("a")).startswith("a is completed.\nIts worker, ")
    assert "It failed (error): ValueError: it went wrong." in str(machine.why("b"))
    assert "c is cancelled.\nIt has ended: called off." in str(machine.why("c"))


def test_one_worker_with_room_is_enough():
    """Workers that are full are no blockers while another has room."""
    machine = Machine()
    machine.worker("a", "x", max_concurrency=1)
    machine.worker("b", "x", max_concurrency=2)
    machine.submit_all("t", "u", requires=("x",))
    machine.kernel.paused = True
    machine.submit("v", requires=("x",))
    machine.kernel.paused = False
    assert machine.why("v").runnable


def test_an_allocator_that_is_content_with_less_is_believed():
    """Where a pool has too little and the allocator grants all the same, it can run."""
    machine = Machine(pools=Resources(cpu=2))
    machine.policies.grants = lambda row, request: ()
    machine.submit("t", resources=Resources(cpu=2))
    machine.kernel.pools["cpu"].used = 1_000_000
    machine.kernel.paused = True
    machine.kernel.submit("u", machine.row("t").bucket, None, machine.now)
    machine.kernel.paused = False
    assert machine.why("u").runnable
    machine.kernel.pools["cpu"].used = 0


def test_a_refusal_is_recalled_until_there_is_room():
    """Where a worker has got room meanwhile, the allocator is asked about that."""
    machine = Machine()
    machine.worker("a", "x", max_concurrency=1)
    machine.worker("b", "x")
    machine.policies.refuses = lambda row, worker: "no" if worker.name == "b" else None
    machine.submit_all("t", "u", requires=("x",))
    assert machine.kinds("u") == ["agent", "allocator"]
    machine.kernel.paused = True
    machine.kernel.submit_general(
        "v", machine.kernel.bucket(machine.row("u").bucket.spec), None, machine.now
    )
    machine.end("t")
    machine.kernel.paused = False
    assert machine.why("u").runnable
    assert machine.settle() == ["u"]


def test_why_it_got_what_it_holds() -> None:
    """As it asked for, as its worker says, or as much as was granted."""
    machine = Machine(pools=Resources(cpu=8))
    machine.worker("a", "x", request=Resources(cpu=1))
    machine.submit("asks", resources=Resources(cpu=2))
    machine.submit("silent", requires=("x",))
    machine.submit("free")
    machine.policies.grants = lambda row, request: (("cpu", 500_000),)
    machine.submit("less", resources=Resources(cpu=2))
    assert machine.why("asks").granted == "It holds 2 cpu, as it asked for."
    assert str(machine.why("asks")).endswith("\nIt holds 2 cpu, as it asked for.")
    assert machine.why("silent").granted == (
        "It holds 1 cpu, as worker a says of tasks that do not say."
    )
    assert machine.why("free").granted == ""
    assert machine.why("less").granted == (
        "It holds 0.5 cpu, less than it asked for: free."
    )
    machine.end("less")
    assert machine.why("less").granted == ("It was given less than it asked for: free.")
    assert machine.why("less").routed == machine.why("asks").routed
    machine.end("asks")
    assert machine.why("asks").granted == "It was given 2 cpu, as it asked for."


def test_many_attempts_are_summed_up() -> None:
    machine = Machine()
    machine.policies.delays["t"] = [0] * 9
    machine.submit("t")
    for _ in range(9):
        machine.fail("t")
    text = str(machine.why("t"))
    assert "It was tried again 4 times, and then:" in text
    assert text.count("It was tried again: once more.") == 5


def test_what_has_ended_can_be_run_again_once() -> None:
    machine = Machine()
    machine.submit_all("a", "b")
    machine.fail("a")
    (blocker,) = machine.why("a").blockers
    assert [remedy.tasks for remedy in blocker.remedies] == [("a",)]
    machine.cancel("b")
    machine.end("b", "stopped")
    machine.rerun("b")
    (blocker,) = machine.why("b").blockers
    assert blocker.detail == "It has ended: called off. It was run again, as b~2."
    assert blocker.remedies == ()
    machine.submit("skipped", after=["a"], on_failure="skip")
    (blocker,) = machine.why("skipped").blockers
    assert [remedy.tasks for remedy in blocker.remedies] == [("a", "skipped")]
    machine.kernel.evict()
    (blocker,) = machine.why("skipped").blockers
    assert blocker.remedies == ()
    machine.submit("c", priority=3)
    machine.end("c")
    (blocker,) = machine.why("c").blockers
    assert (blocker.detail, blocker.remedies) == ("It has ended.", ())


def test_as_json_has_it() -> None:
    """Whole numbers, words and lists; what says nothing is left out."""
    machine = Machine(refuse_unknown=False, concurrency=1)
    machine.submit("a", requires=("x",), resources=Resources(licence=2))
    told = explain(
        machine.kernel, machine.row("a"), machine.now, whole=True, estimates=True
    )
    found = json.loads(json.dumps(told.to_dict()))
    (blocker,) = found.pop("blockers")
    assert found == {
        "task_id": "a",
        "state": "queued",
        "position": 1,
        "estimate": {"seconds": None, "basis": "no worker can do it"},
    }
    (remedy,) = blocker["remedies"]
    assert remedy["resources"] == {"licence": 2}
    assert remedy["capabilities"] == ["x"]
    assert blocker["kind"] == "capability"
    assert told.blockers[0].to_dict() == blocker
    assert told.blockers[0].remedies[0].to_dict() == remedy
    assert told.estimate is not None
    assert told.estimate.to_dict() == found["estimate"]
    assert str(told.blockers[0]) == blocker["detail"]
    group = Stuck("dependency", "Why.", ("a",), (Remedy("rerun", "Do."),))
    assert group.to_dict() == {
        "kind": "dependency",
        "detail": "Why.",
        "tasks": ["a"],
        "remedies": [{"kind": "rerun", "detail": "Do."}],
    }
    assert str(group) == "1 task stuck: a.\n  Why.\n    → Do."
    assert str(Stuck("suspended", "Why.", ("a", "b"), outside=True)) == (
        "2 tasks waiting for outside input: a and b.\n  Why."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.001, "1 ms"),
        (1.5, "1.5 s"),
        (59.94, "59.9 s"),
        (119, "119 s"),
        (150, "2.5 min"),
        (7_200, "2 h"),
        (864_000, "10 days"),
        (0.9999, "1 s"),
        (7_140, "119 min"),
        (120 * 86_400, "120 days"),
        (1e9, "11,574 days"),
    ],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text


def wait(machine: Machine, name: str, wait: Awaited, **options: Any) -> list[str]:
    """Submit a task that is no work, but a wait."""
    return machine.do(SubmitTask(name, Spec("wait"), terms=Terms(wait=wait), **options))


def test_a_wait_whose_time_is_over_says_what_comes_of_it() -> None:
    """The next dispatch ends it; who asks before it hears how."""
    machine = Machine()
    for name, completes in (("w", False), ("d", True)):
        wait(machine, name, ("go", SEC, completes))
        told = explain(machine.kernel, machine.row(name), machine.now + 2 * SEC)
        (blocker,) = told.blockers
        assert (blocker.kind, blocker.name, blocker.until) == ("event", "go", 0.0)
        end = "complete" if completes else "fail"
        assert blocker.detail.endswith(f", and its time is over: it is about to {end}.")


def test_a_wait_that_has_not_begun() -> None:
    """The event comes after what it depends on; it needs no slot and no worker."""
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b")
    wait(machine, "w", ("go", 9 * SEC, False), after=("a",))
    wait(machine, "now", ("go", 0, True), after=("a",))

    def kinds(name: str) -> list[list[str]]:
        told = explain(
            machine.kernel, machine.row(name), machine.now, whole=True, estimates=True
        )
        assert told.estimate is None
        return [[blocker.kind for blocker in way] for way in told.ways]

    assert kinds("w") == [["dependency", "event"]]
    assert kinds("now") == [["dependency"]]
    machine.kernel.emit("go", None, SEC, machine.now)
    assert kinds("w") == [["dependency"]]
    machine.after(2 * SEC)
    machine.suspend("w")
    assert kinds("w") == [["suspended", "dependency", "event"]]
    machine.end("a")
    machine.resume("w")
    machine.after(4 * SEC)
    assert kinds("w") == [["event"]]
    machine.suspend("w")
    machine.after(SEC)
    assert kinds("w") == [["suspended", "event"]]
    event = explain(machine.kernel, machine.row("w"), machine.now, whole=True).then[0]
    assert event.until == 5


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_how_often_it_was_tried_before_it_failed(attempts: int) -> None:
    """The number is told where there was more than one, and so is that it was enough."""
    machine = Machine()
    machine.policies.delays["t"] = [0] * (attempts - 1)
    machine.submit("t")
    for _ in range(attempts):
        machine.fail("t")
    (blocker,) = machine.why("t").blockers
    many, enough = "", ""
    if attempts > 1:
        many = f" after {attempts} attempts"
        enough = " Its retry policy allowed no more."
    told = f"It failed{many} (error): ValueError: it went wrong.{enough}"
    assert blocker.detail == told
    assert len(machine.why("t").retries) == attempts - 1


class Silent(Policies):
    """Its retry handler gives no reason."""

    def retry(self, *asked: Any) -> Again:
        return attrs.evolve(super().retry(*asked), reason="")


def test_a_retry_and_an_end_without_a_reason() -> None:
    """A policy, or a person, may give none."""
    machine = Machine(policies=Silent())
    machine.policies.delays["t"] = [0]
    machine.submit("t")
    machine.fail("t")
    assert machine.why("t").retries == ("no reason given",)
    machine.do(CancelTask("t", ""))
    machine.end("t", "stopped")
    (blocker,) = machine.why("t").blockers
    assert blocker.detail == "It has ended."
