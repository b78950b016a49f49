"""Bugs to plant in a kernel, one at a time: each breaks a law that tests must hold."""

from tests.simulation import small_world

from taskorch.events import TaskRetrying
from taskorch.kernel import Kernel, _application, _attempts, _fold, _limits, _queue
from taskorch.model import TaskState

S = TaskState


def end_attempts_by(monkeypatch, function):
    """Let *function* end attempts, whoever reports that."""
    monkeypatch.setattr(_attempts, "end", function)
    monkeypatch.setattr(Kernel, "end_attempt", function)


def accepts_late_results(monkeypatch):
    """The fence does not look at the attempt."""
    end = _attempts.end

    def wrong(kernel, row, attempt, *rest):
        return end(kernel, row, row.attempt, *rest)

    end_attempts_by(monkeypatch, wrong)


def accepts_results_of_another_life(monkeypatch):
    """The fence does not look at the epoch."""
    end = Kernel.end_reported

    def wrong(self, fence, *rest):
        end(self, (None, *fence[1:]), *rest)

    monkeypatch.setattr(Kernel, "end_reported", wrong)


def keeps_the_pool_on_failure(monkeypatch):
    """What a failed attempt held is not given back."""
    end = _attempts.end

    def wrong(kernel, row, attempt, outcome, *rest):
        held = row.alloc
        counted = end(kernel, row, attempt, outcome, *rest)
        if counted and outcome == "failed":
            for name, units in held:
                kernel.pools[name].used += units
        return counted

    end_attempts_by(monkeypatch, wrong)


def releases_twice_on_cancel(monkeypatch):
    """What a cancelled attempt held is given back twice."""
    end = _attempts.end

    def wrong(kernel, row, *rest):
        if row.state is S.RUNNING and row.extra and row.extra.stop == "cancel":
            _limits.release(kernel, row.agent, row.alloc)
        return end(kernel, row, *rest)

    end_attempts_by(monkeypatch, wrong)


def charges_our_crash(monkeypatch):
    """An attempt that our crash ended counts as a failure of the task."""
    monkeypatch.delitem(_attempts._GONE, "interrupted")


def starts_after_a_cancel(monkeypatch):
    """A failure makes forget that the task was called off."""
    end = _attempts.end

    def wrong(kernel, row, attempt, outcome, *rest):
        if outcome == "failed" and row.extra and row.extra.stop == "cancel":
            row.extra.stop = ""
        return end(kernel, row, attempt, outcome, *rest)

    end_attempts_by(monkeypatch, wrong)


def forgets_a_submission(monkeypatch):
    """Recovery drops what had not begun."""
    recover = small_world.recover

    def wrong(kernel, epoch, now):
        recover(kernel, epoch, now)
        for row in list(kernel.tasks.values()):
            if row.state is S.QUEUED and not row.attempt:
                _queue.dequeue(kernel, row)
                del kernel.tasks[row.id]

    monkeypatch.setattr(small_world, "recover", wrong)


def keeps_the_slot_of_a_lost_agent(monkeypatch):
    """What an agent ran is not given back when it is lost."""
    give_back = _application._give_back

    def wrong(kernel, agent, alloc, slots, share):
        give_back(kernel, agent, alloc, 0 if agent.lost else slots, share)

    monkeypatch.setattr(_application, "_give_back", wrong)


def loses_a_wake_up(monkeypatch):
    """A release wakes nobody."""
    monkeypatch.setattr(_queue, "wake", lambda kernel, place: None)


def forgets_a_failed_attempt(monkeypatch):
    """The fold does not count a failure that was followed by a retry."""
    about_task = _fold._about_task

    def wrong(kernel, fact):
        if type(fact) is TaskRetrying:
            fact = fact.__replace__(charged=False)
        about_task(kernel, fact)

    monkeypatch.setattr(_fold, "_about_task", wrong)
