"""Words between the service and a worker are lost, late or doubled: no task stays."""

from __future__ import annotations

from random import Random

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.test_agents import Wire, done, fleet

from taskorch import Task

#: Attempts that the worker has at once.
MOST = 3


class Worker:
    """Does as our worker does, a word at a time, as chance has it."""

    def __init__(self, wire: Wire, random: Random) -> None:
        self.wire, self.random = wire, random
        self.running: dict[str, dict] = {}
        self.seen: set[str] = set()
        self.ends: dict[str, dict] = {}
        #: Requests that are still on their way, as they were when they were sent.
        self.claims: list[list[str]] = []
        self.reports: list[list[dict]] = []

    def hear(self, answer):
        if self.random.random() < 0.3:
            # It is lost on its way.
            return
        for order in answer["orders"]:
            if order["attempt"] not in self.seen:
                self.seen.add(order["attempt"])
                self.running[order["attempt"]] = order

    def named(self):
        return [*self.running, *self.ends]

    def ask(self):
        self.claims.append(self.named())

    def claim(self):
        if self.claims:
            running = self.claims.pop(self.random.randrange(len(self.claims)))
            self.hear(self.wire.claim(*running, most=MOST, wait=0))

    def beat(self):
        self.wire.say("heartbeat", {"running": self.named()})

    def finish(self):
        if self.running:
            name = self.random.choice([*self.running])
            self.ends[name] = done(self.running.pop(name), name)

    def report(self):
        if self.ends:
            self.reports.append([*self.ends.values()])

    def tell(self):
        if self.reports:
            results = self.random.choice(self.reports)
            if self.random.random() < 0.5:
                # Else it comes once more.
                self.reports.remove(results)
            told = {"results": results, "running": [*self.running], "most": MOST}
            answer = self.wire.say("complete", told)
            if self.random.random() < 0.7:
                for each in answer["results"]:
                    self.ends.pop(each["attempt"], None)
                self.hear(answer)

    def go_on(self):
        """Do all that is left, with no word lost."""
        while self.reports:
            self.wire.say("complete", {"results": self.reports.pop()})
        answer = self.wire.claim(*self.named(), most=MOST, wait=0)
        for order in answer["orders"]:
            if order["attempt"] not in self.seen:
                self.seen.add(order["attempt"])
                self.running[order["attempt"]] = order
        for name in [*self.running]:
            self.ends[name] = done(self.running.pop(name), name)
        if self.ends:
            self.wire.complete(*self.ends.values())
            self.ends.clear()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_late_or_doubled_each_task_ends(seed):
    random = Random(seed)
    with fleet("dig", max_concurrency=MOST, lease=PATIENCE) as (service, wire):
        worker, handles = Worker(wire, random), []

        def submit():
            if len(handles) < 12:
                task = Task("dig", requires=["dig"])
                handles.append(service.orch.submit_task(task))

        def cancel():
            if handles:
                service.orch.cancel_task(random.choice(handles).task_id)

        steps = [submit] * 4 + [cancel]
        steps += [worker.ask, worker.claim, worker.finish, worker.report, worker.tell]
        steps += [worker.beat]
        for _ in range(80):
            random.choice(steps)()

        def all_have_ended():
            worker.go_on()
            return all(handle.done() for handle in handles)

        eventually(all_have_ended)
        for handle in handles:
            status = handle.status
            assert status.state in ("completed", "cancelled")
            assert status.attempts <= 1
