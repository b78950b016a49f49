"""
People are asked by questions and about failures, in a world that dies at any step.

The model is a dictionary: of each task, what is asked about it, how often, and who has
answered. It knows nothing of rows, histories and votes that are kept.
"""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

import pytest

from taskorch import Task
from taskorch.errors import NotRunningError, UnknownTaskError, UsageError
from taskorch.protocols import RetryDecision
from taskorch.testing import Outcome, Simulation

PEOPLE = ("ann", "bob", "cy")
CAUSES = ("no table", "no disk")
#: What an answer about a failure makes of each task.
VERDICTS = {"retry": "asked", "skip": "completed", "abort": "failed"}
STAGES = ("made", "sent", "kept", "told")
#: Seconds in which all that follows from a step has come about.
SOON = 5.0


class Asks:
    """Asks a person about every failure."""

    def decide(self, failure: Any, _: Any) -> RetryDecision:
        return RetryDecision(retry=False, ask="What now?", kind=failure.kind)


class World:
    """An orchestrator that people are asked by, and what the model says of it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.simulation = Simulation(seed, retry_handler=Asks())
        self.simulation.work("load", self.outcome)
        #: By id: the state, how often it was asked about, its votes, its rules.
        self.tasks: dict[str, dict[str, Any]] = {}

    def outcome(self, task: Task[Any], *_: object) -> Outcome:
        cause = CAUSES[sum(map(ord, str(task.id))) % 2]
        return Outcome(0.0, error=LookupError(f"{cause} for {task.id}"))

    # -- the model ---------------------------------------------------------------------

    def open(self) -> list[set[str]]:
        """The tasks about which people are asked, by question."""
        groups: dict[str, set[str]] = {}
        for name, task in self.tasks.items():
            if task["state"] == "asked":
                cause = CAUSES[sum(map(ord, name)) % 2]
                groups.setdefault(cause if name[0] == "f" else name, set()).add(name)
        return sorted(groups.values(), key=sorted)

    def answered(self, name: str, times: int, choice: str, by: str) -> str | None:
        """Let an answer count; why it does not, as far as the model knows."""
        task = self.tasks[name]
        if task["who"] and by not in task["who"]:
            return "may answer|those who may"
        if choice not in task["options"]:
            return "is none of"
        if times != task["times"] or task["state"] in ("completed", "failed", "ended"):
            return "too late|run again since|asked .* times"
        if task["state"] != "asked":
            return "nobody is asked for it yet"
        if name[0] == "f":
            for each in next(group for group in self.open() if name in group):
                self.tasks[each]["state"] = VERDICTS[choice]
                self.tasks[each]["times"] += choice == "retry"
            return None
        if by in dict(task["votes"]):
            return "has answered before"
        task["votes"].append((by, choice))
        same = [vote for _, vote in task["votes"] if vote == choice]
        if choice == "no":
            task["state"] = "failed"
        elif len(same) >= task["quorum"]:
            task["state"] = "completed"
        return None

    # -- steps -------------------------------------------------------------------------

    def settle(self) -> None:
        self.simulation.run(until=self.simulation.now + SOON)

    def submit(self) -> None:
        number, random = len(self.tasks), self.random
        if random.random() < 0.5:
            name, task = f"f{number}", Task.call(print, type="load", id=f"f{number}")
            rules: dict[str, Any] = {"who": None, "quorum": 1}
            rules["options"] = (*VERDICTS, "complete")
        else:
            name = f"q{number}"
            rules = {
                "who": random.choice([None, PEOPLE]),
                "quorum": random.choice([1, 2]),
            }
            task = Task.question("go?", id=name, options=("yes", "no"), **rules)
            rules["options"] = ("yes", "no")
        self.simulation.submit_task(task)
        self.simulation.submit_task(Task.call(int, id=f"after-{name}", after=[name]))
        self.tasks[name] = {"state": "asked", "times": 1, "votes": [], **rules}

    def answer(self, *, dies: bool = False) -> None:
        """Answer something, well or wrongly, early or late; perhaps it all ends then."""
        random, name = self.random, self.random.choice([*self.tasks])
        times = random.choice([self.tasks[name]["times"]] * 4 + [1, 2])
        of_failure = name[0] == "f"
        named = f"escalation/{name}@{times}" if of_failure else f"{name}~{times}"
        choices = ("retry", "skip", "abort") if of_failure else ("yes", "yes", "no")
        choice = random.choice([*choices, *choices, "maybe"])
        by = random.choice([*PEOPLE, *PEOPLE, "eve"])
        before = deepcopy(self.tasks)
        if times > self.tasks[name]["times"]:
            with pytest.raises(UnknownTaskError):
                self.simulation.answer(named, choice, by=by)
            return
        why = self.answered(name, times, choice, by)
        if dies:
            ahead = random.randrange(1, 5)
            fact = self.simulation.world.living().kernel.seq + ahead
            self.simulation.crash_at(fact, random.choice(STAGES), 1.0)
        try:
            if why is None:
                self.simulation.answer(named, choice, by=by)
            else:
                with pytest.raises(UsageError, match=why):
                    self.simulation.answer(named, choice, by=by)
        except NotRunningError:
            assert dies
        self.settle()
        if dies and self.seen() != self.expected():
            # It counted for nobody, or for all.
            self.tasks = before

    def decide(self) -> None:
        """Settle one alone, as anybody may where there are no rules; or cancel it."""
        name = self.random.choice([*self.tasks])
        task = self.tasks[name]
        if task["state"] != "asked":
            return
        if self.random.random() < 0.5:
            assert self.simulation.cancel_task(name)
            task["state"] = "ended"
        elif name[0] == "f":
            verdict = self.random.choice(["retry", "fail", "complete"])
            assert self.simulation.decide(name, verdict)  # type: ignore[arg-type]
            ends = {"retry": "asked", "fail": "failed", "complete": "completed"}
            task["state"] = ends[verdict]
            task["times"] += verdict == "retry"

    def put_aside(self) -> None:
        name = self.random.choice([*self.tasks])
        task = self.tasks[name]
        if name[0] == "q" and task["state"] == "asked":
            assert self.simulation.suspend_task(name)
            task["state"] = "aside"
        elif task["state"] == "aside":
            assert self.simulation.resume_task(name)
            task["state"] = "asked"

    def cancel_next(self) -> None:
        """What waits for an answer is not asked about, and changes nothing."""
        name = self.random.choice([*self.tasks])
        self.simulation.cancel_task(f"after-{name}")

    def crash(self) -> None:
        self.simulation.crash()

    # -- comparing ---------------------------------------------------------------------

    def seen(self) -> Any:
        questions = self.simulation.questions()
        votes = {each.id: [*each.votes] for each in questions if each.votes}
        return sorted((set(each.tasks) for each in questions), key=sorted), votes

    def expected(self) -> Any:
        votes = {
            name: task["votes"]
            for name, task in self.tasks.items()
            if task["votes"] and task["state"] == "asked"
        }
        return self.open(), votes

    def check(self) -> None:
        assert self.seen() == self.expected()
        for each in self.simulation.questions():
            first = self.tasks[each.tasks[0]]
            sign = "@" if each.kind == "escalation" else "~"
            assert each.answer_to.endswith(f"{each.tasks[0]}{sign}{first['times']}")
            waiting = {name.removeprefix("after-") for name in each.blocking_tasks}
            assert waiting <= set(each.tasks)
        for name, task in self.tasks.items():
            state = self.simulation.get_task_status(name).state.value
            ends = {"asked": "blocked", "aside": "suspended", "ended": "cancelled"}
            assert state == ends.get(task["state"], task["state"])


def live(seed: int, steps: int) -> None:
    world = World(seed)
    acts = {
        world.submit: 3,
        world.answer: 8,
        lambda: world.answer(dies=True): 3,
        world.decide: 1,
        world.put_aside: 1,
        world.cancel_next: 1,
        world.crash: 1,
    }
    world.submit()
    world.settle()
    for _ in range(steps):
        (act,) = world.random.choices([*acts], [*acts.values()])
        act()
        world.settle()
        world.check()
        before = [
            each.to_dict() | {"system_state": 0}
            for each in world.simulation.questions()
        ]
        if world.random.random() < 0.2:
            world.crash()
            world.settle()
            world.check()
            after = [each.to_dict() for each in world.simulation.questions()]
            for key in (
                "id",
                "answer_to",
                "asked_at",
                "tasks",
                "votes",
                "text",
                "whom",
            ):
                assert [each[key] for each in after] == [each[key] for each in before]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_asked_is_what_nobody_has_answered(seed: int) -> None:
    """However often it dies: an answer counts once, and for all it is about, or not."""
    live(seed, 25)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_what_is_asked_is_what_nobody_has_answered_in_long_lives(seed: int) -> None:
    live(seed, 80)
