"""Random lives of waivers, with restarts and clocks that lie, and who may start then."""

import random
import time
from contextlib import suppress
from fnmatch import fnmatchcase
from types import SimpleNamespace

import pytest
from tests.api.tools import eventually

from taskorch import Task, TaskorchError, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.events import TaskStarted, TaskSubmitted
from taskorch.ext.governance import ConstitutionalRuntime, Operation
from taskorch.ext.views import JournalReader

HOUR = 3_600
PEOPLE = ["ada", "bob", "cyd"]
SPELLINGS = [str, str.upper, lambda name: f"{name} "]
PATTERNS = ["*", "a/*", "b/*", "?/1*", "a/7", "*9", "c/2?"]
POLICIES = {
    "policies": [
        {
            "id": "no-danger",
            "principle": "safety",
            "severity": "critical",
            "rules": [
                {
                    "id": "r",
                    "condition": "task.type",
                    "operator": "not_equals",
                    "value": "danger",
                }
            ],
        },
        {
            "id": "not-urgent",
            "principle": "fairness",
            "severity": "critical",
            "at": ["start"],
            "rules": [
                {
                    "id": "r",
                    "condition": "task.priority",
                    "operator": "less_than",
                    "value": 5,
                }
            ],
        },
        {
            "id": "asks",
            "principle": "fairness",
            "severity": "high",
            "at": ["start"],
            "rules": [
                {
                    "id": "r",
                    "condition": "task.priority",
                    "operator": "less_than",
                    "value": 1,
                }
            ],
        },
    ]
}


def violated(task_type, priority, moment):
    """The policies that a task violates, as a person reads them."""
    is_start = moment == "start"
    return [
        *["no-danger"] * (task_type == "danger"),
        *["not-urgent"] * (priority >= 5 and is_start),
        *["asks"] * (priority >= 1 and is_start),
    ]


def held_in_vain(orch, rt):
    """Tasks on hold that violate nothing which is not waived."""
    held = [each for each in orch.tasks("blocked") if each.type != "waiver"]
    tasks = {each.task_id: Task(each.type, priority=each.priority) for each in held}
    verdicts = {
        name: rt.validate_operation(
            Operation.of_task(task, moment="start", task_id=name)
        )
        for name, task in tasks.items()
    }
    return [name for name, verdict in verdicts.items() if verdict.allowed]


class World:
    """One journal, the waivers that people were told of, and what they did to them."""

    def __init__(self, folder, seed, clock):
        self.path = folder / "runs.db"
        self.random = random.Random(seed)
        self.clock = clock
        self.waivers = {}
        self.numbers = iter(range(10**9))
        #: What has been checked: up to which event, tasks, starts, verdicts at once.
        self.last, self.types, self.starts, self.judged = 0, {}, 0, 0

    def live(self, steps):
        """One incarnation of an orchestrator, of so many steps."""
        # The clock is set forward, and back.
        self.clock.offset += self.random.choice([-5, -1, 0, 0, 1, 3]) * HOUR * 10**9
        keep = self.random.choice([None, None, 5])
        journal = SqliteJournal(self.path, durability="process", keep_latest=keep)
        rt = ConstitutionalRuntime.from_dict(POLICIES)
        with TaskOrchestrator(
            journal=journal,
            governance=rt,
            keep_finished=self.random.choice([0, 10_000]),
        ) as orch:
            for _ in range(steps):
                with suppress(TaskorchError):
                    self.step(orch, rt)
            self.waivers |= {each.id: each for each in rt.waivers()}
            eventually(lambda: not held_in_vain(orch, rt))
            orch.stop(drain=self.random.random() < 0.5)
        self.check()

    def step(self, orch, rt):
        choice = self.random.random()
        if choice < 0.7:
            number = next(self.numbers)
            orch.submit_task(
                Task.call(
                    int,
                    id=f"{self.random.choice('abc')}/{number}",
                    type=self.random.choice(["danger", "fine"]),
                    priority=self.random.choice([0, 1, 9]),
                )
            )
            return
        if choice < 0.78 or not self.waivers:
            waiver = rt.request_waiver(
                self.random.choice(["no-danger", "not-urgent", "asks", "asks"]),
                self.random.choice(PATTERNS),
                reason="why",
                requested_by=self.random.choice(PEOPLE),
                expires=self.random.choice([0.01, 1, HOUR, 3 * HOUR]),
                approvals=self.random.choice([1, 1, 2]),
                types=self.random.choice([(), ("danger",), ("f*",)]),
            )
            self.waivers[waiver.id] = waiver
            return
        name = self.random.choice(list(self.waivers)[-8:])
        by = self.random.choice(SPELLINGS)(self.random.choice(PEOPLE))
        with suppress(TaskorchError):
            if choice < 0.92:
                rt.approve_waiver(name, by=by)
            elif choice < 0.95:
                orch.answer(name, self.random.choice(["approve", "reject"]), by=by)
            elif choice < 0.97:
                rt.reject_waiver(name, by=by)
            else:
                rt.revoke_waiver(name, by=by, reason="done")
        self.waivers[name] = rt.waiver(name)

    def check(self):
        """
        Look at the starts of this incarnation: by what people know, and no code of
        ours.
        """
        for waiver in self.waivers.values():
            people = {name.casefold().strip() for name in waiver.approved_by}
            assert waiver.requested_by not in people
            if waiver.since is not None:
                assert len(people) == waiver.approvals

        def may(policy, task_id, task_type, at):
            return any(
                each.policy_id == policy
                and each.since is not None
                and each.since <= at < each.expires
                and (each.state != "revoked" or at <= each.ended_at)
                and fnmatchcase(task_id, each.pattern)
                and (
                    not each.types or any(fnmatchcase(task_type, t) for t in each.types)
                )
                for each in self.waivers.values()
            )

        wrong = []
        # What is pruned as the next incarnation begins is still there.
        for event, task in JournalReader(self.path).entries(self.last):
            self.last = event.seq
            if type(event) is TaskSubmitted and event.type != "waiver":
                self.types[event.task_id] = event.type, task.priority
                moment = "submit"
            elif type(event) is TaskStarted:
                moment = "start"
                self.starts += 1
            else:
                continue
            task_type, priority = self.types[event.task_id]
            wrong += [
                (event.task_id, policy)
                for policy in violated(task_type, priority, moment)
                if not may(policy, event.task_id, task_type, event.at)
            ]
        assert not wrong
        judged, differences = self.replayed()
        assert not differences
        self.judged = max(self.judged, judged)

    def replayed(self):
        replay = ConstitutionalRuntime.from_dict(POLICIES).replay(self.path)
        return len(replay.moments), [str(each) for each in replay.differences]


@pytest.fixture
def clock(monkeypatch):
    """The clock of the system, which somebody sets."""
    now, clock = time.time_ns, SimpleNamespace(offset=0)
    monkeypatch.setattr(time, "time_ns", lambda: now() + clock.offset)
    return clock


def lives(folder, seed, clock, count, steps):
    world = World(folder, seed, clock)
    for _ in range(count):
        world.live(steps)
    return world


def test_nothing_starts_that_nobody_allowed(tmp_path, clock):
    world = lives(tmp_path, 7, clock, 4, 60)
    assert world.starts > 10
    assert world.judged > 10


@pytest.mark.slow("six lives of 300 steps")
@pytest.mark.parametrize("seed", range(2))
def test_nothing_starts_that_nobody_allowed_in_many_incarnations(tmp_path, seed, clock):
    world = lives(tmp_path, seed, clock, 6, 300)
    assert world.starts > 100
    assert world.judged > 100
