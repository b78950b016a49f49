"""
People are asked by questions and about failures, in a world that dies at any step.

The model is a dictionary: of each task, what is asked about it, how often, and who has
answered. It knows nothing of rows, histories and votes that are kept.
"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any

import pytest

from taskorch import Task
from taskorch.errors import AnswerRefusedError, NotRunningError, UnknownTaskError
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

    def why_not(self, name: str, times: int, choice: str, by: str) -> str:
        """Why an answer does not count, as far as the model knows; empty if it does."""
        task = self.tasks[name]
        reasons = {
            "failed once more": times != task["times"],
            "those who may": task["who"] and by not in task["who"],
            "is none of": choice not in task["options"],
            "comes too late": task["state"] in ("completed", "failed", "ended"),
            "nobody is asked for it yet": task["state"] != "asked",
            "has answered before": by in dict(task["votes"]),
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def count(self, name: str, choice: str, by: str) -> None:
        """Let an answer count."""
        task = self.tasks[name]
        if name[0] == "f":
            for each in next(group for group in self.open() if name in group):
                self.tasks[each]["state"] = VERDICTS[choice]
                self.tasks[each]["times"] += choice == "retry"
            return
        task["votes"].append((by, choice))
        same = [vote for _, vote in task["votes"] if vote == choice]
        if choice == "no":
            task["state"] = "failed"
        elif len(same) >= task["quorum"]:
            task["state"] = "completed"

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
        if times > self.tasks[name]["times"]:
            with pytest.raises(UnknownTaskError):
                self.simulation.answer(named, choice, by=by)
            return
        why = self.why_not(name, times, choice, by)
        if dies:
            ahead = random.randrange(1, 5)
            event = self.simulation.world.living().kernel.seq + ahead
            self.simulation.crash_at(event, random.choice(STAGES), 1.0)
        if not why:
            self.count(name, choice, by)
            self.simulation.answer(named, choice, by=by)
        else:
            with pytest.raises(AnswerRefusedError, match=why):
                self.simulation.answer(named, choice, by=by)

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
        with suppress(UnknownTaskError):
            self.simulation.cancel_task(f"after-{name}")

    # -- comparing ---------------------------------------------------------------------

    def seen(self) -> Any:
        """By the id that means it: about which tasks it is, and who has answered."""
        return {
            each.answer_to: (sorted(each.tasks), [*each.votes])
            for each in self.simulation.questions()
        }

    def expected(self) -> Any:
        questions = {}
        first = {each.tasks[0] for each in self.simulation.questions()}
        for group in self.open():
            # Which of them has waited longest, time says.
            name = min(sorted(group), key=lambda each: each not in first)
            task, sign = self.tasks[name], "@" if name[0] == "f" else "~"
            named = f"{'escalation/' * (sign == '@')}{name}{sign}{task['times']}"
            questions[named] = sorted(group), task["votes"]
        return questions

    def check(self) -> None:
        assert self.seen() == self.expected()
        for each in self.simulation.questions():
            waiting = {name.removeprefix("after-") for name in each.blocking_tasks}
            assert waiting <= set(each.tasks)
        for name, task in self.tasks.items():
            state = self.simulation.get_task_status(name).state.value
            ends = {"asked": "blocked", "aside": "suspended", "ended": "cancelled"}
            assert state == ends.get(task["state"], task["state"])


#: What is the same of a question in all incarnations.
LASTING = ("id", "answer_to", "asked_at", "tasks", "votes", "text", "whom")


def live(seed: int, steps: int) -> None:
    world = World(seed)
    acts = {
        world.submit: 3,
        world.answer: 8,
        lambda: world.answer(dies=True): 3,
        world.decide: 1,
        world.put_aside: 1,
        world.cancel_next: 1,
    }
    world.submit()
    world.settle()
    for _ in range(steps):
        (act,) = world.random.choices([*acts], [*acts.values()])
        before, crashes = deepcopy(world.tasks), world.simulation.world.crashes
        with suppress(NotRunningError):
            act()
        world.settle()
        if (
            world.simulation.world.crashes > crashes
            and world.seen() != world.expected()
        ):
            # What it died of has not happened at all.
            world.tasks = before
        world.check()
        if world.random.random() < 0.2:
            listed = world.simulation.questions()
            world.simulation.crash()
            world.settle()
            for each, again in zip(listed, world.simulation.questions(), strict=True):
                for name in LASTING:
                    assert getattr(each, name) == getattr(again, name)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_asked_is_what_nobody_has_answered(seed: int) -> None:
    """However often it dies: an answer counts once, and for all it is about, or not."""
    live(seed, 25)


@pytest.mark.slow("forty long lives")
@pytest.mark.parametrize("seed", range(100, 140))
def test_what_is_asked_is_what_nobody_has_answered_in_long_incarnations(
    seed: int,
) -> None:
    live(seed, 80)
