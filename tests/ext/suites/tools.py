"""What the tests of suites share."""

from pathlib import Path

from taskorch import TaskState
from taskorch.ext.suites import _translation, load
from taskorch.testing import Outcome, Simulation

DATA = Path(__file__).parent / "data"
#: Two documents of one name: what there is, and what is to be done.
RESOURCES = DATA / "resources.yaml"
TASKS = DATA / "tasks.yaml"
RUN = "run"


class Virtual:
    """A suite in virtual time: its tasks take 100 s each, unless *work* says more."""

    def __init__(self, *paths, fails=(), work=None, workers=None):
        self.suite = load(*paths)
        fails = dict.fromkeys(fails, 99) if not isinstance(fails, dict) else fails
        options = {}
        if self.suite.recovery:
            options["retry_handler"] = _translation._recovery_of(self.suite)
        self.simulation = Simulation(
            **options,
            resources=_translation.pools_of(self.suite),
            concurrency=20,
            grace=self.suite.retries.grace,
        )
        for name in workers or _translation.workers_of(self.suite):
            kinds = {phase.kind for phase in self.suite.phases}
            self.simulation.agent(name, capabilities=kinds)

        def outcome(task, attempt, _random):
            name = task.id.partition("/")[2]
            if work is not None and name in work:
                return work[name]
            failed = attempt <= fails.get(name, 0)
            # What a repeat may help.
            return Outcome(100.0, error=OSError(5, name) if failed else None)

        for phase in self.suite.phases:
            self.simulation.work(phase.kind, outcome)
        self.workflow = _translation.workflow_of(self.suite)
        self.simulation.workflows.start(self.workflow, id=RUN)

    def run(self):
        self.simulation.run()
        self.simulation.check()
        return self

    def state(self, name):
        return self.simulation.get_task_status(f"{RUN}/{name}").state

    def states(self):
        tests = [part.id for task in self.suite.tasks for part in task.run]
        return {name: self.state(name) for name in tests}

    def times(self):
        """Of each attempt of a test, by task: when it began and when it ended."""
        found = {}
        for run in self.simulation.attempts:
            found.setdefault(run.task_id.partition("/")[2], []).append(
                (run.start, run.end)
            )
        return found

    def starts(self):
        return {name: times[0][0] for name, times in self.times().items()}


OK, FAILED, BLOCKED = TaskState.COMPLETED, TaskState.FAILED, TaskState.BLOCKED
