"""
What is to hold of the events of a world of rooms, whatever has made them.

A page for each promise, read from the first event to the last. It shares nothing with
the code that it judges: no state, no helper, no order but that of the events.

What it checks, by the names that a breach has:

    once        a task is accepted once, runs once at a time, and has one end, after
                which nothing follows
    slots       each slot of a schedule is made once, not early, or skipped with a reason
    answers     an answer counts once, of who may give it, while that is asked, for the
                run that asks; it decides at once if it is the last that is needed, and
                nothing else does
    memo        a task has the result of an equal call alone, which has completed and is
                not too old
    breaker     it opens if enough tasks have failed, for its time, twice as long each
                time; lets so many probes through, and closes once they ended well
    held        nothing starts that is held back; whoever holds lets go
    alerts      an alert is raised once, holds what it says, and lets go when it is over;
                in a new incarnation none fires
    pool        a worker that goes has nothing to do
    owed        what follows from an answer, an alert or a new life follows at once
    jobs        a unit that fails is run again once
    rewards     each source rewards each unit once, with what it has said
    told        a failure that nobody has heard of is told, and a cause under one number
                in all incarnations, until it is mended
    rest        in the end nothing runs, nothing is held, and the pool is as small as it
                may be

Decision: tests-and-checks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from taskorch.events import (
    AgentDraining,
    AgentJoined,
    AgentLost,
    AgentProbed,
    AgentRestored,
    AgentTripped,
    AlertCleared,
    AlertRaised,
    Event,
    OrchestratorStarted,
    QuestionAnswered,
    ResultRemembered,
    ResultReused,
    ResultsForgotten,
    ScheduleChanged,
    ScheduleFired,
    ScheduleSkipped,
    StartsHeld,
    StartsReleased,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskRewarded,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
)
from taskorch.model import Breaker, Question
from taskorch.model.ids import (
    has_number,
    next_id,
    run_by,
    run_of,
    stem_of,
    without_last,
)
from taskorch.testing import Breach

_NS: Final = 1_000_000_000
#: What times of drivers are exact to, in ns: they are floats of seconds.
_GRAIN: Final = 1_000
#: A breaker is open so many times as long as at first, at the most.
_LONGEST: Final = 16
_ENDS: Final = (TaskCompleted, TaskFailed, TaskCancelled)
#: Events with which an attempt is over.
_OVER: Final = (*_ENDS, TaskRetrying, TaskBlocked)

#: Failures that a person has decided, or that say another failure.
_KNOWN: Final = ("decision", "internal", "dependency")


def _cause(end: Event) -> tuple[str, str]:
    """An error's class, and what it says, without numbers and the task's own id."""
    text = getattr(end, "message", "").replace(getattr(end, "task_id", ""), "TASK")
    return getattr(end, "error_type", ""), re.sub(r"\d+", "#", text)


@attrs.frozen
class Called:
    """A call whose result is remembered: what makes it like another."""

    function: str
    args: tuple[Any, ...]
    version: str
    #: Seconds for which a result is good for it; None is for ever.
    expires: float | None = attrs.field(default=None, eq=False)

    @property
    def document(self) -> str:
        """What tells it from others: 1, True and 1.0 are three."""
        return repr((self.function, self.args, self.version))


@attrs.frozen
class Slots:
    """A schedule: a slot at each full number of so many seconds, up to an end."""

    name: str
    every: int
    end: int
    #: Whether no slot of it is passed over unless it is paused.
    keeps: bool = False

    def after(self, seconds: float) -> int:
        """How many slots there are after a time."""
        return self.end // self.every - int(seconds) // self.every


@attrs.frozen
class HoldingAlert:
    """An alert that holds starts back: under which name, and how long at least."""

    by: str
    seconds: float


@attrs.define
class _Breaker:
    """What is known of a breaker from its events."""

    state: str = "closed"
    since_ns: int = 0
    until_ns: int = 0
    trips: int = 0
    passed: int = 0
    probes: set[tuple[str, int]] = attrs.Factory(set)


class Book:
    """
    Reads events in their order; `close` is called after the last.

    Args:
        questions: The questions, by the ids of their tasks.
        calls: The calls whose results are remembered, likewise.
        breakers: Breakers, by the names of workers with one capability.
        slots: The schedules.
        alerts: Alerts that hold starts back.
        pool: Whether a worker is one of the pool that scales, by its name.
        most: How many of them there may be that get work.
        signals: Jobs, each with the reward that it says itself.
        messages: What people were told of troubles, in order; None: nobody was.
    """

    def __init__(
        self,
        *,
        questions: Mapping[str, Question] | None = None,
        calls: Mapping[str, Called] | None = None,
        breakers: Mapping[str, Breaker] | None = None,
        slots: Sequence[Slots] = (),
        alerts: Mapping[str, HoldingAlert] | None = None,
        pool: Callable[[str], bool] = lambda _: False,
        most: int = 0,
        signals: Mapping[str, float | None] | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self._signals, self._messages = signals or {}, messages
        self._rewards: dict[tuple[str, str], float] = {}
        self._questions, self._calls = questions or {}, calls or {}
        self._alerts, self._slots, self._pool = alerts or {}, slots, pool
        self._terms, self._most = breakers or {}, most
        self.submitted: dict[str, TaskSubmitted] = {}
        self.ended: dict[str, Event] = {}
        self.running: dict[str, TaskStarted] = {}
        self.holds: dict[str, StartsHeld] = {}
        self.firing: dict[str, AlertRaised] = {}
        self.fired: dict[str, set[int]] = {slot.name: set() for slot in slots}
        self.skipped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._breakers = {name: _Breaker() for name in self._terms}
        #: Ends on workers with breakers: when, whether it failed, of which task.
        self._ends: dict[str, list[tuple[int, bool, str]]] = {}
        self._asked: dict[str, int] = {}
        self._votes: dict[str, list[tuple[str, str]]] = {}
        #: What is to follow at once, and from what: by task, or who holds starts.
        self._owed: dict[str, tuple[str, Event]] = {}
        self._remembered: dict[str, tuple[str, int]] = {}
        self._keys: dict[str, str] = {}
        self._makers: dict[str, str] = {}
        self._results: dict[str, Any] = {}
        #: Workers of the pool that get work.
        self._members: set[str] = set()
        #: Since when there are slots of each schedule.
        self._begun_ns: dict[str, int] = {}
        #: When this incarnation began.
        self._began_ns = 0

    def take_in(self, event: Event) -> None:
        """
        Read the next event.

        Raises:
            Breach: Something that was promised is not so.
        """
        self.counts[type(event).__name__] += 1
        for debtor, (owed, by) in list(self._owed.items()):
            if event.at_ns > by.at_ns or isinstance(event, OrchestratorStarted):
                self._expect(
                    isinstance(event, OrchestratorStarted) and owed.startswith("hold"),
                    "owed",
                    f"{debtor} is {owed} after {by}, and is not by {event}",
                )
                del self._owed[debtor]
        for kind in type(event).__mro__:
            read = getattr(self, f"_{kind.__name__}", None)
            if read is not None:
                read(event)

    def _expect(self, held: object, law: str, text: str) -> None:
        if not held:
            raise Breach(law, text)

    # -- tasks: each ends once, and nothing follows --------------------------------

    def _TaskSubmitted(self, event: TaskSubmitted) -> None:
        self._expect(event.task_id not in self.submitted, "once", f"{event} again")
        self.submitted[event.task_id] = event

    def _TaskEvent(self, event: TaskEvent) -> None:
        name = event.task_id
        if isinstance(event, TaskStarted | TaskSuspended | TaskBlocked | _ENDS[0]):
            self._expect(name not in self.ended, "once", f"{name} has ended: {event}")
        if isinstance(event, _OVER) or (
            isinstance(event, TaskSuspended) and not event.held
        ):
            start = self.running.pop(name, None)
            if start is not None and start.agent_id in self._terms:
                self._end_of_attempt(start, event)
        if isinstance(event, _ENDS):
            self._expect(name not in self.ended, "once", f"{name} ends twice: {event}")
            self.ended[name] = event
            if isinstance(event, TaskCompleted):
                self._results[name] = event.result
            self._end_of_question(name, event)

    def _TaskStarted(self, event: TaskStarted) -> None:
        name, worker = event.task_id, event.agent_id
        self._expect(name not in self.running, "once", f"{name} runs twice: {event}")
        for hold in self.holds.values():
            many = len(self.running)
            free = hold.most and many < hold.most
            self._expect(free, "held", f"{many} run, and {event}, though {hold}")
        self._start_by_breaker(worker, event)
        self.running[name] = event

    # -- breakers: open for their time, and so many probes at once -----------------

    def _start_by_breaker(self, worker: str, event: TaskStarted) -> None:
        one = self._breakers.get(worker)
        if one is None:
            return
        self._expect(one.state != "open", "breaker", f"{worker} is shut out: {event}")
        if one.state == "half-open":
            probes = len(one.probes) + one.passed
            room = probes < self._terms[worker].probes
            self._expect(room, "breaker", f"{worker} has {probes} probes: {event}")
            one.probes.add((event.task_id, event.attempt))

    def _end_of_attempt(self, start: TaskStarted, event: TaskEvent) -> None:
        one, worker = self._breakers[start.agent_id], start.agent_id
        cause = getattr(event, "cause", "")
        failed = isinstance(event, TaskRetrying | TaskFailed | TaskBlocked) and (
            cause in ("error", "timeout", "asked")
        )
        if failed or isinstance(event, TaskCompleted):
            end = event.at_ns, failed, event.task_id
            self._ends.setdefault(worker, []).append(end)
        key = event.task_id, start.attempt
        if key in one.probes:
            one.probes.discard(key)
            one.passed += isinstance(event, TaskCompleted)

    def _AgentTripped(self, event: AgentTripped) -> None:
        one, terms = self._breakers[event.agent_id], self._terms[event.agent_id]
        self._expect(one.state != "open", "breaker", f"it is open: {event}")
        if one.state == "closed":
            since = max(event.at_ns - int(terms.within * _NS), one.since_ns)
            ends = self._ends.get(event.agent_id, ())
            failed = {task for at, bad, task in ends if bad and at >= since}
            enough = len(failed) >= terms.failures
            self._expect(enough, "breaker", f"{sorted(failed)} have failed: {event}")
        times = min(_LONGEST, 2**one.trips)
        until = event.at_ns + int(terms.open * _NS) * times
        self._expect(event.until_ns == until, "breaker", f"not {until}: {event}")
        self._turn(event.agent_id, "open", event)
        one.trips, one.until_ns = one.trips + 1, until

    def _AgentProbed(self, event: AgentProbed) -> None:
        one = self._breakers[event.agent_id]
        early = one.state != "open" or event.at_ns < one.until_ns
        self._expect(not early, "breaker", f"{one}: {event}")
        self._turn(event.agent_id, "half-open", event)

    def _AgentRestored(self, event: AgentRestored) -> None:
        one = self._breakers[event.agent_id]
        probes = self._terms[event.agent_id].probes
        well = one.state == "half-open" and one.passed >= probes
        self._expect(well, "breaker", f"{one}: {event}")
        self._turn(event.agent_id, "closed", event)
        one.trips = 0

    def _turn(self, worker: str, state: str, event: Event) -> None:
        one = self._breakers[worker]
        one.state, one.since_ns, one.passed = state, event.at_ns, 0
        one.probes.clear()

    # -- holds and alerts: what fires holds, and what is over lets go --------------

    def _StartsHeld(self, event: StartsHeld) -> None:
        ours = event.by in [alert.by for alert in self._alerts.values()]
        self._expect(not (ours and event.lasts), "held", f"an alert's lasts: {event}")
        self.holds[event.by] = event
        self._owed.pop(event.by, None)

    def _StartsReleased(self, event: StartsReleased) -> None:
        self._expect(event.by in self.holds, "held", f"nobody holds: {event}")
        hold = self.holds.pop(event.by)
        # Who lets go says nothing; a reason is that of a new incarnation.
        lost = hold.lasts and event.reason
        self._expect(not lost, "held", f"it is to outlast a life: {hold}, {event}")
        self._owed.pop(event.by, None)

    def _AlertRaised(self, event: AlertRaised) -> None:
        self._expect(event.name not in self.firing, "alerts", f"it fires: {event}")
        self.firing[event.name] = event
        alert = self._alerts.get(event.name)
        if alert is not None and alert.by not in self.holds:
            self._owed[alert.by] = "hold starts", event

    def _AlertCleared(self, event: AlertCleared) -> None:
        raised = self.firing.pop(event.name, None)
        self._expect(raised, "alerts", f"it does not fire: {event}")
        assert raised is not None
        seconds = (event.at_ns - raised.at_ns) / _NS
        right = abs(event.seconds - seconds) < 0.01
        self._expect(right, "alerts", f"it has fired for {seconds} s: {event}")
        alert = self._alerts.get(event.name)
        if alert is None:
            return
        long_enough = event.seconds >= alert.seconds
        self._expect(long_enough, "alerts", f"it is to fire {alert.seconds} s: {event}")
        if alert.by in self.holds:
            self._owed[alert.by] = "hold no starts", event

    def _OrchestratorStarted(self, event: OrchestratorStarted) -> None:
        # Alerts are found again; what does not last is let go of, in this step.
        self._began_ns = event.at_ns
        self.firing.clear()
        for by, hold in self.holds.items():
            if not hold.lasts:
                self._owed[by] = "let go of starts", event

    # -- schedules: each slot is made once or skipped, and none early --------------

    def _ScheduleChanged(self, event: ScheduleChanged) -> None:
        # What was added and not kept was never added.
        self._begun_ns.setdefault(event.name, event.done_ns)

    def _ScheduleFired(self, event: ScheduleFired) -> None:
        if event.by != "clock" or event.name not in self.fired:
            return
        slots = self.fired[event.name]
        self._expect(event.slot_ns not in slots, "slots", f"it was made: {event}")
        early = event.slot_ns - event.at_ns > _GRAIN
        self._expect(not early, "slots", f"too early: {event}")
        slots.add(event.slot_ns)

    def _ScheduleSkipped(self, event: ScheduleSkipped) -> None:
        self._expect(event.reason, "slots", f"nobody says why: {event}")
        slots = self.fired.get(event.name, set())
        self._expect(event.slot_ns not in slots, "slots", f"it was made: {event}")
        self.skipped[event.name] += event.slots
        keeps = any(each.name == event.name and each.keeps for each in self._slots)
        right = not keeps or event.reason.startswith("it was paused")
        self._expect(right, "slots", f"none of it is passed over: {event}")

    # -- questions: an answer counts once, and for what was asked ------------------

    def _TaskBlocked(self, event: TaskBlocked) -> None:
        if event.cause == "event":
            self._asked[event.task_id] = event.at_ns

    def _QuestionAnswered(self, event: QuestionAnswered) -> None:
        name = event.task_id
        question = self._questions.get(stem_of(name))
        if question is None:
            return
        votes = self._votes.setdefault(name, [])
        open_now = name in self._asked and name not in self.ended
        self._expect(open_now, "answers", f"nobody is asked: {event}")
        may = question.who is None or event.by in question.who
        may = may and event.by not in question.not_by
        self._expect(may, "answers", f"{event.by} may not: {event}")
        again = event.by in dict(votes)
        self._expect(not again, "answers", f"{event.by} has answered: {event}")
        votes.append((event.by, event.choice))
        many = Counter(choice for _, choice in votes)
        if event.choice in question.no:
            self._owed[name] = "to fail", event
        elif many[event.choice] >= question.quorum:
            self._owed[name] = "to complete", event
        elif question.who is not None:
            # As long as somebody is left to say no, that may be.
            others = set(question.who) - set(question.not_by) - dict(votes).keys()
            if not others:
                self._owed[name] = "to fail", event

    def _end_of_question(self, name: str, event: TaskEvent) -> None:
        owed, by = self._owed.pop(name, ("", None))
        question = self._questions.get(stem_of(name))
        if owed == "to fail":
            self._expect(isinstance(event, TaskFailed), "answers", f"{by}: {event}")
        elif owed == "to complete":
            right = isinstance(event, TaskCompleted)
            self._expect(right, "answers", f"{by}: {event}")
            answer, choice = self._results[name], getattr(by, "choice", "")
            voters = tuple(who for who, vote in self._votes[name] if vote == choice)
            right = (answer.choice, answer.by) == (choice, voters)
            self._expect(right, "answers", f"{answer} is not {choice} by {voters}")
        elif question is not None and isinstance(event, TaskCompleted | TaskFailed):
            # Nobody has decided it by an answer: its time was over.
            due = self._asked.get(name, 0) + int((question.timeout or 0) * _NS)
            over = question.timeout is not None and event.at_ns >= due
            self._expect(over, "answers", f"nobody has decided it: {event}")

    # -- results: only of an equal call, and not too old ---------------------------

    def _ResultRemembered(self, event: ResultRemembered) -> None:
        self._remembered[event.key] = event.task_id, event.at_ns
        self._makers[event.task_id] = event.task_id
        self._key(event.task_id, event.key)

    def _key(self, name: str, key: str) -> None:
        call = self._calls.get(stem_of(name))
        if call is not None:
            same = self._keys.setdefault(key, call.document)
            self._expect(same == call.document, "memo", f"{same}, {call}: one key")

    def _ResultReused(self, event: ResultReused) -> None:
        name, source = event.task_id, event.source_id
        self._key(name, event.key)
        latest, at_ns = self._remembered.get(event.key, ("", 0))
        self._expect(latest == source, "memo", f"{latest!r} has it: {event}")
        end = self.ended.get(source)
        well = isinstance(end, TaskCompleted)
        self._expect(well, "memo", f"its source has not completed: {event}")
        mine = stem_of(name)
        self._expect(stem_of(source) != mine, "memo", f"its own: {event}")
        expires = None if mine not in self._calls else self._calls[mine].expires
        age = (event.at_ns - at_ns) / _NS
        good = expires is None or age < expires
        self._expect(good, "memo", f"it is {age} s old: {event}")
        self._makers[name] = source

    def _ResultsForgotten(self, event: ResultsForgotten) -> None:
        for key in event.keys:
            self._remembered.pop(key, None)

    # -- the pool: whom it lets go has nothing to do -------------------------------

    def _AgentJoined(self, event: AgentJoined) -> None:
        name = event.agent.name
        if name in self._breakers:
            self._breakers[name].probes.clear()
        if self._pool(name):
            self._members.add(name)
            many = len(self._members)
            self._expect(many <= self._most, "pool", f"{many} get work: {event}")

    def _AgentDraining(self, event: AgentDraining) -> None:
        name = event.agent_id
        if name not in self._members or not event.draining:
            return
        self._members.discard(name)
        busy = Counter(start.agent_id for start in self.running.values())
        idler = [other for other in self._members if busy[other] < busy[name]]
        self._expect(not idler, "pool", f"{idler} have less to do: {event}")

    def _AgentLost(self, event: AgentLost) -> None:
        name = event.agent_id
        self._members.discard(name)
        # That workers are away as an incarnation begins is nobody's doing.
        if self._pool(name) and event.at_ns > self._began_ns:
            tasks = [
                task for task, start in self.running.items() if start.agent_id == name
            ]
            self._expect(not tasks, "pool", f"{tasks} run there: {event}")

    # -- jobs: run again once, and rewarded once -----------------------------------

    def _TaskRewarded(self, event: TaskRewarded) -> None:
        key = stem_of(event.task_id), event.source
        self._expect(key not in self._rewards, "rewards", f"once more: {event}")
        self._rewards[key] = event.value

    def _check_job(self, job_id: str, signal: float | None) -> None:
        run_id = f"job-{job_id}"
        ours = [n for n in self.submitted if run_of(n) == run_id]
        units = [n for n in ours if not has_number(n)]
        failed_again = False
        for unit in units:
            again = [n for n in ours if stem_of(n) == unit != n]
            failed = isinstance(self.ended[unit], TaskFailed)
            right = again == ([next_id(unit)] if failed else [])
            self._expect(right, "jobs", f"{unit} failed: {failed}; again: {again}")
            failed_again |= any(isinstance(self.ended[n], TaskFailed) for n in again)
        done = all(
            isinstance(self.ended.get(next_id(unit), self.ended[unit]), TaskCompleted)
            for unit in units
        )
        expected = {"failure": -1.0} if failed_again else {}
        if done and signal is not None:
            expected["job_payload.reward_signal"] = signal
        for unit in units:
            rewards = {s: v for (n, s), v in self._rewards.items() if n == unit}
            self._expect(rewards == expected, "rewards", f"{unit} has {rewards}")

    # -- what people are told: each trouble, and once ------------------------------

    def _check_told(self) -> None:
        assert self._messages is not None
        messages: dict[tuple[str, Any], tuple[str, str, str]] = {}
        causes: set[tuple[str, str, str]] = set()
        for message in self._messages:
            kind, whose = message["message_type"], message.get("schedule") or ""
            if kind == "recovered":
                whose = whose or without_last(message["task_id"])
                messages = {
                    key: number for key, number in messages.items() if key[0] != whose
                }
            if kind != "failure":
                continue
            end = self.ended[message["task_id"]]
            self._expect(isinstance(end, TaskFailed), "told", f"it is well: {message}")
            whose = whose or message["run"]
            key = whose, _cause(end)
            causes.add((whose, *_cause(end)))
            number = kind, message["id"], message["timestamp"]
            before = messages.setdefault(key, number)
            self._expect(before == number, "told", f"{before}, and then {number}")
        latest = {stem_of(name): end for name, end in self.ended.items()}
        for stem, end in latest.items():
            if not isinstance(end, TaskFailed) or end.cause in _KNOWN:
                continue
            whose = run_of(stem)
            if whose not in self.fired:
                whose = run_by(stem, self.submitted[end.task_id].run)
            elif self._is_well_since(whose, stem, latest):
                continue
            was_told = (whose, *_cause(end)) in causes
            self._expect(was_told, "told", f"nobody was told: {end}")

    @staticmethod
    def _is_well_since(schedule: str, stem: str, latest: Mapping[str, Event]) -> bool:
        """Whether what a later tick has made has completed."""
        return any(
            isinstance(end, TaskCompleted)
            and name.removesuffix("Z") > stem.removesuffix("Z")
            for name, end in latest.items()
            if run_of(name) == schedule
        )

    # -- the end -------------------------------------------------------------------

    def close(self) -> None:
        """
        The last event was read.

        Raises:
            Breach: Something that was promised is not so.
        """
        self._expect(not self._owed, "owed", f"it never came: {self._owed}")
        self._expect(not self.running, "once", f"{list(self.running)} run for ever")
        open_ones = sorted(self.submitted.keys() - self.ended.keys())
        self._expect(not open_ones, "once", f"{open_ones} have no end")
        for schedule in self._slots:
            fired, skipped = len(self.fired[schedule.name]), self.skipped[schedule.name]
            text = f"{schedule} has {fired} that were made and {skipped} skipped"
            count = schedule.after(self._begun_ns.get(schedule.name, 0) / _NS)
            self._expect(fired + skipped == count, "slots", f"{text}, of {count}")
        for job_id, signal in self._signals.items():
            self._check_job(job_id, signal)
        if self._messages is not None:
            self._check_told()
        for name, call in self._calls.items():
            for task in (each for each in self._results if stem_of(each) == name):
                self._check_result(task, call)

    def _check_result(self, task: str, call: Called) -> None:
        end, result = self.ended[task], self._results[task]
        if getattr(end, "cause", "") == "decision":
            return
        maker = self._makers.get(task, task)
        right = repr(result[:-1]) == repr((call.function, *call.args))
        self._expect(right, "memo", f"{task}, of {call}, has {result}")
        # What a source has may itself be another's.
        first = result if maker == task else self._results[maker]
        self._expect(
            result[-1] == (task if maker == task else first[-1]),
            "memo",
            f"{task} has {result}, and {maker} was to make it",
        )
