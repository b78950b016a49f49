"""
The past for history rules: folds over events, with windows.

An event is taken in once, and a question costs the same however long the history is.
For each set of equal values in `same`, a rule keeps the latest event that it looks for,
or the events within its window.

Decisions: policies-as-data, retention.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import attrs

from taskorch.events import (
    Event,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
)
from taskorch.ext.governance._operators import NOWHERE, UnfitError, fenced, getter
from taskorch.ext.governance._policies import (
    HistoryRule,
    Operation,
    Past,
    operation_of,
    steps_of,
)
from taskorch.kit.checks import check_seconds
from taskorch.kit.plain import plain, read_plain
from taskorch.kit.words import some, stamp

#: The events by their classes.
_EVENTS: Final[Mapping[type[Event], str]] = {
    TaskSubmitted: "submitted",
    TaskStarted: "started",
    TaskCompleted: "completed",
    TaskFailed: "failed",
    TaskCancelled: "cancelled",
}
#: Events after which an attempt no longer runs.
_ENDS: Final = (
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskSuspended,
)
#: The events that history rules need.
HEARD: Final[frozenset[type[Event]]] = frozenset({*_EVENTS, *_ENDS})
#: The moments that are events themselves.
_AS_EVENTS: Final = {"submit": "submitted", "start": "started"}
_NS: Final = 1_000_000_000
#: The key for values that cannot be read; no other key is this text.
_UNREADABLE: Final = "?"
#: A snapshot takes at most so many events and keys of a rule.
_MOST_STATE: Final = 10_000
#: Beyond so many keys, outdated ones are dropped now and then.
_MANY: Final = 1_000

#: Functions that find, for an event and its cargo, the type of the task; and its
#: operation, or None if it is no longer known.
FindType: TypeAlias = Callable[[Any, Any], str]
Find: TypeAlias = Callable[[Any, Any], Operation | None]


class HistoryAnswer(NamedTuple):
    """
    The answer of a history rule.

    Attributes:
        holds: Whether it holds.
        event: The number of the event that decides; None: there is none.
        detail: The events that were found, in words.
        opens_ns: The time at which it holds without new events; None: never.
        problem: Why there is no answer; "": there is one.
    """

    holds: bool
    event: int | None = None
    detail: str = ""
    opens_ns: int | None = None
    problem: str = ""


class _KeptEvents:
    """The events that one rule keeps under one key."""

    __slots__ = ("at_ns", "breach", "long", "recent", "running", "seq", "total")

    def __init__(self) -> None:
        #: The latest wanted event: its time and its number.
        self.at_ns: int = 0
        self.seq: int = 0
        #: The number of the first forbidden event since; 0: there is none.
        self.breach: int = 0
        #: The number of events, where all count.
        self.total: int = 0
        #: The latest events within the window: time, number, task. One more than
        #: allowed is enough to know that there are too many.
        self.recent: deque[tuple[int, int, str]] = deque()
        #: The running attempts: the number of the event of their start, by task.
        self.running: dict[str, int] = {}
        #: The running attempts that are not among the latest events.
        self.long: dict[str, int] = {}

    def state(self) -> list[Any]:
        """Return all of it as JSON has it."""
        recent, running, long = [*self.recent], self.running, self.long
        return [self.at_ns, self.seq, self.breach, self.total, recent, running, long]

    @classmethod
    def of(cls, state: list[Any]) -> _KeptEvents:
        """Make a copy from the result of `state`."""
        kept = cls()
        kept.at_ns, kept.seq, kept.breach, kept.total, recent, running, long = state
        kept.recent = deque((at, seq, task_id) for at, seq, task_id in recent)
        kept.running, kept.long = dict(running), dict(long)
        return kept


class _Rule:
    """One history rule with its kept events."""

    def __init__(self, rule: HistoryRule) -> None:
        self.rule = rule
        self._keys = [getter(steps_of(path)) for path in rule.same]
        self._within = None if rule.within is None else int(rule.within * _NS)
        self._kept: dict[str, _KeptEvents] = {}
        self._counts_running = rule.count is not None and rule.past.event == "started"
        #: The key under which an attempt of a task counts as running.
        self._running: dict[str, str] = {}
        self._most = _MANY
        #: The time up to which events may have left the journal uncounted; 0: none has.
        self.missing_ns: int = 0

    def state(self) -> dict[str, Any] | None:
        """Return what it keeps, as JSON has it; None: it is too much for a snapshot."""
        if sum(len(kept.recent) + 1 for kept in self._kept.values()) > _MOST_STATE:
            return None
        kept_events = {key: kept.state() for key, kept in self._kept.items()}
        running = self._running
        return {"missing": self.missing_ns, "kept": kept_events, "running": running}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state`."""
        self.missing_ns = state["missing"]
        self._kept = {key: _KeptEvents.of(kept) for key, kept in state["kept"].items()}
        self._running = dict(state["running"])

    def key(self, operation: Operation) -> str:
        """Return the values of *operation* in the paths of `same`, as a key."""
        if not self._keys:
            return ""
        try:
            return fenced(self._read_key, operation)
        except UnfitError:
            return _UNREADABLE

    def _read_key(self, operation: Operation) -> str:
        values = [get(operation) for get in self._keys]
        texts = [[] if value is NOWHERE else [read_plain(value)] for value in values]
        return json.dumps(texts, sort_keys=True)

    # -- events ------------------------------------------------------------------------

    def hear(self, event: str, happened: Any, operation: Operation) -> None:
        """Take in *happened*, an *event* of the task that *operation* is."""
        rule = self.rule
        if rule.no is not None and _is_of(rule.no, event, operation):
            kept = self._kept.get(self.key(operation))
            if kept is not None and not kept.breach:
                kept.breach = happened.seq
        if not _is_of(rule.past, event, operation):
            return
        key = self.key(operation)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _KeptEvents()
        kept.at_ns, kept.seq, kept.breach = happened.at_ns, happened.seq, 0
        if rule.count is not None:
            kept.total += 1
            if self._within is not None:
                self._count_in(kept, key, happened)
        if len(self._kept) > self._most:
            self._forget(happened.at_ns)

    def _count_in(self, kept: _KeptEvents, key: str, event: Any) -> None:
        kept.recent.append((event.at_ns, event.seq, event.task_id))
        if self._counts_running:
            self.ended(event.task_id)
            kept.running[event.task_id] = event.seq
            self._running[event.task_id] = key
        if len(kept.recent) > (self.rule.at_most or 0) + 1:
            _let_go(kept)
        self._age(kept, event.at_ns)

    def ended(self, task_id: str) -> bool:
        """Note that an attempt has ended; return whether it was counted."""
        key = self._running.pop(task_id, None)
        kept = None if key is None else self._kept.get(key)
        if kept is not None:
            kept.running.pop(task_id, None)
            kept.long.pop(task_id, None)
        return key is not None

    def _age(self, kept: _KeptEvents, now: int) -> None:
        """Drop the events that are older than the window."""
        if self._within is None:
            return
        since = now - self._within
        while kept.recent and kept.recent[0][0] < since:
            _let_go(kept)

    def _forget(self, now: int) -> None:
        """Drop the keys without events that count."""
        if self._within is not None:
            since = now - self._within
            for key, kept in list(self._kept.items()):
                self._age(kept, now)
                if kept.at_ns < since and not (kept.recent or kept.long):
                    del self._kept[key]
        self._most = max(_MANY, 2 * len(self._kept))

    # -- questions ---------------------------------------------------------------------

    def ask(self, operation: Operation, now: int) -> HistoryAnswer:
        """
        Return what the rule says of *operation* at *now*; nothing changes.

        Raises:
            UnfitError: A value that must be the same cannot be read.
        """
        key = self.key(operation)
        if key == _UNREADABLE:
            msg = f"{some(self.rule.same)} cannot be read"
            raise UnfitError(msg)
        kept = self._kept.get(key)
        answer = self._answer(kept, operation, now)
        since = -1 if self._within is None else now - self._within
        is_known = not self.missing_ns or since >= self.missing_ns
        if is_known or self._is_certain(answer, kept):
            return answer
        at = stamp(self.missing_ns / _NS, "seconds")
        problem = f"events up to {at} have left the journal, and nobody counted them"
        return answer._replace(holds=False, problem=problem)

    def _is_certain(self, answer: HistoryAnswer, kept: _KeptEvents | None) -> bool:
        """Return whether missing events cannot change *answer*."""
        form = self.rule.form
        if form == "since":
            return answer.holds and kept is not None and kept.at_ns > self.missing_ns
        return answer.holds == (form == "formerly")

    def _answer(
        self, kept: _KeptEvents | None, operation: Operation, now: int
    ) -> HistoryAnswer:
        if self.rule.count is not None:
            return self._count(kept, operation, now)
        is_there = kept is not None and not self._is_old(kept.at_ns, now)
        past = words_of(self.rule.past)
        form = self.rule.form
        if kept is None or not is_there:
            holds = form == "never_after"
            return HistoryAnswer(holds, None, f"there was no {past}")
        if form == "never_after":
            opens = None if self._within is None else kept.at_ns + self._within + 1
            return HistoryAnswer(False, kept.seq, f"there was {past}", opens)  # noqa: FBT003
        if kept.breach:
            assert self.rule.no is not None  # noqa: S101 - `since` has it
            detail = f"after {past} came {words_of(self.rule.no)}"
            return HistoryAnswer(False, kept.breach, detail)  # noqa: FBT003
        return HistoryAnswer(True, kept.seq, f"there was {past}")  # noqa: FBT003

    def _count(
        self, kept: _KeptEvents | None, operation: Operation, now: int
    ) -> HistoryAnswer:
        rule = self.rule
        most = rule.at_most or 0
        before, oldest = self._counted(kept, now)
        number = before + self._is_one(operation)
        last = kept.seq if kept is not None and before else None
        over, opens = number - most, None
        if self._within is not None and kept is not None and over > 0:
            # So many events must leave the window before one more is allowed.
            place = oldest + over - 1
            if place < len(kept.recent):
                opens = kept.recent[place][0] + self._within + 1
        detail = f"{number} of at most {most} {words_of(rule.past)}"
        return HistoryAnswer(number <= most, last, detail, opens)

    def _is_one(self, operation: Operation) -> bool:
        """Return whether *operation* is such an event itself."""
        event = _AS_EVENTS.get(operation.moment, "")
        return _is_of(self.rule.past, event, operation)

    def _counted(self, kept: _KeptEvents | None, now: int) -> tuple[int, int]:
        """Return how many there were, and the place of the oldest in the window."""
        if kept is None:
            return 0, 0
        if self._within is None:
            return kept.total, 0
        # Each event drops the ones that are too old, so that there are few here.
        oldest, since = 0, now - self._within
        still_running = len(kept.long)
        for at, seq, task_id in kept.recent:
            if at >= since:
                break
            oldest += 1
            still_running += kept.running.get(task_id) == seq
        return len(kept.recent) - oldest + still_running, oldest

    def room(self, operation: Operation, now: int) -> int | None:
        """Return how many operations like this one may follow now; None: any number."""
        if self.rule.count is None or not self._is_one(operation):
            return None
        before, _ = self._counted(self._kept.get(self.key(operation)), now)
        return (self.rule.at_most or 0) - before

    def _is_old(self, at_ns: int, now: int) -> bool:
        return self._within is not None and at_ns < now - self._within


