"""The executors of a simulated life keep the laws of AttemptExecutor, in virtual time."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Any

import pytest

from taskorch import Task
from taskorch.core.worlds._attempts import SimulatedAttempt
from taskorch.core.worlds._incarnation import Incarnation
from taskorch.errors import AttemptInterrupted, UsageError
from taskorch.protocols import AttemptExecutor
from taskorch.testing import Outcome, Simulation

GRACE = 10.0


class Scene:
    """One worker, and all ends that its executor tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        self.simulation = Simulation(1, check=False)
        self.ends: list[tuple[str, float]] = []
        end = Incarnation.end_as_told

        def told(
            life: Incarnation, row: Any, number: int, work: Any, how: str, *rest: Any
        ) -> None:
            self.ends.append((how, round(self.simulation.now, 1)))
            end(life, row, number, work, how, *rest)

        monkeypatch.setattr(Incarnation, "end_as_told", told)
        lease = 5.0 if where == "remotes" else None
        self.simulation.agent(
            "a", capabilities={"x"}, max_concurrency=None, lease=lease
        )
        self.executor: AttemptExecutor[Any] = getattr(self.incarnation, where)
        self.where = where

    @property
    def incarnation(self) -> Incarnation:
        return self.simulation.world.living()

    def start(self, task: Task[Any], work: Outcome) -> Any:
        """What the executor has returned for an attempt, which has begun."""
        begun: list[Any] = []
        begin = self.executor.begin

        def kept(attempt: Any) -> Any:
            if attempt.number > 1:
                # The kernel tries again, of which nothing is looked at.
                return None
            before = self.simulation.now
            begun.append(begin(attempt))
            # Law 1.
            assert (self.simulation.now, self.ends) == (before, [])
            return begun[-1]

        self.executor.begin = kept  # type: ignore[method-assign]
        self.simulation.submit_task(task, work)
        self.simulation.run(until=1.0)
        (found,) = begun
        return found


@pytest.fixture(params=["in_process", "remotes"])
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch, request.param)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch, "in_process")


def test_both_are_executors(scene: Scene) -> None:
    assert isinstance(scene.executor, AttemptExecutor)
    assert scene.executor.can_hold() == (scene.where == "in_process")


@pytest.mark.parametrize(
    ("work", "how"),
    [
        (Outcome(5.0, result=3), "completed"),
        (Outcome(5.0, error=ValueError("no")), "failed"),
        (Outcome(5.0, crash=True), "lost"),
    ],
)
def test_an_end_is_told_once(scene: Scene, work: Outcome, how: str) -> None:
    scene.start(Task("x", id="t"), work)
    assert scene.ends == []
    scene.simulation.run(until=6.0)
    assert [end[0] for end in scene.ends] == [how]


def test_what_is_stopped_ends_soon_and_what_cannot_be_goes_on(scene: Scene) -> None:
    """Law 5, and of one that has ended, law 7."""
    begun = scene.start(Task("x", id="t"), Outcome(5.0))
    scene.executor.stop(begun, GRACE)
    scene.executor.stop(begun, GRACE)
    scene.simulation.run(until=2.0)
    assert scene.ends == [("stopped", 1.0)]
    for _ in range(2):
        scene.executor.stop(begun, GRACE)
    scene.simulation.run(until=2.5)
    assert len(scene.ends) == 1


def test_one_that_cannot_hold_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, "remotes")
    begun = scene.start(Task("x", id="t"), Outcome(5.0))
    scene.executor.hold(begun)
    scene.executor.resume(begun)
    scene.simulation.run(until=6.0)
    assert scene.ends == [("completed", 5.0)]


def test_what_is_held_stands_where_it_is(near: Scene) -> None:
    """Law 6: what was left of its time is left when it goes on."""
    begun = near.start(Task.program(["true"], id="t"), Outcome(5.0))
    near.executor.hold(begun)
    near.simulation.run(until=100.0)
    assert near.ends == []
    near.executor.resume(begun)
    near.executor.resume(begun)
    near.simulation.run(until=200.0)
    assert near.ends == [("completed", 104.0)]


def test_an_attempt_says_what_any_attempt_says(near: Scene) -> None:
    """So an executor of another kind could run it."""
    near.start(Task.call(pow, 2, 3, id="t"), Outcome(hang=True))
    row = near.incarnation.kernel.tasks["t"]
    attempt = SimulatedAttempt(near.incarnation, row, 1)
    assert (attempt.task_id, attempt.number, attempt.fence) == ("t", 1, (1, 1))
    assert attempt.call() == (pow, (2, 3), {})
    assert not attempt.cancelled
    assert not attempt.is_program
    with pytest.raises(UsageError):
        attempt.portable()
    attempt.run()
    attempt.end(error=AttemptInterrupted("stopped"))
    attempt.end(error=BrokenExecutor("lost"))
    attempt.unstarted(OSError("no room"))
    attempt.end_soon(error=ValueError("late"))
    near.simulation.run(until=2.0)
    hows = [how for how, _ in near.ends]
    assert hows == ["completed", "stopped", "lost", "unstarted", "failed"]
    assert near.incarnation.kernel.tasks["t"].cargo._value == 8