def _let_go(kept: _KeptEvents) -> None:
    """Drop the oldest of the latest events; running attempts still count."""
    _, seq, task_id = kept.recent.popleft()
    if kept.running.get(task_id) == seq:
        kept.long[task_id] = seq


def _is_of(past: Past, event: str, operation: Operation) -> bool:
    return (
        past.event == event
        and (past.type == "*" or fnmatchcase(operation.type, past.type))
        and (past.id == "*" or fnmatchcase(operation.id, past.id))
    )


def words_of(past: Past) -> str:
    """Return the wanted event in words: `started deploy`."""
    text = f"{past.event} {past.type}"
    return text if past.id == "*" else f"{text} ({past.id})"


def _definition(name: tuple[str, str], rule: HistoryRule) -> str:
    """Return a text that is different for each rule."""
    return json.dumps([name, plain(attrs.asdict(rule))], sort_keys=True)


class Memory:
    """
    The kept events of all history rules of a set of policies.

    Args:
        rules: The rules, by the ids of their policies and their own.

    Attributes:
        heard: The events that it takes in.
    """

    heard: ClassVar[frozenset[type[Event]]] = HEARD

    def __init__(
        self,
        rules: Mapping[tuple[str, str], HistoryRule],
        before: Memory | None = None,
    ) -> None:
        others = {} if before is None else before.rules
        #: The rules with their kept events.
        self.rules: dict[tuple[str, str], _Rule] = {}
        #: The new rules, which have no event from before now.
        self.new: list[tuple[str, str]] = []
        for name, rule in rules.items():
            earlier = others.get(name)
            if earlier is not None and earlier.rule == rule:
                self.rules[name] = earlier
            else:
                self.rules[name] = _Rule(rule)
                self.new.append(name)
        self.latest_ns: int = 0 if before is None else before.latest_ns
        #: The rules that look for an event of tasks of a type.
        self._looking: dict[tuple[str, str], tuple[_Rule, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.rules)

    def state(self) -> list[Any]:
        """Return what the rules keep, as JSON has it, each with its definition."""
        states = [(rule, rule.state()) for rule in self.rules.values()]
        return [
            [_definition(name, rule.rule), state]
            for name, (rule, state) in zip(self.rules, states, strict=True)
            if state is not None and name not in self.new
        ]

    def restore(self, states: Iterable[Any]) -> list[tuple[str, str]]:
        """Give new rules the result of `state`; return the names of these rules."""
        by_definition = dict(states)
        restored = []
        for name in self.new:
            rule = self.rules[name]
            state = by_definition.get(_definition(name, rule.rule))
            if state is not None:
                rule.restore(state)
                restored.append(name)
        return restored

    def missed(self, until_ns: int) -> None:
        """Note that events up to a time in ns have left the journal uncounted."""
        for name in self.new:
            self.rules[name].missing_ns = until_ns

    @property
    def within_ns(self) -> int | None:
        """The longest window of the new rules, in ns; None: one has none."""
        windows = [self.rules[name].rule.within for name in self.new]
        if not windows or None in windows:
            return None
        return int(max(filter(None, windows)) * _NS)

    def hear(
        self,
        items: Iterable[tuple[Any, Any]],
        type_of: FindType,
        find: Find,
        *,
        only_new: bool = False,
    ) -> bool:
        """
        Take in events, in their order; return whether a rule has looked for one.

        Args:
            items: Events, each with its cargo.
            type_of: Finds the type of the task.
            find: Finds the operation for the task.
            only_new: Whether only the new rules take them in.
        """
        rules = [self.rules[name] for name in self.new] if only_new else None
        was_looked_for = False
        for happened, cargo in items if self.rules else ():
            cls = type(happened)
            if cls not in self.heard:
                continue
            self.latest_ns = max(self.latest_ns, happened.at_ns)
            # A task that starts again has ended before, whatever its state is now.
            if cls in _ENDS or cls is TaskStarted:
                ended = [
                    rule.ended(happened.task_id)
                    for rule in rules or self.rules.values()
                ]
                was_looked_for |= any(ended)
            event = _EVENTS.get(cls)
            if event is None:
                continue
            looking = [
                rule
                for rule in self._looking_for(event, type_of(happened, cargo))
                if rules is None or rule in rules
            ]
            operation = find(happened, cargo) if looking else None
            if operation is not None:
                was_looked_for = True
                for rule in looking:
                    rule.hear(event, happened, operation)
        return was_looked_for

    def ended(self, task_id: str) -> None:
        """Note that the attempt of a task has ended."""
        for rule in self.rules.values():
            rule.ended(task_id)

    def _looking_for(self, event: str, task_type: str) -> tuple[_Rule, ...]:
        key = event, task_type
        looking = self._looking.get(key)
        if looking is None:
            if len(self._looking) > _MANY:
                self._looking = {}
            looking = tuple(
                rule
                for rule in self.rules.values()
                if any(
                    past is not None
                    and past.event == event
                    and (past.type == "*" or fnmatchcase(task_type, past.type))
                    for past in (rule.rule.past, rule.rule.no)
                )
            )
            self._looking[key] = looking
        return looking

    def room(
        self, names: Iterable[tuple[str, str]], operation: Operation, now: int
    ) -> dict[tuple[str, str, str], int]:
        """
        Return how many operations like this one may follow now, by rule and key.

        Args:
            names: The rules that were asked; not all are history rules.
            operation: The operation.
            now: The time in ns.
        """
        rooms: dict[tuple[str, str, str], int] = {}
        for name in names:
            rule = self.rules.get(name)
            room = None
            if rule is not None:
                room = rule.room(operation, max(self.latest_ns, now))
            if rule is not None and room is not None:
                rooms[*name, rule.key(operation)] = room
        return rooms

    def group(
        self, names: Iterable[tuple[str, str]], operation: Operation
    ) -> tuple[tuple[str, str, str], ...]:
        """Return a key for operations that wait for the same events."""
        return tuple(
            (*name, self.rules[name].key(operation))
            for name in names
            if name in self.rules
        )

    def ask(
        self, name: tuple[str, str], operation: Operation, now: int
    ) -> HistoryAnswer:
        """
        Return the answer of the rule *name* on *operation* at *now*, in ns.

        Raises:
            UnfitError: A value that must be the same cannot be read.
        """
        # A clock that was set back brings no event back into a window.
        return self.rules[name].ask(operation, max(self.latest_ns, now))


def event_of(
    document: Mapping[str, Any], now_ns: int, seq: int
) -> tuple[Any, Operation]:
    """
    Read an event from *document*, and the operation for its task.

    Args:
        document: The fields of the operation, `event`, and `ago`, in seconds.
        now_ns: The present time in ns.
        seq: The number that the event gets.

    Raises:
        InvalidTaskError: It is not well formed.
    """
    fields = dict(document)
    event, ago = fields.pop("event", None), fields.pop("ago", 0)
    Past(event)
    at_ns = now_ns - int(check_seconds("ago", ago) * _NS)
    operation = operation_of(fields)
    # The events of a case are of different tasks unless it names them.
    task_id = operation.id or f"case-{seq}"
    events: dict[str, Any] = {
        "submitted": (TaskSubmitted, (operation.type, operation.priority)),
        "started": (TaskStarted, (1, operation.worker)),
        "completed": (TaskCompleted, (1, operation.worker, 0)),
        "failed": (TaskFailed, (1, None, "", "", "")),
        "cancelled": (TaskCancelled, ("",)),
    }
    cls, more = events[event]
    return cls(seq, at_ns, task_id, *more), operation
